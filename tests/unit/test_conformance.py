"""The conformance statement says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dicom_node.conformance import fill, tables
from dicom_node.contexts import accepted_contexts
from dicom_node.reasons import Reason
from dicom_node.receiving.refusals import EdgeReason
from dicom_node.status import StorageStatus

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "conformance.md"
# PS3.2 section A: the order of a conformance statement.
SECTIONS = [
    "Conformance statement overview",
    "Introduction",
    "Networking",
    "Media interchange",
    "Support of character sets",
    "Security",
    "Annexes",
]


@pytest.fixture(scope="module")
def text() -> str:
    return DOCUMENT.read_text(encoding="utf-8")


def test_every_table_is_there_and_true(text: str) -> None:
    for name in tables():
        assert f"<!-- table: {name} -->" in text
    assert fill(text) == text, "run: python -m dicom_node.conformance docs/conformance.md"


def test_a_table_that_is_not_true_is_noticed(text: str) -> None:
    assert fill(text.replace("| CT Image Storage |", "| CT Picture Storage |")) == text
    with pytest.raises(KeyError):
        fill("<!-- table: no-such -->\n<!-- end of table -->")


def test_every_context_of_the_listener_is_in_its_table() -> None:
    table = tables()["accepted-classes"]
    for context in accepted_contexts():
        assert f"| {context.abstract_syntax} |" in table


def test_it_is_in_the_order_of_the_standard(text: str) -> None:
    headings = re.findall(r"^## \d+ (.+)$", text, re.MULTILINE)
    assert headings == SECTIONS


@pytest.mark.parametrize("status", StorageStatus)
def test_every_status_is_explained(text: str, status: StorageStatus) -> None:
    assert f"0x{status:04X}" in text


@pytest.mark.parametrize(
    "reason", [*EdgeReason, Reason.UNSUPPORTED_TRANSFER_SYNTAX, Reason.TOO_LARGE]
)
def test_every_reason_of_the_edge_is_explained(text: str, reason: str) -> None:
    assert f"`{reason}`" in text
