"""The paper's plain classifier of eight layers, its row "CNN" in Table 2."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keras import layers

from model.baselines.parts import classifier_model, image_input, normalise, probability_of_covid

if TYPE_CHECKING:
    import keras

    from model.config import NetworkConfig

CONVOLUTIONS = 6
FILTERS = 8


def build_cnn8(config: NetworkConfig) -> keras.Model:
    """Build six convolutions and two dense layers with ELU.

    Parameters
    ----------
    config
        Input size and normalisation. The widths are the paper's: 8 maps, doubled five times.

    Returns
    -------
    keras.Model
        From images (batch, size, size, 1) to ``classification``, (batch, 1).

    Notes
    -----
    Amyar et al. 2020: 3 x 3 convolutions of 8, 16, 32, 64, 128 and 256 maps, each followed by
    2 x 2 max pooling and dropout 0.25; Dense 128 with dropout 0.5; Dense 1. Pooling is padded, so
    that inputs below 64 pixels keep a last map.
    """
    image = tensor = image_input(config)
    for number in range(CONVOLUTIONS):
        name = f"conv_{number + 1}"
        tensor = layers.Conv2D(
            FILTERS * 2**number, 3, padding="same", kernel_initializer="he_normal", name=name
        )(tensor)
        tensor = normalise(tensor, name, config)
        tensor = layers.Activation("elu", name=f"{name}_elu")(tensor)
        tensor = layers.MaxPooling2D(2, padding="same", name=f"pool_{number + 1}")(tensor)
        tensor = layers.Dropout(0.25, name=f"dropout_{number + 1}")(tensor)
    tensor = layers.Flatten(name="flatten")(tensor)
    tensor = layers.Dense(128, activation="elu", name="dense")(tensor)
    tensor = layers.Dropout(0.5, name="dense_dropout")(tensor)
    return classifier_model(image, probability_of_covid(tensor), "cnn8")
