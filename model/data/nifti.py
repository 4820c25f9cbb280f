"""Slices of a NIfTI-1 volume, upright: rows run to the back of the patient, columns to the left."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from model.errors import DatasetError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

_HEADER_BYTES = 348
_TYPES = {
    2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4",
}  # fmt: skip
_LARGEST_BYTES = 4 * 1024**3


@dataclass(frozen=True, slots=True, eq=False)
class NiftiVolume:
    """A volume as it is stored.

    Attributes
    ----------
    values
        Array of (x, y, slices) as stored, scaled by slope and intercept.
    directions
        Columns of the affine towards (right, anterior, superior), (3, 3), or None where the file
        does not say how it lies.
    """

    values: NDArray[np.float32]
    directions: NDArray[np.float64] | None

    def upright(self, index: int) -> NDArray[np.float32]:
        """Return one slice of (rows, columns) in radiological orientation.

        Raises
        ------
        DatasetError
            If there is no such slice, or the third axis does not run along the patient.
        """
        if not 0 <= index < self.values.shape[2]:
            raise DatasetError(f"has slices 0 to {self.values.shape[2] - 1}, not {index}")
        plane = self.values[:, :, index]
        if self.directions is None:
            return np.ascontiguousarray(plane.T)
        axes = np.argmax(np.abs(self.directions), axis=0)
        if axes[2] != 2 or set(axes[:2]) != {0, 1}:
            raise DatasetError("is not axial: its third axis does not run from foot to head")
        x, y = (0, 1) if axes[0] == 0 else (1, 0)
        plane = plane if x == 0 else plane.T
        # Columns are to run to the left, rows to the back: against right and anterior.
        if self.directions[0, x] > 0:
            plane = plane[::-1]
        if self.directions[1, y] > 0:
            plane = plane[:, ::-1]
        return np.ascontiguousarray(plane.T)


def read_nifti(path: Path) -> NiftiVolume:
    """Read a volume, ``.nii`` or ``.nii.gz``.

    Raises
    ------
    DatasetError
        If it is no NIfTI-1 file with three dimensions and a number type that is known.

    Notes
    -----
    https://nifti.nimh.nih.gov/nifti-1: the s-form gives the orientation, else the q-form; with
    neither the file is taken as stored x to the left, y to the back.
    """
    try:
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = _unzipped(data)
        return _parse(data)
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (struct.error, ValueError, OverflowError, EOFError, zlib.error) as error:
        raise DatasetError(f"{path}: is no readable NIfTI-1 volume: {error}") from error


def _unzipped(data: bytes) -> bytes:
    """Unzip with a ceiling: a small file may pretend to be a huge volume."""
    unzip = zlib.decompressobj(wbits=31)
    plain = unzip.decompress(data, _LARGEST_BYTES)
    if unzip.unconsumed_tail:
        raise ValueError(f"it holds more than {_LARGEST_BYTES >> 30} GiB")
    if not unzip.eof:
        raise EOFError("it is cut off")
    return plain


def _parse(data: bytes) -> NiftiVolume:
    order = next(
        (mark for mark in "<>" if struct.unpack_from(f"{mark}i", data)[0] == _HEADER_BYTES), ""
    )
    if not order or data[344:347] not in {b"n+1", b"ni1"}:
        raise ValueError("the header is not one")
    dimensions = struct.unpack_from(f"{order}8h", data, 40)
    shape = [max(1, size) for size in dimensions[1 : dimensions[0] + 1]]
    if not 2 <= len(shape) <= 7 or any(size > 1 for size in shape[3:]):
        raise ValueError(f"it has the dimensions {shape}, not three")
    shape = [*shape, 1][:3]
    (number_type,) = struct.unpack_from(f"{order}h", data, 70)
    if number_type not in _TYPES:
        raise ValueError(f"its number type {number_type} is none of {sorted(_TYPES)}")
    offset, slope, intercept = struct.unpack_from(f"{order}3f", data, 108)
    kind = np.dtype(order + _TYPES[number_type])
    stored = np.frombuffer(data, kind, int(np.prod(shape)), max(int(offset), _HEADER_BYTES))
    values = stored.reshape(shape, order="F").astype(np.float32)
    if slope and np.isfinite([slope, intercept]).all():
        values = values * np.float32(slope) + np.float32(intercept)
    return NiftiVolume(values, _directions(data, order))


def _directions(data: bytes, order: str) -> NDArray[np.float64] | None:
    quaternion_code, affine_code = struct.unpack_from(f"{order}2h", data, 252)
    if affine_code > 0:
        rows = np.array(struct.unpack_from(f"{order}12f", data, 280)).reshape(3, 4)
        return rows[:, :3]
    if quaternion_code > 0:
        b, c, d = struct.unpack_from(f"{order}3f", data, 256)
        a = np.sqrt(max(0.0, 1 - b * b - c * c - d * d))
        rotation = np.array(
            [
                [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
                [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
                [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
            ]
        )
        (handedness,) = struct.unpack_from(f"{order}f", data, 76)
        rotation[:, 2] *= -1 if handedness < 0 else 1
        return rotation
    return None
