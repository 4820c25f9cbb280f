"""Pasted lesions: inside the lung, brighter than it was, drawn where they are, and reproducible."""

from dataclasses import replace

import numpy as np
import pytest

from model.config import AugmentationConfig, NetworkConfig, TrainingConfig
from model.data.dataset import Sample
from model.data.manifest import Split
from model.training.lesion_pasting import paste_lesions
from model.training.pipeline import make_batch, training_batches

SIZE = 128


def _chest(lesion=None):
    """Two dark lungs in a grey body, with a lesion of middle grey if asked for."""
    rows, columns = np.mgrid[:SIZE, :SIZE]
    image = np.full((SIZE, SIZE), 0.75, np.float32)
    for centre in (40, 88):
        image[(rows - 64) ** 2 / 40**2 + (columns - centre) ** 2 / 18**2 < 1] = 0.08
    if lesion is not None:
        image[lesion] = 0.5
    return image


@pytest.fixture
def donor():
    mask = np.zeros((SIZE, SIZE), np.bool_)
    mask[70:90, 30:46] = True
    return Sample("d.png", "drawn", Split.TRAIN, "d", covid=True, image=_chest(mask), mask=mask)


def test_lesions_lie_in_the_lung_where_the_mask_says(donor):
    chest = _chest()
    lung = chest < 0.3
    for seed in range(8):
        pasted = paste_lesions(chest, [donor], np.random.default_rng(seed))
        if pasted is None:
            continue
        image, mask = pasted
        assert mask.any()
        assert lung[mask].all()
        assert (image[mask] > chest[mask] + 0.05).mean() > 0.8
        assert np.array_equal(image[~lung], chest[~lung])
        changed = image > chest + 0.15
        assert (changed & ~mask).sum() < 0.3 * mask.sum()
        assert image.min() >= 0
        assert image.max() <= 1


def test_the_same_state_gives_the_same_image(donor):
    first, second = (paste_lesions(_chest(), [donor], np.random.default_rng(3)) for _ in range(2))
    assert np.array_equal(first[0], second[0])
    assert np.array_equal(first[1], second[1])


def test_an_image_without_lung_takes_none(donor):
    flat = np.full((SIZE, SIZE), 0.6, np.float32)
    assert paste_lesions(flat, [donor], np.random.default_rng(0)) is None


def test_a_batch_turns_the_stated_share_of_negatives_positive(donor):
    healthy = [
        Sample(f"{i}.png", "plain", Split.TRAIN, str(i), covid=False, image=_chest())
        for i in range(60)
    ]
    config = TrainingConfig(paste_shares=(("plain", 0.5),))
    generators = [np.random.default_rng((1, number)) for number in range(60)]
    batch = make_batch(healthy, config, generators, [donor])
    _, mask, has_mask, covid, has_class = batch[:5]
    assert 0.3 < covid.mean() < 0.65
    assert np.array_equal(covid > 0, has_mask > 0)
    assert np.array_equal(covid > 0, mask.any(axis=(1, 2, 3)))
    assert has_class.all()
    untouched = make_batch(healthy, config, (), [donor])
    assert not untouched[3].any()


def _one_epoch(samples):
    config = TrainingConfig(
        network=NetworkConfig(input_size=SIZE),
        augmentation=AugmentationConfig(0, 0, 0, 0, 0, 0, 0, 0, 0),
        batch_size=4,
        steps_per_epoch=5,
        paste_shares=(("plain", 1.0),),
    )
    batches = [[part.numpy() for part in batch] for batch in training_batches(samples, config, 0)]
    return [np.concatenate(parts) for parts in zip(*batches, strict=True)]


@pytest.mark.parametrize(("covid", "gives"), [(True, True), (None, True), (False, False)])
def test_lesions_of_another_disease_are_pasted_nowhere(donor, covid, gives):
    """A tumour that a radiologist outlined, and called no COVID-19, must not become COVID-19."""
    healthy = Sample("h.png", "plain", Split.TRAIN, "h", covid=False, image=_chest())
    _, _, _, called, _ = _one_epoch([healthy, replace(donor, covid=covid)])
    assert called.sum() > (10 if covid else 0) if gives else not called.any()


def test_an_image_with_lesions_of_its_own_keeps_them(donor):
    """One with an empty mask takes lesions as one without a mask does."""
    tumour = replace(donor, path="t.png", source="plain", covid=False)
    empty = replace(tumour, image=_chest(), mask=np.zeros_like(tumour.mask))
    generators = [np.random.default_rng((1, number)) for number in range(20)]
    config = TrainingConfig(paste_shares=(("plain", 1.0),))
    _, mask, _, covid, _ = make_batch([tumour] * 20, config, generators, [donor])
    assert not covid.any()
    assert mask.any(axis=(1, 2, 3)).all()
    assert make_batch([empty] * 20, config, generators, [donor])[3].any()
