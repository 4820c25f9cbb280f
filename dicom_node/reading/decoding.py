"""Frames of stored pixel values from a file, native or losslessly compressed."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from pydicom.encaps import generate_frames
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from dicom_node.errors import ConfigurationError, RefusedError
from dicom_node.reading import attributes
from dicom_node.reading.codestream import declares, is_whole
from dicom_node.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray
    from pydicom import Dataset

_NATIVE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian)

# The fastest decoder first; the others stand in where it is not installed. Deflated data sets
# are left out since a small one may inflate without bound, big endian since it is retired.
_PLUGINS: dict[UID, tuple[str, ...]] = {
    JPEGLosslessSV1: ("gdcm",),
    JPEGLossless: ("gdcm",),
    JPEGLSLossless: ("pyjpegls", "gdcm"),
    JPEG2000Lossless: ("pylibjpeg", "pillow", "gdcm"),
    # Not pydicom's own: it is slow, and it lets a segment grow to 64 times its size.
    RLELossless: ("pylibjpeg",),
}

READABLE_TRANSFER_SYNTAXES = frozenset((*_NATIVE, *_PLUGINS))

# A lossless codec may enlarge noise a little; far more than the native size is no image.
_LARGEST_EXPANSION = 2
_ENVELOPE_BYTES = 1 << 16


def read_cells(path: Path, dataset: Dataset, offset: int) -> Iterator[NDArray[np.uint16]]:
    """Give the 16-bit cells that hold the pixel values of each frame of an instance.

    Parameters
    ----------
    path
        The file.
    dataset
        Its data set without pixels: 16 bits allocated, one sample per pixel.
    offset
        Where the value of its Pixel Data begins.

    Yields
    ------
    ndarray
        Shape (rows, columns), for each frame.

    Raises
    ------
    RefusedError
        UNDECODABLE_PIXELS, SHORT_PIXEL_DATA, TOO_LARGE (compressed data beyond any image of the
        declared size), or UNSUPPORTED_TRANSFER_SYNTAX.
    ConfigurationError
        If the decoder of a readable transfer syntax is not installed: that is no fault of the
        study's.
    """
    syntax = UID(attributes.uid(dataset.file_meta, "TransferSyntaxUID"))
    shape = (attributes.integer(dataset, "NumberOfFrames") or 1, dataset.Rows, dataset.Columns)
    if syntax in _NATIVE:
        return _native(path, offset, shape)
    plugin = _plugin(syntax)
    native_bytes = 2 * int(np.prod(shape))
    largest = _LARGEST_EXPANSION * native_bytes + _ENVELOPE_BYTES * shape[0]
    if path.stat().st_size - offset > largest:
        raise RefusedError(
            Reason.TOO_LARGE, f"{path.name}: compressed pixels exceed the native size"
        )
    with path.open("rb") as file:
        file.seek(offset)
        return _compressed(file.read(), dataset, shape, plugin)


def _native(path: Path, offset: int, shape: tuple[int, int, int]) -> Iterator[NDArray[np.uint16]]:
    frames, rows, columns = shape
    with path.open("rb") as file:
        file.seek(offset)
        for _ in range(frames):
            cells = np.fromfile(file, dtype="<u2", count=rows * columns)
            if cells.size < rows * columns:
                raise RefusedError(Reason.SHORT_PIXEL_DATA, f"{path.name} ends within a frame")
            yield cells.reshape(rows, columns)


def _compressed(
    encoded: bytes, dataset: Dataset, shape: tuple[int, int, int], plugin: str
) -> Iterator[NDArray[np.uint16]]:
    syntax = UID(dataset.file_meta.TransferSyntaxUID)
    frames, rows, columns = shape
    count = 0
    try:
        _check_frames(encoded, dataset, shape)
        arrays = get_decoder(syntax).iter_array(
            encoded,
            raw=True,
            decoding_plugin=plugin,
            rows=rows,
            columns=columns,
            number_of_frames=frames,
            samples_per_pixel=1,
            photometric_interpretation="MONOCHROME2",
            bits_allocated=16,
            bits_stored=attributes.integer(dataset, "BitsStored") or 16,
            pixel_representation=attributes.integer(dataset, "PixelRepresentation") or 0,
            pixel_keyword="PixelData",
            extended_offsets=_extended_offsets(dataset),
        )
        for array, _ in islice(arrays, frames):
            count += 1
            yield array.view(np.uint16)
    except (RefusedError, OSError, MemoryError):
        # A disk or a machine in trouble says nothing about the pixels.
        raise
    except Exception as error:
        raise RefusedError(
            Reason.UNDECODABLE_PIXELS,
            f"{syntax.name} of instance {dataset.SOPInstanceUID} cannot be decoded",
        ) from error
    if count < frames:
        raise RefusedError(Reason.SHORT_PIXEL_DATA, f"{frames} frames declared, {count} found")


def _plugin(syntax: UID) -> str:
    """Choose the first installed decoder of a transfer syntax."""
    if syntax not in _PLUGINS:
        raise RefusedError(Reason.UNSUPPORTED_TRANSFER_SYNTAX, f"transfer syntax {syntax.name}")
    decoder = get_decoder(syntax)
    for name in _PLUGINS[syntax]:
        if name in decoder.available_plugins:
            return name
    wanted = [line for line in decoder.missing_dependencies if line.startswith(_PLUGINS[syntax])]
    raise ConfigurationError(
        f"no decoder of {syntax.name} is installed; install one of: {'; '.join(wanted)}"
    )


def _check_frames(encoded: bytes, dataset: Dataset, shape: tuple[int, int, int]) -> None:
    """Compare what codestreams declare with the data set: decoders allocate by the codestream."""
    frames, rows, columns = shape
    syntax = UID(dataset.file_meta.TransferSyntaxUID)
    found = generate_frames(
        encoded, number_of_frames=frames, extended_offsets=_extended_offsets(dataset)
    )
    for frame in islice(found, frames):
        if not declares(frame, syntax, rows, columns):
            raise RefusedError(
                Reason.UNDECODABLE_PIXELS,
                f"{syntax.name} of instance {dataset.SOPInstanceUID} does not declare one "
                f"component of {rows} x {columns} 16-bit pixels",
            )
        if not is_whole(frame, syntax):
            raise RefusedError(
                Reason.UNDECODABLE_PIXELS,
                f"{syntax.name} of instance {dataset.SOPInstanceUID} ends before its end marker",
            )


def _extended_offsets(dataset: Dataset) -> tuple[Any, Any] | None:
    offsets = attributes.value(dataset, "ExtendedOffsetTable")
    lengths = attributes.value(dataset, "ExtendedOffsetTableLengths")
    return (offsets, lengths) if offsets and lengths else None
