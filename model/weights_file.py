"""Weights of a network as named arrays in an npz file: data only, nothing to execute."""

from __future__ import annotations

import math
import zipfile
import zlib
from typing import TYPE_CHECKING

import numpy as np

from model.errors import RegistryError
from model.files import replaced

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import keras
    from numpy.typing import NDArray

FLATTENED_KERNEL = "classification_dense_1/kernel"
CLASSIFIER_BIAS = "classification_conv/bias"
CLASSIFIER_SHIFT = "classification_conv_norm/beta"
_NO_WEIGHTS = (
    "not a weights file, or a damaged one; take best.npz or last.npz of a run, or weights.npz of a "
    "version"
)


def save_weights(network: keras.Model, path: Path) -> None:
    """Write every variable of a network under ``layer/variable``, whole or not at all."""
    arrays = {name: np.asarray(variable) for name, variable in _named(network)}
    with replaced(path) as temporary:
        np.savez(temporary, allow_pickle=False, **arrays)


def load_weights(network: keras.Model, *paths: Path) -> None:
    """Read a network's variables from files that may hold more, such as another task's.

    Parameters
    ----------
    network
        The network to fill. If only its input size differs from the stored one, the classifier's
        first dense kernel is resampled to the new number of positions.
    paths
        Files written by `save_weights`; what several hold is taken from the last of them.

    Raises
    ------
    RegistryError
        If a file is unreadable, or a variable of the network's name and shape is missing.
    """
    stored = {name: values for path in paths for name, values in _read(path).items()}
    where = " and ".join(map(str, paths))
    maps = len(stored.get(CLASSIFIER_BIAS, ())) or len(stored.get(CLASSIFIER_SHIFT, ()))
    for name, variable in _named(network):
        if name not in stored:
            raise RegistryError(f"{where}: no weights for {name}")
        values, shape = stored[name], tuple(variable.shape)
        if values.shape != shape and name == FLATTENED_KERNEL and values.shape[1] == shape[1]:
            values = resample_flattened_kernel(values, shape[0], maps)
        if values.shape != shape:
            raise RegistryError(
                f"{where}: {name} has shape {values.shape}, the network needs {shape}"
            )
        variable.assign(values)


def round_weights(source: Path, target: Path) -> None:
    """Write a weights file again with its kernels as float16, at half the size.

    Parameters
    ----------
    source, target
        A file of `save_weights`, and the one to write, whole or not at all.

    Raises
    ------
    RegistryError
        If the file is unreadable, or a kernel is too large for float16.

    Notes
    -----
    Biases and the statistics of normalisation stay float32: they take little room, and small
    variances would vanish. `load_weights` gives float32 either way, so a network computes alike.
    """
    arrays = _read(source)
    for name, values in arrays.items():
        if values.ndim < 2 or values.dtype != np.float32:
            continue
        if values.size and np.abs(values).max() > np.finfo(np.float16).max:
            raise RegistryError(f"{source}: {name} is too large to be rounded to float16")
        arrays[name] = values.astype(np.float16)
    with replaced(target) as temporary:
        np.savez(temporary, allow_pickle=False, **arrays)


def resample_flattened_kernel(
    kernel: NDArray[np.float32], inputs: int, maps: int
) -> NDArray[np.float32]:
    """Adapt a dense kernel behind a flattened square map to a larger map.

    Parameters
    ----------
    kernel
        Array of (size * size * maps, units).
    inputs
        Rows wanted: the new size squared, times the same number of maps.
    maps
        Number of feature maps before they were flattened.

    Returns
    -------
    NDArray[np.float32]
        The kernel with each position repeated and divided by the number of its copies, so that
        a map resized to the new size gives about the same sum.

    Raises
    ------
    RegistryError
        If the new size is not a whole multiple of the old one.
    """
    size = math.isqrt(kernel.shape[0] // max(maps, 1))
    factor = math.isqrt(inputs // kernel.shape[0])
    if size * size * maps != kernel.shape[0] or factor**2 * kernel.shape[0] != inputs:
        raise RegistryError(f"{kernel.shape[0]} inputs cannot be resampled to {inputs}")
    grid = kernel.reshape(size, size, maps, -1)
    grown = grid.repeat(factor, axis=0).repeat(factor, axis=1) / np.float32(factor**2)
    return grown.reshape(inputs, -1)


def _read(path: Path) -> dict[str, NDArray[np.float32]]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: _as_float32(arrays[name]) for name in arrays.files}
    except OSError as error:
        if error.strerror:
            raise RegistryError(f"{path}: cannot be read: {error.strerror}") from error
        raise RegistryError(f"{path}: {_NO_WEIGHTS}") from error
    except (AttributeError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        # Not in numpy's words, which advise to read it unsafely.
        raise RegistryError(f"{path}: {_NO_WEIGHTS}") from error


def _as_float32(values: NDArray[np.generic]) -> NDArray[np.float32]:
    return values.astype(np.float32) if values.dtype == np.float16 else values  # type: ignore[return-value]


def _named(network: keras.Model) -> Iterator[tuple[str, keras.Variable]]:
    for layer in network.layers:
        for variable in layer.variables:
            if "seed" not in variable.name:  # the state of dropout's generator is no weight
                yield f"{layer.name}/{variable.name}", variable
