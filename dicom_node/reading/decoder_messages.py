"""What a decoder and its child process say to each other: orders as JSON lines, framed replies."""

from __future__ import annotations

import os
import struct
from enum import IntEnum

# A busy machine is no fault of the instance's: what takes this much longer than processor time
# stands still.
WALL_CLOCK_FACTOR = 3

_HEAD = struct.Struct("<BI")
HEAD_BYTES = _HEAD.size


class Kind(IntEnum):
    """What a reply holds."""

    READY = 1
    """Nothing: all is imported, orders are welcome."""
    FRAME = 2
    """The 16-bit cells of one frame."""
    HEADER = 3
    """JSON of an `InstanceHeader`."""
    END = 4
    """Nothing: all frames of the order were given."""
    REFUSED = 5
    """JSON: coded reason and detail of a `RefusedError`."""
    MISCONFIGURED = 6
    """JSON: message of a `ConfigurationError`."""
    SYSTEM = 7
    """JSON: number and text of an error of the operating system."""
    FAILED = 8
    """JSON: name of an error nobody foresaw."""


def send(descriptor: int, kind: Kind, payload: bytes | memoryview = b"") -> None:
    """Write one reply to a pipe."""
    for part in (_HEAD.pack(kind, len(payload)), payload):
        left = memoryview(part)
        while left:
            left = left[os.write(descriptor, left) :]


def unpack_head(head: bytes | bytearray) -> tuple[Kind, int]:
    """Give kind and payload length of a reply from its first `HEAD_BYTES` bytes.

    Raises
    ------
    ValueError
        If it is none.
    """
    kind, length = _HEAD.unpack(head)
    return Kind(kind), length
