"""Pasted lesions: inside the lung, brighter than it was, drawn where they are, and reproducible."""

import numpy as np
import pytest

from model.config import TrainingConfig
from model.data.dataset import Sample
from model.data.manifest import Split
from model.training.lesion_pasting import paste_lesions
from model.training.pipeline import make_batch

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
