"""Mutations of PDUs: blind ones of bytes, and ones that know where lengths, types and tags are.

Blind mutations seldom get past the first check of a length. So the PDU's own length is put right
again more often than not, and items, presentation data values and command elements are changed one
field at a time.
"""

from __future__ import annotations

import struct
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    Mutation = Callable[[Random, bytearray], None]

_HEADER_BYTES = 6
_ITEMS_AT = 74
_P_DATA_TF = 4
_BOUNDARIES = {
    1: (0, 1, 0x7F, 0x80, 0xFF),
    2: (0, 1, 2, 0x7FFF, 0x8000, 0xFFFE, 0xFFFF),
    4: (0, 1, 2, 5, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF),
}
_LONGEST = 64 * 1024


def mutate_conversation(
    random: Random, pdus: Sequence[bytes], share: float = 0.4
) -> tuple[list[bytes], int]:
    """Mutate about a share of the PDUs, and at least one; now and then their number too.

    Returns
    -------
    list of bytes
        The conversation.
    int
        How many of its PDUs are mutated.

    Notes
    -----
    The first PDU decides whether there is an association at all, so it is left alone in two of
    three conversations.
    """
    spared = len(pdus) > 1 and random.random() < 0.67
    chosen = {random.randrange(int(spared), len(pdus))}
    chosen |= {n for n in range(int(spared), len(pdus)) if random.random() < share}
    mutated = [mutate(random, pdu) if n in chosen else pdu for n, pdu in enumerate(pdus)]
    if random.random() < 0.1:
        at = random.randrange(int(spared), len(mutated))
        mutated[at:at] = [random.choice(mutated)] * random.randrange(1, 4)
    return mutated, len(chosen)


def conversations(
    corpus: Mapping[str, Sequence[bytes]], seed: str, mutated: int
) -> Iterator[list[bytes]]:
    """Yield mutated conversations, the same for the same seed, until so many PDUs are mutated."""
    random = Random(seed)  # noqa: S311 - nothing is kept secret with it
    names = sorted(corpus)
    while mutated > 0:
        conversation, count = mutate_conversation(random, corpus[random.choice(names)])
        mutated -= count
        yield conversation


def mutate(random: Random, pdu: bytes) -> bytes:
    """Mutate one PDU."""
    mutated = bytearray(pdu)
    for _ in range(random.choice((1, 1, 1, 2, 3, 6))):
        random.choice(_MUTATIONS)(random, mutated)
        del mutated[_LONGEST:]
    if random.random() < 0.8 and len(mutated) >= _HEADER_BYTES:
        struct.pack_into(">L", mutated, 2, len(mutated) - _HEADER_BYTES)
    return bytes(mutated)


def _flip_bit(random: Random, pdu: bytearray) -> None:
    if pdu:
        pdu[random.randrange(len(pdu))] ^= 1 << random.randrange(8)


def _set_byte(random: Random, pdu: bytearray) -> None:
    if pdu:
        pdu[random.randrange(len(pdu))] = random.randrange(256)


def _set_boundary(random: Random, pdu: bytearray) -> None:
    size = random.choice((1, 2, 4))
    if len(pdu) >= size:
        order = random.choice(("big", "little"))
        value = random.choice(_BOUNDARIES[size]).to_bytes(size, order)
        _put(pdu, random.randrange(len(pdu) - size + 1), value)


def _delete(random: Random, pdu: bytearray) -> None:
    start, stop = _slice(random, pdu)
    del pdu[start:stop]


def _repeat(random: Random, pdu: bytearray) -> None:
    start, stop = _slice(random, pdu)
    pdu[stop:stop] = pdu[start:stop] * random.choice((1, 2, 50))


def _insert(random: Random, pdu: bytearray) -> None:
    at = random.randint(0, len(pdu))
    pdu[at:at] = random.randbytes(random.choice((1, 2, 4, 16, 300)))


def _truncate(random: Random, pdu: bytearray) -> None:
    del pdu[random.randint(0, len(pdu)) :]


def _change_header(random: Random, pdu: bytearray) -> None:
    if len(pdu) < _HEADER_BYTES:
        return
    if random.random() < 0.5:
        pdu[0] = random.choice((*range(9), 0x20, 0xFF))
    else:
        struct.pack_into(">L", pdu, 2, random.choice(_BOUNDARIES[4]))


