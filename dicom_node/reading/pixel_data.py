"""Where the pixel data lies in a DICOM file, and whether all of it is there."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from pydicom.uid import UID

from dicom_node.reading import attributes

if TYPE_CHECKING:
    from pydicom import Dataset

_PIXEL_DATA = (0x7FE0, 0x0010)
_ITEM = (0xFFFE, 0xE000)
_SEQUENCE_DELIMITER = (0xFFFE, 0xE0DD)
_UNDEFINED_LENGTH = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class PixelDataExtent:
    """The value of the Pixel Data element in its file.

    Attributes
    ----------
    offset
        First byte of the value.
    complete
        Whether the file holds all the bytes that the attributes (native) or the fragments
        (encapsulated, PS3.5 section A.4) declare. `dcmread` does not complain when it does not.
    """

    offset: int
    complete: bool


def locate_pixel_data(file: BinaryIO, dataset: Dataset) -> PixelDataExtent | None:
    """Find the pixel data behind a data set that was read with ``stop_before_pixels``.

    Parameters
    ----------
    file
        The open file, where `dcmread` left it: at the tag of the pixel data.
    dataset
        The data set that was read, with its file meta information.

    Returns
    -------
    PixelDataExtent or None
        None where the data set ends without Pixel Data, or is big endian.
    """
    syntax = UID(attributes.uid(dataset.file_meta, "TransferSyntaxUID"))
    explicit = not syntax.is_implicit_VR
    head = file.read(12 if explicit else 8)
    if len(head) < (12 if explicit else 8) or struct.unpack("<HH", head[:4]) != _PIXEL_DATA:
        return None
    offset = file.tell()
    end = file.seek(0, os.SEEK_END)
    (declared,) = struct.unpack("<I", head[-4:])
    if syntax.is_compressed:
        return PixelDataExtent(offset, _fragments_are_whole(file, offset, end))
    expected = native_length(dataset)
    complete = expected is not None and expected <= declared and offset + declared <= end
    return PixelDataExtent(offset, complete)


def native_length(dataset: Dataset) -> int | None:
    """Give the bytes that native pixel data takes (PS3.5 section 8.1.1), or None if unknown."""
    factors = [attributes.integer(dataset, k) for k in ("Rows", "Columns", "BitsAllocated")]
    frames = attributes.integer(dataset, "NumberOfFrames") or 1
    samples = attributes.integer(dataset, "SamplesPerPixel") or 1
    rows, columns, bits = factors
    if rows is None or columns is None or bits is None:
        return None
    return (rows * columns * bits * frames * samples + 7) // 8


def _fragments_are_whole(file: BinaryIO, offset: int, end: int) -> bool:
    while offset + 8 <= end:
        file.seek(offset)
        group, element, length = struct.unpack("<HHI", file.read(8))
        if (group, element) == _SEQUENCE_DELIMITER:
            return True
        if (group, element) != _ITEM or length == _UNDEFINED_LENGTH:
            return False
        offset += 8 + length
    return False
