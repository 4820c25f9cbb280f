"""Drawing and augmenting batches: shares, reproducibility, and masks that follow their image."""

import numpy as np
import pytest

from model.config import AugmentationConfig, NetworkConfig, TrainingConfig
from model.data.dataset import Sample, Split
from model.errors import DatasetError
from model.training.augmentation import augment
from model.training.pipeline import (
    draw_epoch,
    epoch_steps,
    make_batch,
    require_shares,
    training_batches,
)

NONE = AugmentationConfig(0, 0, 0, 0, 0, 0, 0, 0, 0)


def _samples():
    generator = np.random.default_rng(0)
    kinds = [("covid-ct", True)] * 6 + [("covid-ct", False)] * 3
    kinds += [("luna-noncovid", False)] * 2 + [("covid-semiseg", True)]
    samples = []
    for number, (source, covid) in enumerate(kinds):
        image = generator.random((32, 32), np.float32)
        mask = image > 0.5 if source == "covid-semiseg" else None
        samples.append(Sample(str(number), source, Split.TRAIN, str(number), covid, image, mask))
    return samples


def _config(**changes):
    values = {"network": NetworkConfig(input_size=32, base_filters=2), "augmentation": NONE}
    return TrainingConfig(**values | changes)


def test_without_shares_every_sample_is_drawn_once():
    samples = _samples()
    batches = draw_epoch(samples, _config(), 0)
    assert len(batches) == epoch_steps(samples, _config()) == 3
    assert sorted(np.concatenate(batches)) == list(range(12))


def test_shares_are_kept_and_spread_over_the_epoch():
    config = _config(
        batch_size=8,
        steps_per_epoch=20,
        source_shares=(
            ("covid-ct/covid", 0.5),
            ("covid-ct/non-covid", 0.25),
            ("covid-semiseg/covid", 0.25),
        ),
    )
    batches = draw_epoch(_samples(), config, 3)
    drawn = np.concatenate(batches)
    assert np.mean(drawn == 11) == pytest.approx(0.25)
    assert np.mean(drawn < 6) == pytest.approx(0.5)
    assert not np.isin(drawn, [9, 10]).any()
    assert all((batch == 11).any() for batch in batches)


def test_an_epoch_is_drawn_again_but_epochs_differ():
    samples, config = _samples(), _config()
    np.testing.assert_array_equal(draw_epoch(samples, config, 1), draw_epoch(samples, config, 1))
    assert not np.array_equal(draw_epoch(samples, config, 1), draw_epoch(samples, config, 2))


def test_a_share_without_samples_is_named():
    config = _config(source_shares=(("tcga-luad-slices/non-covid", 1.0),))
    with pytest.raises(DatasetError, match="tcga-luad-slices/non-covid"):
        draw_epoch(_samples(), config, 0)


def test_a_group_without_a_share_is_named_unless_it_is_left_out_on_purpose():
    shares = (("covid-ct/covid", 0.5), ("covid-ct/non-covid", 0.5), ("covid-semiseg/covid", 0.1))
    with pytest.raises(DatasetError, match=r"no share for luna-noncovid/non-covid \(2 samples\)"):
        require_shares(_samples(), _config(source_shares=shares))
    config = _config(source_shares=(*shares, ("luna-noncovid/non-covid", 0.0)))
    require_shares(_samples(), config)
    assert not np.isin(np.concatenate(draw_epoch(_samples(), config, 0)), [9, 10]).any()
    require_shares(_samples(), _config())


def test_only_chosen_sources_count_as_empty_masks():
    samples = _samples()
    chosen = [samples[0], samples[7], samples[9], samples[11]]
    _, masks, has_mask, covid, has_class = make_batch(
        chosen, _config(empty_mask_sources=("luna-noncovid",))
    )
    assert has_mask.tolist() == [0, 0, 1, 1]
    assert masks[2].sum() == 0 < masks[3].sum()
    assert covid.tolist() == [1, 0, 0, 1]
    assert has_class.tolist() == [1, 1, 1, 1]


def test_batches_come_through_tensorflow_unchanged_in_number_and_shape():
    batches = list(training_batches(_samples(), _config(), 0))
    assert len(batches) == 3
    assert [part.shape for part in batches[0]] == [(4, 32, 32, 1)] * 2 + [(4,)] * 3


def test_no_strength_leaves_the_image_alone():
    image = np.random.default_rng(0).random((32, 32), np.float32)
    changed, mask = augment(image, image > 0.5, NONE, np.random.default_rng(1))
    np.testing.assert_allclose(changed, image, atol=1e-5)
    np.testing.assert_array_equal(mask, image > 0.5)


def test_the_mask_follows_its_image():
    image = np.zeros((64, 64), np.float32)
    image[20:40, 10:30] = 1
    strong = AugmentationConfig(window=0, gamma=0, blur_sigma=0, noise=0, rotation_degrees=40)
    for seed in range(20):
        changed, mask = augment(image, image > 0.5, strong, np.random.default_rng(seed))
        np.testing.assert_array_equal(mask, changed >= 0.5)


def test_augmented_images_stay_between_0_and_1_and_repeat_with_their_seed():
    image = np.random.default_rng(0).random((64, 64), np.float32)
    for seed in range(20):
        first, _ = augment(image, None, AugmentationConfig(), np.random.default_rng(seed))
        again, _ = augment(image, None, AugmentationConfig(), np.random.default_rng(seed))
        assert first.min() >= 0
        assert first.max() <= 1
        np.testing.assert_array_equal(first, again)
