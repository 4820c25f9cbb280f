"""The three tasks' losses, each masked to the samples that carry its label."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import keras
from keras import ops

from model.config import Task

if TYPE_CHECKING:
    from collections.abc import Mapping


class Targets(NamedTuple):
    """Labels of a batch; a sample without a label has weight 0 and any value.

    Attributes
    ----------
    image, mask
        Tensors of shape (batch, size, size, 1).
    has_mask, covid, has_class
        Tensors of shape (batch,): 0 or 1 as float32.
    """

    image: keras.KerasTensor
    mask: keras.KerasTensor
    has_mask: keras.KerasTensor
    covid: keras.KerasTensor
    has_class: keras.KerasTensor


def reconstruction_loss(targets: Targets, image: keras.KerasTensor) -> keras.KerasTensor:
    """Mean squared error over every sample (task T1)."""
    return ops.mean(ops.square(targets.image - image))


def dice_loss(
    targets: Targets, probability: keras.KerasTensor, smoothing: float
) -> keras.KerasTensor:
    """Minus the Dice coefficient of the batch's samples with a mask, 0 without any (task T2).

    Notes
    -----
    ``-(2 |X & Y| + s) / (|X| + |Y| + s)``, the sums taken over all masked pixels of the batch at
    once. Taken image by image, an empty mask is all or nothing; many of them then teach the
    branch to say nothing at all, and behind a ReLU it stays dead.
    """
    weight = ops.reshape(targets.has_mask, (-1, 1, 1, 1))
    truth, probability = targets.mask * weight, probability * weight
    overlap = ops.sum(truth * probability)
    dice = (2 * overlap + smoothing) / (ops.sum(truth) + ops.sum(probability) + smoothing)
    return -dice * ops.cast(ops.any(targets.has_mask > 0), dice.dtype)


def classification_loss(targets: Targets, probability: keras.KerasTensor) -> keras.KerasTensor:
    """Mean binary cross-entropy of the samples with a class, 0 without any (task T3)."""
    entropy = ops.binary_crossentropy(targets.covid, ops.reshape(probability, (-1,)))
    return ops.sum(entropy * targets.has_class) / ops.maximum(ops.sum(targets.has_class), 1.0)


def multitask_losses(
    targets: Targets, outputs: Mapping[str, keras.KerasTensor], dice_smoothing: float
) -> dict[str, keras.KerasTensor]:
    """Loss of each task the network has; the paper's global loss is their plain sum."""
    losses = {}
    if Task.RECONSTRUCTION in outputs:
        losses[Task.RECONSTRUCTION.value] = reconstruction_loss(
            targets, outputs[Task.RECONSTRUCTION]
        )
    if Task.SEGMENTATION in outputs:
        losses[Task.SEGMENTATION.value] = dice_loss(
            targets, outputs[Task.SEGMENTATION], dice_smoothing
        )
    if Task.CLASSIFICATION in outputs:
        losses[Task.CLASSIFICATION.value] = classification_loss(
            targets, outputs[Task.CLASSIFICATION]
        )
    return losses