def _change_item(random: Random, pdu: bytearray) -> None:
    """Change an item or sub-item of an association PDU (PS3.8 sections 9.3.2 and D)."""
    places = _items(pdu)
    if not places:
        return
    at, end = random.choice(places)
    what = random.randrange(5)
    if what == 0:
        pdu[at] = random.choice((0x10, 0x20, 0x21, 0x30, 0x40, 0x50, *range(0x51, 0x5A), 0, 0xFF))
    elif what == 1:
        length = random.choice((*_BOUNDARIES[2], end - at - 5, end - at - 3))
        struct.pack_into(">H", pdu, at + 2, length & 0xFFFF)
    elif what == 2:
        pdu[end:end] = pdu[at:end] * random.choice((1, 3, 200))
    elif what == 3:
        del pdu[at:end]
    else:
        _put(pdu, at + 4, random.randbytes(max(0, end - at - 4)))


def _items(pdu: bytearray) -> list[tuple[int, int]]:
    """Begin and end of each item that lies within the PDU."""
    places, at = [], _ITEMS_AT
    if not pdu or pdu[0] not in (1, 2):
        return places
    while at + 4 <= len(pdu):
        kind, length = struct.unpack_from(">BxH", pdu, at)
        end = min(at + 4 + length, len(pdu))
        places.append((at, end))
        at += {0x20: 8, 0x21: 8, 0x50: 4}.get(kind, 4 + length)
    return places


def _change_pdv(random: Random, pdu: bytearray) -> None:
    """Change length, context or message control header of a data value (PS3.8 section 9.3.5)."""
    if len(pdu) < 12 or pdu[0] != _P_DATA_TF:
        return
    what = random.randrange(4)
    if what == 0:
        struct.pack_into(">L", pdu, 6, random.choice((*_BOUNDARIES[4], len(pdu))))
    elif what == 1:
        pdu[10] = random.choice((0, 1, 2, 3, 5, 7, 9, 255))
    elif what == 2:
        pdu[11] = random.choice((0, 1, 2, 3, 4, 0xFF))
    else:
        # One more value after it, or the same in two halves.
        pdu.extend(pdu[6:])


def _change_command(random: Random, pdu: bytearray) -> None:
    """Change tag, length or value of an element of a command set (PS3.7 section 6.3.1)."""
    if len(pdu) < 20 or pdu[0] != _P_DATA_TF or not pdu[11] & 1:
        return
    places, at = [], 12
    while at + 8 <= len(pdu):
        (length,) = struct.unpack_from("<L", pdu, at + 4)
        places.append((at, min(at + 8 + length, len(pdu))))
        at += 8 + length
    at, end = random.choice(places)
    what = random.randrange(5)
    if what == 0:
        struct.pack_into("<H", pdu, at + 2, random.choice((0, 2, 0x100, 0x110, 0x800, 0xFFFF)))
    elif what == 1:
        struct.pack_into("<H", pdu, at, random.choice((8, 0x10, 0x7FE0, 0xFFFE)))
    elif what == 2:
        struct.pack_into("<L", pdu, at + 4, random.choice((*_BOUNDARIES[4], end - at - 7)))
    elif what == 3:
        _put(pdu, at + 8, random.randbytes(end - at - 8))
    else:
        del pdu[at:end]
    if random.random() < 0.8 and len(pdu) >= 12:
        struct.pack_into(">L", pdu, 6, len(pdu) - 10)


_MUTATIONS: tuple[Mutation, ...] = (
    _flip_bit,
    _set_byte,
    _set_boundary,
    _delete,
    _repeat,
    _insert,
    _truncate,
    _change_header,
    *(_change_item,) * 4,
    *(_change_pdv,) * 3,
    *(_change_command,) * 4,
)


def _slice(random: Random, pdu: bytearray) -> tuple[int, int]:
    start = random.randint(0, len(pdu))
    return start, min(len(pdu), start + random.choice((1, 2, 4, 8, 40)))


def _put(pdu: bytearray, at: int, value: bytes) -> None:
    pdu[at : at + len(value)] = value
