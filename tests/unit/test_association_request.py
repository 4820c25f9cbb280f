"""Whatever the first PDU is: it is a request, or it is said what is wrong with it."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.raw_association import association_request, pdu

from dicom_node.receiving.association_request import (
    AssociationRequest,
    NoAssociationRequestError,
    decode_association_request,
    parse_association_request,
)

# pydicom warns of UIDs that are none, which is what this is about.
pytestmark = pytest.mark.filterwarnings("ignore:Invalid value for VR UI")

GOOD = association_request("CT 1", "LUNGWATCH")


def test_who_calls_whom() -> None:
    assert parse_association_request(GOOD) == AssociationRequest("CT 1", "LUNGWATCH")
    assert decode_association_request(GOOD).calling_ae_title == "CT 1"


def test_what_cannot_be_printed_is_not_shown() -> None:
    odd = GOOD[:26] + b"\x1b[2J\xff\0".ljust(16) + GOOD[42:]
    assert parse_association_request(odd).calling_ae_title == "?[2J??"


def test_more_items_than_anybody_needs() -> None:
    with pytest.raises(NoAssociationRequestError, match="items"):
        parse_association_request(pdu(1, GOOD[6:] + b"\x21\0\0\0" * 9000))


@given(
    st.lists(
        st.tuples(st.integers(0, len(GOOD) - 1), st.binary(min_size=1, max_size=4)), max_size=8
    ),
    st.integers(0, len(GOOD)),
)
def test_mutated_requests(mutations: list[tuple[int, bytes]], length: int) -> None:
    mutated = bytearray(GOOD)
    for at, replacement in mutations:
        mutated[at : at + len(replacement)] = replacement
    for each in (bytes(mutated), bytes(mutated[:length])):
        with contextlib.suppress(NoAssociationRequestError):
            request = parse_association_request(each)
            assert request.calling_ae_title.isprintable()
            decode_association_request(each)


@given(st.binary(max_size=300))
def test_any_bytes(content: bytes) -> None:
    with contextlib.suppress(NoAssociationRequestError):
        parse_association_request(b"\x01" + content)
