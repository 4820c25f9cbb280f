"""A capsule network with dynamic routing, after the one the paper quotes from Afshar et al."""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras
from keras import layers, ops

from model.baselines.parts import classifier_model, image_input, normalise
from model.config import Task

if TYPE_CHECKING:
    from model.config import NetworkConfig

PRIMARY_LENGTH, CLASS_LENGTH, CLASSES = 8, 16, 2
ROUTING_ROUNDS = 3


def build_capsule(config: NetworkConfig) -> keras.Model:
    """Build convolutions, primary capsules, and two class capsules reached by routing.

    Parameters
    ----------
    config
        Input size, `base_filters` (maps of the first convolution) and normalisation.

    Returns
    -------
    keras.Model
        From images (batch, size, size, 1) to ``classification``, (batch, 1): the length of the
        COVID-19 capsule as a share of both lengths.

    Notes
    -----
    Afshar et al. 2020 (COVID-CAPS); routing after Sabour, Frosst and Hinton 2017. Trained with
    cross-entropy like every other row, where they take a margin loss. Each capsule type shares
    its transformation over all positions, so that the input size is free.
    """
    image = tensor = image_input(config)
    for number in range(4):
        name = f"conv_{number + 1}"
        tensor = layers.Conv2D(
            config.base_filters * 2 ** (number + 1),
            3,
            strides=2,
            padding="same",
            kernel_initializer="he_normal",
            name=name,
        )(tensor)
        tensor = normalise(tensor, name, config)
        tensor = layers.Activation("relu", name=f"{name}_relu")(tensor)
    types = max(config.base_filters, 2)
    tensor = layers.Conv2D(
        types * PRIMARY_LENGTH, 3, strides=2, padding="same", name="primary_capsules"
    )(tensor)
    capsules = layers.Reshape((-1, types, PRIMARY_LENGTH), name="capsule_vectors")(tensor)
    lengths = RoutedCapsules(CLASSES, CLASS_LENGTH, ROUTING_ROUNDS, name="class_capsules")(capsules)
    share = LengthShare(dtype="float32", name=Task.CLASSIFICATION.value)(lengths)
    return classifier_model(image, share, "capsule")


def squash(vectors: keras.KerasTensor) -> keras.KerasTensor:
    """Shorten vectors along the last axis to lengths in 0..1, keeping their directions."""
    square = ops.sum(ops.square(vectors), axis=-1, keepdims=True)
    return vectors * square / (1 + square) * ops.rsqrt(square + 1e-7)


class RoutedCapsules(layers.Layer):  # type: ignore[misc] # keras is untyped
    """Routes capsules of (batch, positions, types, length) to capsules of (batch, count, length).

    Parameters
    ----------
    count, length
        Number of output capsules and length of each.
    rounds
        Rounds of routing by agreement.
    """

    def __init__(self, count: int, length: int, rounds: int, **options: object) -> None:
        super().__init__(**options)
        self.count, self.length, self.rounds = count, length, rounds

    def build(self, input_shape: tuple[int, ...]) -> None:
        """Make one transformation for each pair of capsule type and output capsule."""
        self.kernel = self.add_weight(
            name="kernel",
            shape=(input_shape[2], self.count, input_shape[3], self.length),
            initializer=keras.initializers.RandomNormal(stddev=0.1),
        )

    def call(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        """Return the output capsules."""
        votes = ops.einsum("bptl,tclm->bptcm", squash(inputs), self.kernel)
        agreement = ops.zeros_like(votes[..., 0])
        capsules = None
        for round_number in range(self.rounds):
            share = ops.softmax(agreement, axis=-1)
            capsules = squash(ops.einsum("bptc,bptcm->bcm", share, votes))
            if round_number < self.rounds - 1:
                agreement = agreement + ops.einsum("bptcm,bcm->bptc", votes, capsules)
        return capsules


class LengthShare(layers.Layer):  # type: ignore[misc] # keras is untyped
    """Length of the first capsule as a share of the sum of all lengths, (batch, 1)."""

    def call(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        """Return the share."""
        lengths = ops.sqrt(ops.sum(ops.square(inputs), axis=-1) + 1e-7)
        return lengths[:, :1] / ops.sum(lengths, axis=-1, keepdims=True)
