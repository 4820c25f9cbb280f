"""The bounds of a data set, found before it is parsed: where it ends, how deep and long it is.

A walk over tags and lengths alone (PS3.5 section 7.1), without recursion and without reading a
value: what it costs does not depend on the lengths and the nesting that a sender declares. Where
data sets break the rules of the standard it follows pydicom's, which parses them afterwards.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from pydicom.datadict import dictionary_VR
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32

from dicom_node.errors import RefusedError
from dicom_node.reasons import Reason

if TYPE_CHECKING:
    from typing import BinaryIO

_UNDEFINED_LENGTH = 0xFFFFFFFF
_ITEM_END = 0xFFFEE00D
_SEQUENCE_END = 0xFFFEE0DD
# Pixel Data and its floating-point relatives (PS3.3 section C.7.6.24).
_PIXELS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
_LONG_VRS = frozenset(str(vr).encode() for vr in EXPLICIT_VR_LENGTH_32)


@dataclass(frozen=True, slots=True)
class Ceilings:
    """The largest data set that is parsed, without its pixels.

    Attributes
    ----------
    depth
        Sequences within sequences; content trees of structured reports reach a dozen.
    elements
        Elements and items together; an enhanced CT of 2,000 frames has a tenth.
    value_bytes
        Of all values together.
    """

    depth: int = 32
    elements: int = 500_000
    value_bytes: int = 128 * 1024 * 1024


class Structure(NamedTuple):
    """What the walk found.

    Attributes
    ----------
    end
        Where the elements before the pixel data end in the file: at the tag of the pixel data, at
        the end of the file, or at the top-level element that the file breaks off in.
    whole
        Whether the file does not break off before that.
    elements, value_bytes
        How much there is to parse, as in `Ceilings`.
    """

    end: int
    whole: bool
    elements: int
    value_bytes: int


class _Level(NamedTuple):
    """A sequence, or an item of one, that the walk is in."""

    holds_items: bool
    end: int | None
    """None where a delimiter ends it."""
    opaque: bool = False
    """Whether its items hold bytes, as fragments of pixel data do, instead of elements."""


class _BreaksOffError(Exception):
    """The file ends within an element."""


def survey(
    file: BinaryIO, *, implicit: bool, big_endian: bool = False, ceilings: Ceilings | None = None
) -> Structure:
    """Walk over the elements of a data set up to its pixel data.

    Parameters
    ----------
    file
        Open at the first element.
    implicit, big_endian
        How it is encoded.
    ceilings
        The largest that may be parsed.

    Raises
    ------
    RefusedError
        TOO_LARGE.
    """
    walk = _Walk(file, ceilings or Ceilings(), implicit=implicit, big_endian=big_endian)
    top = walk.at
    whole = True
    try:
        while walk.step():
            if walk.is_at_top:
                top = walk.at
    except _BreaksOffError:
        whole = False
    return Structure(top, whole, walk.elements, walk.value_bytes)


class _Walk:
    def __init__(
        self, file: BinaryIO, ceilings: Ceilings, *, implicit: bool, big_endian: bool
    ) -> None:
        order = ">" if big_endian else "<"
        self._file = file
        self._ceilings = ceilings
        self._implicit = implicit
        self._explicit_head = struct.Struct(f"{order}HH2sH")
        self._implicit_head = struct.Struct(f"{order}HHL")
        self._long_length = struct.Struct(f"{order}L")
        self._levels: list[_Level] = []
        self.elements = 0
        self.value_bytes = 0
        self.at = file.tell()
        self._size = file.seek(0, os.SEEK_END)
        file.seek(self.at)

    @property
    def is_at_top(self) -> bool:
        """Whether the walk is in no sequence."""
        return not self._levels

    def step(self) -> bool:
        """Go past one element, item or delimiter; tell whether there is more before the pixels."""
        if self._left_behind():
            return True
        if not self._levels and self.at == self._size:
            return False
        head = self._read(8)
        self.elements += 1
        self._hold("elements", self.elements, self._ceilings.elements)
        if self._levels and self._levels[-1].holds_items:
            self._pass_item(head)
            return True
        return self._pass_element(head)

    def _left_behind(self) -> bool:
        """Leave the outermost sequence or item whose declared end is reached, and all within it."""
        for index, level in enumerate(self._levels):
            if level.end is not None and self.at >= level.end:
                del self._levels[index + 1 :]
                self._leave()
                return True
        return False

    def _pass_item(self, head: bytes) -> None:
        group, element, length = self._implicit_head.unpack(head)
        if group << 16 | element == _SEQUENCE_END:
            self._leave()
        elif self._levels[-1].opaque:
            self._skip(length)
        else:
            self._enter(length, holds_items=False)

    def _pass_element(self, head: bytes) -> bool:
        tag, vr, length = self._unpack(head)
        if tag == _ITEM_END:
            if not self._levels:
                return False
            self._leave()
        elif tag in _PIXELS and not self._levels:
            return False
        elif self._is_sequence(tag, vr, length):
            self._enter(length, holds_items=True)
        elif length == _UNDEFINED_LENGTH:
            self._enter(length, holds_items=True, opaque=True)
        else:
            self._skip(length)
        return True

    def _unpack(self, head: bytes) -> tuple[int, bytes | None, int]:
        """Give tag, VR (None where it is not written) and length, by pydicom's rules."""
        if not self._implicit:
            group, element, vr, length = self._explicit_head.unpack(head)
            if vr in _LONG_VRS:
                (length,) = self._long_length.unpack(self._read(4))
            if b"AA" <= vr <= b"ZZ":
                return group << 16 | element, vr, length
            # Some writers turn to implicit VR within sequences.
        group, element, length = self._implicit_head.unpack(head)
        return group << 16 | element, None, length

    @staticmethod
    def _is_sequence(tag: int, vr: bytes | None, length: int) -> bool:
        if vr is not None:
            # PS3.5 section 6.2.2: unknown, of undefined length, is a sequence in implicit VR.
            return vr == b"SQ" or (vr == b"UN" and length == _UNDEFINED_LENGTH)
        try:
            return dictionary_VR(tag) == "SQ"
        except KeyError:
            return length == _UNDEFINED_LENGTH

    def _enter(self, length: int, *, holds_items: bool, opaque: bool = False) -> None:
        end = None if length == _UNDEFINED_LENGTH else self._end_of(length)
        self._levels.append(_Level(holds_items, end, opaque))
        depth = sum(level.holds_items for level in self._levels)
        self._hold("sequences within each other", depth, self._ceilings.depth)

    def _leave(self) -> None:
        """Leave a sequence or an item; one of a declared length ends there whatever it holds."""
        end = self._levels.pop().end
        if end is not None:
            self._seek(end)

    def _skip(self, length: int) -> None:
        end = self._end_of(length)
        self.value_bytes += end - self.at
        self._hold("bytes of values", self.value_bytes, self._ceilings.value_bytes)
        self._seek(end)

    def _end_of(self, length: int) -> int:
        """Tell where something of that length ends that begins here."""
        end = self.at + length
        enclosing = next((level.end for level in reversed(self._levels) if level.end), None)
        if enclosing is not None:
            return min(end, enclosing)
        if end > self._size:
            raise _BreaksOffError
        return end

    def _read(self, count: int) -> bytes:
        found = self._file.read(count)
        if len(found) < count:
            raise _BreaksOffError
        self.at += count
        return found

    def _seek(self, at: int) -> None:
        self.at = self._file.seek(at)

    @staticmethod
    def _hold(name: str, found: int, ceiling: int) -> None:
        if found > ceiling:
            raise RefusedError(Reason.TOO_LARGE, f"more than {ceiling} {name}, the most we parse")
