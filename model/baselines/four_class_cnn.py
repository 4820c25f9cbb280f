"""A residual classifier with four classes, after the one the paper quotes from Wang et al.

Wang's network tells normal, bacterial, viral and COVID-19 chest X-rays apart. Of CT slices the
development data name two classes only; whatever else is known (nodules, lung cancer) is known of
a whole source, and naming it would teach the network the source. So the network keeps its four
classes, of which the data name the first, COVID-19: the loss is that of COVID-19 against the sum
of the other three, which are left to the network.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import keras
from keras import layers

from model.baselines.parts import classifier_model, image_input, normalise
from model.config import Task

if TYPE_CHECKING:
    from model.config import NetworkConfig

CLASSES = 4
STAGES = 4


def build_four_class_cnn(config: NetworkConfig) -> keras.Model:
    """Build the four-class network; its output is the first class's probability.

    Parameters
    ----------
    config
        Input size, `base_filters` (maps of the first stage), normalisation, dropout.

    Returns
    -------
    keras.Model
        From images (batch, size, size, 1) to ``classification``, (batch, 1). The layer
        ``classes`` holds all four probabilities.

    Notes
    -----
    Wang and Wong 2020 (COVID-Net): projection, expansion, depthwise 3 x 3, projection, extension,
    and a residual connection; smaller than theirs.
    """
    image = image_input(config)
    tensor = layers.Conv2D(
        config.base_filters, 7, strides=2, padding="same", activation="relu", name="stem"
    )(image)
    for stage in range(STAGES):
        tensor = layers.MaxPooling2D(2, padding="same", name=f"stage_{stage + 1}_pool")(tensor)
        for number in (1, 2):
            tensor = _block(
                tensor,
                config.base_filters * 2 ** (stage + 1),
                f"stage_{stage + 1}_block_{number}",
                config,
            )
    tensor = layers.GlobalAveragePooling2D(name="features")(tensor)
    tensor = layers.Dropout(config.dropout, name="dropout")(tensor)
    classes = layers.Dense(CLASSES, activation="softmax", dtype="float32", name="classes")(tensor)
    covid = _FirstClass(dtype="float32", name=Task.CLASSIFICATION.value)(classes)
    return classifier_model(image, covid, "four_class_cnn")


class _FirstClass(layers.Layer):  # type: ignore[misc] # keras is untyped
    """Takes the first column."""

    def call(self, inputs: keras.KerasTensor) -> keras.KerasTensor:
        return inputs[:, :1]


def _block(
    tensor: keras.KerasTensor, filters: int, name: str, config: NetworkConfig
) -> keras.KerasTensor:
    shortcut = tensor
    if tensor.shape[-1] != filters:
        shortcut = layers.Conv2D(filters, 1, name=f"{name}_shortcut")(tensor)
    half = max(filters // 2, 1)
    tensor = layers.Conv2D(half, 1, activation="relu", name=f"{name}_projection_1")(tensor)
    tensor = layers.Conv2D(filters, 1, activation="relu", name=f"{name}_expansion")(tensor)
    tensor = layers.DepthwiseConv2D(3, padding="same", name=f"{name}_depthwise")(tensor)
    tensor = normalise(tensor, f"{name}_depthwise", config)
    tensor = layers.Conv2D(half, 1, activation="relu", name=f"{name}_projection_2")(tensor)
    tensor = layers.Conv2D(filters, 1, name=f"{name}_extension")(tensor)
    tensor = normalise(tensor, f"{name}_extension", config)
    tensor = layers.Add(name=f"{name}_sum")([shortcut, tensor])
    return layers.Activation("relu", name=f"{name}_relu")(tensor)
