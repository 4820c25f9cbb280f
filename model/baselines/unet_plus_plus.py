"""U-Net++ in two or three dimensions, the first stage of the two-stage system of Jin et al."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
from keras import layers

from model.baselines.parts import image_input, normalise
from model.config import Task

if TYPE_CHECKING:
    from model.config import NetworkConfig

LEVELS_2D, LEVELS_3D = 5, 4
# Slices of a 3-D crop; with four levels it is halved three times.
CROP_SLICES = 16

_LAYERS: dict[int, tuple[Any, Any, Any]] = {
    2: (layers.Conv2D, layers.MaxPooling2D, layers.UpSampling2D),
    3: (layers.Conv3D, layers.MaxPooling3D, layers.UpSampling3D),
}


def build_unet_plus_plus(config: NetworkConfig) -> keras.Model:
    """Build the network for slices: (batch, size, size, 1) to a lesion map of that shape."""
    image = image_input(config)
    lesions = lesion_map(image, config, dimensions=2)
    return keras.Model(image, {Task.SEGMENTATION.value: lesions}, name="unet_plus_plus")


def build_unet_plus_plus_3d(config: NetworkConfig) -> keras.Model:
    """Build the network for crops of a volume: (batch, `CROP_SLICES`, size, size, 1) to lesions.

    Parameters
    ----------
    config
        `input_size` is the edge of the crop in the slice, `base_filters` the first level's maps.
    """
    shape = (CROP_SLICES, config.input_size, config.input_size, 1)
    crop = keras.Input(shape, name="image")
    lesions = lesion_map(crop, config, dimensions=3)
    return keras.Model(crop, {Task.SEGMENTATION.value: lesions}, name="unet_plus_plus_3d")


def lesion_map(
    image: keras.KerasTensor, config: NetworkConfig, dimensions: int
) -> keras.KerasTensor:
    """Return the probability of lesion of each pixel or voxel.

    Notes
    -----
    Zhou et al. 2018. Node (level, column) takes every earlier node of its level and the one
    below, scaled up; without deep supervision.
    """
    _, pool, upsample = _LAYERS[dimensions]
    depth = LEVELS_2D if dimensions == 2 else LEVELS_3D
    nodes: dict[tuple[int, int], keras.KerasTensor] = {}
    for column in range(depth):
        for level in range(depth - column):
            name = f"node_{level}_{column}"
            if column:
                below = upsample(2, name=f"{name}_upsample")(nodes[level + 1, column - 1])
                row = [nodes[level, earlier] for earlier in range(column)]
                tensor = layers.Concatenate(name=f"{name}_skips")([*row, below])
            elif level:
                tensor = pool(2, name=f"{name}_pool")(nodes[level - 1, 0])
            else:
                tensor = image
            nodes[level, column] = _double(tensor, level, name, config, dimensions)
    convolution = _LAYERS[dimensions][0]
    return convolution(1, 1, activation="sigmoid", dtype="float32", name=Task.SEGMENTATION.value)(
        nodes[0, depth - 1]
    )


def _double(
    tensor: keras.KerasTensor, level: int, name: str, config: NetworkConfig, dimensions: int
) -> keras.KerasTensor:
    convolution = _LAYERS[dimensions][0]
    for number in (1, 2):
        part = f"{name}_conv_{number}"
        tensor = convolution(
            config.base_filters * 2**level,
            3,
            padding="same",
            kernel_initializer="he_normal",
            name=part,
        )(tensor)
        tensor = normalise(tensor, part, config)
        tensor = layers.Activation("relu", name=f"{part}_relu")(tensor)
    return tensor
