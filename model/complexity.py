"""Parameters and operations of a network, counted from its graph."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

from keras import layers

if TYPE_CHECKING:
    from collections.abc import Callable

    import keras


@dataclass(frozen=True, slots=True)
class Complexity:
    """Size of a network or of a part of it.

    Attributes
    ----------
    convolutions
        Number of convolution layers.
    parameters
        Trained and kept variables.
    flops
        Operations for one image; multiply and add are counted as two, and only convolutions and
        dense layers count, as usual.
    """

    convolutions: int
    parameters: int
    flops: int


def measure(
    network: keras.Model, includes: Callable[[str], bool] = lambda _name: True
) -> Complexity:
    """Count a network's layers whose name is included.

    Parameters
    ----------
    network
        A functional model with a fixed input size.
    includes
        Says of a layer's name whether it belongs to the part, such as
        ``lambda name: name.startswith("encoder")``.
    """
    chosen = [layer for layer in network.layers if includes(layer.name)]
    return Complexity(
        convolutions=sum(isinstance(layer, layers.Conv2D) for layer in chosen),
        parameters=sum(layer.count_params() for layer in chosen),
        flops=sum(_flops(layer) for layer in chosen),
    )


def _flops(layer: keras.layers.Layer) -> int:
    if not isinstance(layer, layers.Conv2D | layers.Dense):
        return 0
    positions = prod(layer.output.shape[1:-1])
    return 2 * int(positions) * int(prod(layer.kernel.shape))
