"""The image size that a compressed frame itself declares, read before any decoder allocates it."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from pydicom.uid import JPEG2000Lossless, RLELossless

if TYPE_CHECKING:
    from pydicom.uid import UID

# Start-of-frame markers: C0 to CF without DHT, JPG and DAC; F7 is JPEG-LS (ISO 14495-1).
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC} | {0xF7}
_SEGMENTS_OF_16_BITS = 2


def declares(frame: bytes, syntax: UID, rows: int, columns: int) -> bool:
    """Tell whether a compressed frame declares one component of the given size.

    Decoders allocate by the codestream, so a few bytes could ask for gigabytes whatever the data
    set says.

    Parameters
    ----------
    frame
        The compressed frame, its fragments joined.
    syntax
        Its transfer syntax: a JPEG, JPEG-LS, JPEG 2000 or RLE one. RLE (PS3.5 annex G) declares
        only its number of segments, two for 16-bit pixels.
    rows, columns
        Of the data set.

    Raises
    ------
    struct.error, IndexError
        If the frame ends before its header does.
    """
    if syntax == RLELossless:
        return struct.unpack_from("<I", frame) == (_SEGMENTS_OF_16_BITS,)
    if syntax == JPEG2000Lossless:
        return _jpeg_2000_size(frame) == (rows, columns, 1)
    return _jpeg_size(frame) == (rows, columns, 1)


def is_whole(frame: bytes, syntax: UID) -> bool:
    """Tell whether a compressed frame runs to its end marker; libjpeg fills in what is missing.

    EOI of JPEG and JPEG-LS and EOC of JPEG 2000 are the same bytes. RLE has none: its decoders
    count the pixels.
    """
    return syntax == RLELossless or frame.rstrip(b"\0").endswith(b"\xff\xd9")


def _jpeg_size(frame: bytes) -> tuple[int, int, int] | None:
    """Give rows, columns and components of the first start-of-frame segment (ISO 10918-1 B.2.2)."""
    at = 2
    while frame[at] == 0xFF:
        if frame[at + 1] in _START_OF_FRAME:
            rows, columns, components = struct.unpack_from(">HHB", frame, at + 5)
            return rows, columns, components
        (length,) = struct.unpack_from(">H", frame, at + 2)
        at += 2 + length
    return None


def _jpeg_2000_size(frame: bytes) -> tuple[int, int, int] | None:
    """Give rows, columns and components of the SIZ segment (ISO 15444-1 A.5.1)."""
    if frame[2:4] != b"\xff\x51":
        return None
    right, bottom, left, top = struct.unpack_from(">IIII", frame, 8)
    (components,) = struct.unpack_from(">H", frame, 40)
    return bottom - top, right - left, components
