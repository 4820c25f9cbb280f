"""The three losses, and that a missing label costs nothing."""

import numpy as np
import pytest

from model.config import Task
from model.training.losses import (
    LossOptions,
    Targets,
    classification_loss,
    dice_loss,
    multitask_losses,
    reconstruction_loss,
)


def _targets(**changes):
    values = {
        "image": np.zeros((2, 4, 4, 1), np.float32),
        "mask": np.zeros((2, 4, 4, 1), np.float32),
        "has_mask": np.ones(2, np.float32),
        "covid": np.array([1, 0], np.float32),
        "has_class": np.ones(2, np.float32),
    }
    return Targets(**values | changes)


def test_reconstruction_is_the_mean_squared_error():
    output = np.full((2, 4, 4, 1), 0.5, np.float32)
    assert float(reconstruction_loss(_targets(), output)) == pytest.approx(0.25)


def test_dice_of_a_perfect_mask_is_one_and_of_a_half_right_one_known():
    mask = np.zeros((2, 4, 4, 1), np.float32)
    mask[0, :2] = 1
    targets = _targets(mask=mask)
    assert float(dice_loss(targets, mask, LossOptions())) == pytest.approx(-1.0)
    half = mask.copy()
    half[0, 0] = 0
    # 2 * 4 + 1 over 8 + 4 + 1
    assert float(dice_loss(targets, half, LossOptions())) == pytest.approx(-9 / 13)


def test_a_sample_without_mask_gives_no_segmentation_loss():
    mask = np.zeros((2, 4, 4, 1), np.float32)
    mask[0, :2] = 1
    targets = _targets(mask=mask, has_mask=np.array([1, 0], np.float32))
    output = mask.copy()
    output[1] = 1  # whatever is said of the second image
    assert float(dice_loss(targets, output, LossOptions())) == pytest.approx(-1.0)


def test_a_batch_without_masks_gives_no_segmentation_loss():
    targets = _targets(has_mask=np.zeros(2, np.float32))
    assert float(dice_loss(targets, np.ones((2, 4, 4, 1), np.float32), LossOptions())) == 0


def test_an_empty_mask_punishes_what_is_called_lesion():
    silent = np.full((2, 4, 4, 1), 0.01, np.float32)
    loud = np.full((2, 4, 4, 1), 0.9, np.float32)
    assert float(dice_loss(_targets(), silent)) < float(dice_loss(_targets(), loud))


def test_a_sample_without_class_gives_no_classification_loss():
    targets = _targets(has_class=np.array([1, 0], np.float32))
    output = np.array([[0.5], [0.999]], np.float32)
    assert float(classification_loss(targets, output)) == pytest.approx(np.log(2), rel=1e-5)


def test_a_batch_without_classes_gives_no_classification_loss():
    targets = _targets(has_class=np.zeros(2, np.float32))
    assert float(classification_loss(targets, np.array([[0.1], [0.9]], np.float32))) == 0


def test_only_the_tasks_of_the_network_have_a_loss():
    outputs = {Task.CLASSIFICATION.value: np.full((2, 1), 0.5, np.float32)}
    assert set(multitask_losses(_targets(), outputs, LossOptions())) == {"classification"}


def test_smoothed_labels_forgive_a_little_and_punish_certainty():
    certain = np.array([[0.999], [0.001]], np.float32)
    almost = np.array([[0.95], [0.05]], np.float32)
    smoothed = LossOptions(label_smoothing=0.1)
    assert float(classification_loss(_targets(), certain)) < float(
        classification_loss(_targets(), almost)
    )
    assert float(classification_loss(_targets(), certain, smoothed)) > float(
        classification_loss(_targets(), almost, smoothed)
    )


def test_without_smoothing_term_an_empty_batch_costs_nothing():
    targets = _targets(has_mask=np.zeros(2, np.float32))
    assert float(dice_loss(targets, np.zeros((2, 4, 4, 1), np.float32), LossOptions(0.0))) == 0
