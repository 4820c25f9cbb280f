"""Every kind of network by its config, and its parts as a trainer runs them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import keras

from model.baselines.capsule import build_capsule
from model.baselines.cnn8 import build_cnn8
from model.baselines.four_class_cnn import build_four_class_cnn
from model.baselines.transfer import TRANSFER, build_transfer
from model.baselines.two_stage import build_two_stage
from model.baselines.unet_plus_plus import build_unet_plus_plus, build_unet_plus_plus_3d
from model.config import Architecture
from model.network import Branches, build_network, split_network

if TYPE_CHECKING:
    from collections.abc import Callable

    import tensorflow as tf

    from model.config import NetworkConfig

_BUILDERS: dict[Architecture, Callable[[NetworkConfig], keras.Model]] = {
    Architecture.MULTITASK: build_network,
    Architecture.CNN8: build_cnn8,
    Architecture.FOUR_CLASS_CNN: build_four_class_cnn,
    Architecture.CAPSULE: build_capsule,
    Architecture.TWO_STAGE: build_two_stage,
    Architecture.UNET_PLUS_PLUS: build_unet_plus_plus,
    Architecture.UNET_PLUS_PLUS_3D: build_unet_plus_plus_3d,
    **dict.fromkeys(TRANSFER, build_transfer),
}


def build(config: NetworkConfig, *, initialise: bool = True) -> keras.Model:
    """Build the network that a config describes.

    Parameters
    ----------
    config
        Kind, sizes and tasks.
    initialise
        Whether to read `imagenet_weights`. False where trained weights are loaded afterwards,
        so that the file need not be there any more.

    Returns
    -------
    keras.Model
        From images to a dictionary with an entry for each task, named by `Task`; all layers lie
        flat in the model, and their names depend on the config alone.

    Raises
    ------
    ConfigError
        If the config asks for what its kind cannot be.
    """
    if not initialise and config.imagenet_weights:
        config = replace(config, imagenet_weights="")
    return _BUILDERS[config.architecture](config)


def branches(network: keras.Model, config: NetworkConfig) -> Branches:
    """Return what a trainer runs on all samples, and what on those of each task.

    The multitask network parts where encoder and tasks meet. Every other kind runs whole: its
    "encoder" hands the image on, and its only trained task takes the whole network.
    """
    if config.architecture is Architecture.MULTITASK:
        return split_network(network, config)
    return Branches(
        encoder=_image_only,
        heads={
            task: keras.Model(network.inputs, network.get_layer(task.value).output)
            for task in config.tasks
        },
    )


def _image_only(images: tf.Tensor, *, training: bool = False) -> list[tf.Tensor]:  # noqa: ARG001
    return [images]
