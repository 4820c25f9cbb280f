"""The two-stage system of Jin et al.: lesions by U-Net++, then ResNet50 on image and lesions.

Its two networks cannot help each other: the first is trained alone and then held fast.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import keras
from keras import layers

from model.baselines.parts import image_input
from model.baselines.transfer import on_backbone
from model.baselines.unet_plus_plus import lesion_map
from model.config import Architecture, Task

if TYPE_CHECKING:
    from model.config import NetworkConfig


def build_two_stage(config: NetworkConfig) -> keras.Model:
    """Build both stages as one network whose first stage does not train.

    Parameters
    ----------
    config
        Input size, `base_filters` and normalisation of the U-Net++, dropout, ImageNet weights.
        Without the segmentation task the lesion map is still made, but not given out.

    Returns
    -------
    keras.Model
        From images (batch, size, size, 1) to the tasks of the config. ResNet50 sees the image,
        the lesion map, and their product, each stretched to -127.5..127.5.
    """
    image = image_input(config)
    lesions = lesion_map(image, config, dimensions=2)
    for layer in keras.Model(image, lesions).layers:
        layer.trainable = False
    inside = layers.Multiply(name="image_in_lesions")([image, lesions])
    colours = layers.Concatenate(name="image_and_lesions")([image, lesions, inside])
    colours = layers.Rescaling(255.0, -127.5, name="imagenet_range")(colours)
    published = replace(config, architecture=Architecture.RESNET50, tasks=(Task.CLASSIFICATION,))
    wanted = {Task.SEGMENTATION.value: lesions} if Task.SEGMENTATION in config.tasks else {}
    return on_backbone(image, colours, published, "two_stage", wanted)
