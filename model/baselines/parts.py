"""Pieces that several of the comparison networks share."""

from __future__ import annotations

import keras
from keras import layers

from model.config import NetworkConfig, Normalisation, Task

BATCH_MOMENTUM = 0.95


def image_input(config: NetworkConfig) -> keras.KerasTensor:
    """Return the input every network of the product has: (batch, size, size, 1), 0 to 1."""
    return keras.Input((config.input_size, config.input_size, 1), name="image")


def normalise(tensor: keras.KerasTensor, name: str, config: NetworkConfig) -> keras.KerasTensor:
    """Return batch normalisation of the tensor where the config asks for it, else the tensor."""
    if config.normalisation is not Normalisation.BATCH:
        return tensor
    return layers.BatchNormalization(momentum=BATCH_MOMENTUM, name=f"{name}_norm")(tensor)


def probability_of_covid(tensor: keras.KerasTensor) -> keras.KerasTensor:
    """Return the probability of COVID-19, (batch, 1), from features of (batch, features)."""
    return layers.Dense(1, activation="sigmoid", dtype="float32", name=Task.CLASSIFICATION.value)(
        tensor
    )


def classifier_model(
    image: keras.KerasTensor, probability: keras.KerasTensor, name: str
) -> keras.Model:
    """Return a network with the classification task alone, its output named as in `Task`."""
    return keras.Model(image, {Task.CLASSIFICATION.value: probability}, name=name)
