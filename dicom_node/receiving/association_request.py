"""The first PDU of a connection, looked at before anything is built for it (PS3.8 section 9.3)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from pynetdicom.pdu import A_ASSOCIATE_RQ

_TYPE = b"\x01"

# 128 presentation contexts are the most there can be, since their identifiers are odd and end at
# 255 (PS3.8 section 9.3.2.2); this leaves each of them sixty transfer syntaxes. pynetdicom takes
# seconds for a request of the same length that is made of empty items.
_MOST_ITEMS = 8192
_VARIABLE_ITEMS_AT = 74
# Of the version its first bit alone is tested (PS3.8 table 9-11); the rejection is of table 9-21.
_PROTOCOL_VERSION, _PROTOCOL_VERSION_NOT_SUPPORTED = 1, (1, 2, 2)
_PRESENTATION_CONTEXT, _USER_INFORMATION = 0x20, 0x50


@dataclass(frozen=True, slots=True)
class AssociationRequest:
    """Who calls whom.

    Attributes
    ----------
    calling_ae_title, called_ae_title
        As sent, without the spaces around it; what cannot be printed is shown as ``?``.
    """

    calling_ae_title: str
    called_ae_title: str


class NoAssociationRequestError(Exception):
    """What was sent is no A-ASSOCIATE-RQ that can be read; the message says why.

    Attributes
    ----------
    answer
        The PDU to part with.
    """

    def __init__(self, message: str, answer: bytes | None = None) -> None:
        super().__init__(message)
        self.answer = abort() if answer is None else answer


def parse_association_request(pdu: bytes) -> AssociationRequest:
    """Read the fixed fields of an A-ASSOCIATE-RQ (PS3.8 table 9-11) and count its items.

    Raises
    ------
    NoAssociationRequestError
        If it is none, or has more items than any sender has use for.
    """
    if pdu[:1] != _TYPE:
        msg = "the first PDU is no A-ASSOCIATE-RQ"
        raise NoAssociationRequestError(msg)
    if len(pdu) < _VARIABLE_ITEMS_AT:
        msg = "the A-ASSOCIATE-RQ ends within its fixed fields"
        raise NoAssociationRequestError(msg)
    if not pdu[7] & 1:
        msg = "the A-ASSOCIATE-RQ is of another version of the protocol"
        raise NoAssociationRequestError(msg, rejection(*_PROTOCOL_VERSION_NOT_SUPPORTED))
    if _count_items(pdu) > _MOST_ITEMS:
        msg = f"the A-ASSOCIATE-RQ has more than {_MOST_ITEMS} items"
        raise NoAssociationRequestError(msg)
    return AssociationRequest(_ae_title(pdu[26:42]), _ae_title(pdu[10:26]))


def decode_association_request(pdu: bytes) -> A_ASSOCIATE_RQ:
    """Decode an A-ASSOCIATE-RQ as pynetdicom does.

    Raises
    ------
    NoAssociationRequestError
        If pynetdicom cannot make sense of it.
    """
    decoded = A_ASSOCIATE_RQ()
    try:
        decoded.decode(pdu)
        contexts = decoded.to_primitive().presentation_context_definition_list
    except Exception as error:
        # It has no error of its own for this, and raises whatever it trips over.
        msg = f"the A-ASSOCIATE-RQ cannot be decoded ({type(error).__name__})"
        raise NoAssociationRequestError(msg) from error
    if not all(context.abstract_syntax and context.transfer_syntax for context in contexts):
        # pynetdicom decodes it, and trips over it when it negotiates (PS3.8 section 9.3.2.2).
        msg = "a presentation context lacks its abstract or its transfer syntax"
        raise NoAssociationRequestError(msg)
    # pynetdicom tests all bits, and keeps the thread of a request it rejects for seconds.
    decoded.protocol_version = _PROTOCOL_VERSION
    return decoded


def rejection(result: int, source: int, reason: int) -> bytes:
    """Encode an A-ASSOCIATE-RJ (PS3.8 table 9-21)."""
    return struct.pack(">BxLxBBB", 0x03, 4, result, source, reason)


def abort() -> bytes:
    """Encode an A-ABORT by the service provider, for an unexpected PDU (PS3.8 table 9-26)."""
    return struct.pack(">BxLxxBB", 0x07, 4, 2, 2)


def _count_items(pdu: bytes) -> int:
    """Count items and sub-items; lengths that lead out of the PDU are pynetdicom's to refuse."""
    count, at = 0, _VARIABLE_ITEMS_AT
    while at + 4 <= len(pdu) and count <= _MOST_ITEMS:
        item_type, length = struct.unpack_from(">BxH", pdu, at)
        count += 1
        # These two hold items of their own: step into them, past the fields before those.
        at += {_PRESENTATION_CONTEXT: 8, _USER_INFORMATION: 4}.get(item_type, 4 + length)
    return count


def _ae_title(field: bytes) -> str:
    text = field.decode("ascii", "replace")
    return "".join(each if " " <= each <= "~" else "?" for each in text).strip()
