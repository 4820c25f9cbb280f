"""The three tasks' losses, each masked to the samples that carry its label."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import keras
from keras import ops

from model.config import Task

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Total = Callable[[keras.KerasTensor], keras.KerasTensor]


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


class LossOptions(NamedTuple):
    """What the losses need to know beside labels and outputs.

    Attributes
    ----------
    dice_smoothing, label_smoothing
        See `model.config.TrainingConfig`.
    total
        Adds a sum over all devices that share a batch, so that the losses are those of the whole
        batch; on one device the sum itself.
    """

    dice_smoothing: float = 1.0
    label_smoothing: float = 0.0
    total: Total = lambda value: value


ONE_DEVICE = LossOptions()


def reconstruction_loss(
    targets: Targets, image: keras.KerasTensor, options: LossOptions = ONE_DEVICE
) -> keras.KerasTensor:
    """Mean squared error over every sample (task T1)."""
    mean = ops.mean(ops.square(targets.image - image))
    return options.total(mean) / options.total(ops.ones_like(mean))


def dice_loss(
    targets: Targets, probability: keras.KerasTensor, options: LossOptions = ONE_DEVICE
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
    overlap = options.total(ops.sum(truth * probability))
    extent = options.total(ops.sum(truth) + ops.sum(probability))
    extent = ops.maximum(extent + options.dice_smoothing, keras.config.epsilon())
    dice = (2 * overlap + options.dice_smoothing) / extent
    return -dice * ops.cast(options.total(ops.sum(targets.has_mask)) > 0, dice.dtype)


def classification_loss(
    targets: Targets, probability: keras.KerasTensor, options: LossOptions = ONE_DEVICE
) -> keras.KerasTensor:
    """Mean binary cross-entropy of the samples with a class, 0 without any (task T3)."""
    truth = targets.covid * (1 - options.label_smoothing) + 0.5 * options.label_smoothing
    entropy = ops.binary_crossentropy(truth, ops.reshape(probability, (-1,)))
    count = options.total(ops.sum(targets.has_class))
    return options.total(ops.sum(entropy * targets.has_class)) / ops.maximum(count, 1.0)


def multitask_losses(
    targets: Targets,
    outputs: Mapping[str, keras.KerasTensor],
    options: LossOptions = ONE_DEVICE,
) -> dict[str, keras.KerasTensor]:
    """Loss of each task the network has; the paper's global loss is their plain sum."""
    losses = {
        Task.RECONSTRUCTION: reconstruction_loss,
        Task.SEGMENTATION: dice_loss,
        Task.CLASSIFICATION: classification_loss,
    }
    return {
        task.value: loss(targets, ops.cast(outputs[task], "float32"), options)
        for task, loss in losses.items()
        if task in outputs
    }
