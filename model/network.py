"""The paper's multitask network as a functional Keras graph with named layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import keras
from keras import layers

from model.config import NetworkConfig, Normalisation, Task

if TYPE_CHECKING:
    from collections.abc import Callable

LEVELS = 5


def build_network(config: NetworkConfig) -> keras.Model:
    """Build the network: one encoder, up to two U-Net decoders and a classifier.

    Parameters
    ----------
    config
        Widths, input size and tasks. Its defaults are the paper's.

    Returns
    -------
    keras.Model
        From images of shape (batch, input_size, input_size, 1), 0 to 1, to a dictionary with an
        entry for each task, named by `Task`: reconstruction and segmentation of the images'
        shape, the latter as probabilities, and classification of shape (batch, 1), the
        probability of COVID-19.

    Notes
    -----
    Amyar et al. 2020, section "Network". The paper gives the encoder's output as 32 x 32 x 1024,
    which holds for 512 x 512 input; sizes here are derived from the input. The classifier's
    convolution has no width in the paper; 128 maps of 3 x 3 are taken.
    """
    image = keras.Input((config.input_size, config.input_size, 1), name="image")
    levels = _encoder(image, config)
    outputs = {}
    if Task.RECONSTRUCTION in config.tasks:
        outputs[Task.RECONSTRUCTION.value] = _decoder(levels, config, "reconstruction", "linear")
    if Task.SEGMENTATION in config.tasks:
        outputs[Task.SEGMENTATION.value] = _decoder(levels, config, "segmentation", "sigmoid")
    if Task.CLASSIFICATION in config.tasks:
        outputs[Task.CLASSIFICATION.value] = _classifier(levels[-1], config)
    return keras.Model(image, outputs, name="multitask")


@dataclass(frozen=True)
class Branches:
    """The parts of a network as models of their own, with the same variables.

    Attributes
    ----------
    encoder
        From images to the feature maps of all levels, the finest first; called like a model,
        with ``training``.
    heads
        By task, from those maps to the task's output.
    """

    encoder: Callable[..., list[keras.KerasTensor]]
    heads: dict[Task, keras.Model]


def split_network(network: keras.Model, config: NetworkConfig) -> Branches:
    """Split a network where encoder and tasks meet, so that each runs on the samples it needs."""
    levels = [
        network.get_layer(f"encoder_{level + 1}_conv_2_relu").output for level in range(LEVELS)
    ]
    return Branches(
        encoder=keras.Model(network.input, levels, name="encoder"),
        heads={
            task: keras.Model(levels, network.get_layer(task.value).output, name=f"{task}_head")
            for task in config.tasks
        },
    )


def _convolution(
    tensor: keras.KerasTensor, filters: int, size: int, name: str, config: NetworkConfig
) -> keras.KerasTensor:
    """Return convolution, the optional normalisation, and ReLU."""
    normalised = config.normalisation is Normalisation.BATCH
    tensor = layers.Conv2D(
        filters,
        size,
        padding="same",
        use_bias=not normalised,
        kernel_initializer="he_normal",
        name=name,
    )(tensor)
    if normalised:
        tensor = layers.BatchNormalization(momentum=0.95, name=f"{name}_norm")(tensor)
    return layers.Activation("relu", name=f"{name}_relu")(tensor)


def _encoder(image: keras.KerasTensor, config: NetworkConfig) -> list[keras.KerasTensor]:
    """Return the last feature maps of each level, the finest first."""
    tensor, levels = image, []
    for level in range(LEVELS):
        if level:
            tensor = layers.MaxPooling2D(2, name=f"encoder_{level + 1}_pool")(tensor)
        for number in (1, 2):
            tensor = _convolution(
                tensor,
                config.base_filters * 2**level,
                3,
                f"encoder_{level + 1}_conv_{number}",
                config,
            )
        levels.append(tensor)
    return levels


def _decoder(
    levels: list[keras.KerasTensor], config: NetworkConfig, part: str, activation: str
) -> keras.KerasTensor:
    """Return one map of the input's size from the encoder's levels, with skip connections."""
    tensor = levels[-1]
    for level in reversed(range(LEVELS - 1)):
        filters, prefix = config.base_filters * 2**level, f"{part}_{level + 1}"
        tensor = layers.UpSampling2D(2, name=f"{prefix}_upsample")(tensor)
        tensor = _convolution(tensor, filters, 2, f"{prefix}_upconv", config)
        tensor = layers.Concatenate(name=f"{prefix}_skip")([levels[level], tensor])
        for number in (1, 2):
            tensor = _convolution(tensor, filters, 3, f"{prefix}_conv_{number}", config)
    tensor = _convolution(tensor, 2, 3, f"{part}_maps", config)
    return layers.Conv2D(1, 1, activation=activation, dtype="float32", name=part)(tensor)


def _classifier(tensor: keras.KerasTensor, config: NetworkConfig) -> keras.KerasTensor:
    """Return the probability of COVID-19 from the encoder's output."""
    tensor = _convolution(tensor, config.classifier_filters, 3, "classification_conv", config)
    tensor = layers.MaxPooling2D(2, name="classification_pool")(tensor)
    tensor = layers.Flatten(name="classification_flatten")(tensor)
    for number, units in enumerate(config.classifier_units, start=1):
        name = f"classification_dense_{number}"
        tensor = layers.Dense(units, activation="elu", name=name)(tensor)
        tensor = layers.Dropout(config.dropout, name=f"classification_dropout_{number}")(tensor)
    return layers.Dense(1, activation="sigmoid", dtype="float32", name="classification")(tensor)
