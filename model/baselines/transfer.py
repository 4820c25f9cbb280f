"""ResNet50, InceptionV3, Inception-ResNetV2, VGG16 and DenseNet-169 with one grey input.

They are the published networks of `keras.applications`, without their 1,000-class top. The
comparison systems started from ImageNet weights; here they start from random ones unless
`NetworkConfig.imagenet_weights` names a local file, either in the format of `keras.applications`
(``..._notop.h5``) or an npz of `model.weights_file`. Nothing is downloaded.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import keras
from keras import applications, layers

from model.baselines.parts import BATCH_MOMENTUM, image_input, probability_of_covid
from model.config import Architecture, Task
from model.errors import ConfigError
from model.weights_file import load_weights

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from model.config import NetworkConfig

FEATURES = "features"

# ImageNet's mean and standard deviation of red, green and blue, of greys in 0..1 and 0..255.
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_MEAN_BGR_255 = (103.939, 116.779, 123.68)
_CAFFE = ([255.0] * 3, [-mean for mean in _MEAN_BGR_255])
_SYMMETRIC = ([2.0] * 3, [-1.0] * 3)
_TORCH = (
    [1 / deviation for deviation in _DEVIATION],
    [-mean / deviation for mean, deviation in zip(_MEAN, _DEVIATION, strict=True)],
)

_NETWORKS: dict[Architecture, tuple[Callable[..., keras.Model], tuple[list[float], list[float]]]]
_NETWORKS = {
    Architecture.RESNET50: (applications.ResNet50, _CAFFE),
    Architecture.VGG16: (applications.VGG16, _CAFFE),
    Architecture.INCEPTION_V3: (applications.InceptionV3, _SYMMETRIC),
    Architecture.INCEPTION_RESNET_V2: (applications.InceptionResNetV2, _SYMMETRIC),
    Architecture.DENSENET169: (applications.DenseNet169, _TORCH),
}
TRANSFER = frozenset(_NETWORKS)
SMALLEST_INPUT = {Architecture.INCEPTION_V3: 96, Architecture.INCEPTION_RESNET_V2: 96}


def build_transfer(config: NetworkConfig) -> keras.Model:
    """Build one of the ImageNet networks as a classifier of COVID-19.

    Parameters
    ----------
    config
        Architecture (one of `TRANSFER`), input size, dropout and the file of ImageNet weights.

    Returns
    -------
    keras.Model
        From images (batch, size, size, 1) to ``classification``, (batch, 1). The layer
        ``features`` holds the pooled features.

    Raises
    ------
    ConfigError
        If the input is too small for the network, or its ImageNet weights cannot be read.
    """
    image = image_input(config)
    scale, offset = _NETWORKS[config.architecture][1]
    colours = layers.Concatenate(name="grey_to_colours")([image] * 3)
    colours = layers.Rescaling(scale, offset, name="imagenet_range")(colours)
    return on_backbone(image, colours, config, config.architecture.value, {})


def on_backbone(
    image: keras.KerasTensor,
    colours: keras.KerasTensor,
    config: NetworkConfig,
    name: str,
    others: dict[str, keras.KerasTensor],
) -> keras.Model:
    """Return a classifier whose published network looks at `colours`, made from `image`.

    The published network lies flat in it, so that each variable has a name of its own in a
    weights file. Its layers are numbered in their order: Keras itself numbers unnamed ones by
    what the process has built before. Its batch normalisation follows the data as fast as the
    other networks' does: with the published momentum a short run is judged by its first weights.

    Parameters
    ----------
    image, colours
        Input of the network, and three maps made from it, in the published network's range.
    config
        Architecture of the published network, dropout, file of ImageNet weights.
    name
        Name of the network.
    others
        Outputs besides the classification, by task.
    """
    smallest = SMALLEST_INPUT.get(config.architecture, 32)
    if config.input_size < smallest:
        raise ConfigError(f"{config.architecture} needs input_size {smallest} or more")
    make = _NETWORKS[config.architecture][0]
    before = {layer.name for layer in keras.Model(image, colours).layers}
    published = make(include_top=False, weights=None, input_tensor=colours)
    names = _numbered(layer for layer in published.layers if layer.name not in before)
    tensor = layers.GlobalAveragePooling2D(name=FEATURES)(published.output)
    tensor = layers.Dropout(config.dropout, name="dropout")(tensor)
    outputs = others | {Task.CLASSIFICATION.value: probability_of_covid(tensor)}
    network = _renamed(keras.Model(image, outputs, name=name), names)
    if config.imagenet_weights:
        shape = (config.input_size, config.input_size, 3)
        source = make(include_top=False, weights=None, input_shape=shape)
        source = _renamed(source, _numbered(layer for layer in source.layers[1:]))
        _load_imagenet(source, Path(config.imagenet_weights))
        for layer in source.layers[1:]:
            network.get_layer(layer.name).set_weights(layer.get_weights())
    return network


def _numbered(published: Iterable[keras.layers.Layer]) -> dict[str, str]:
    return {
        layer.name: f"backbone_{number:03d}_{type(layer).__name__.lower()}"
        for number, layer in enumerate(published)
    }


def _renamed(network: keras.Model, names: dict[str, str]) -> keras.Model:
    def copy(layer: keras.layers.Layer) -> keras.layers.Layer:
        values = layer.get_config() | {"name": names.get(layer.name, layer.name)}
        if isinstance(layer, layers.BatchNormalization):
            values["momentum"] = BATCH_MOMENTUM
        return type(layer).from_config(values)

    return keras.models.clone_model(network, clone_function=copy)


def _load_imagenet(network: keras.Model, file: Path) -> None:
    if not file.is_file():
        raise ConfigError(f"imagenet_weights: {file} is not there; nothing is downloaded")
    if file.suffix == ".npz":
        load_weights(network, file)
        return
    try:
        network.load_weights(file)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"imagenet_weights: {file} holds no weights of this network without its top: {error}"
        ) from error
