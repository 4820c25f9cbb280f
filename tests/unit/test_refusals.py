"""Refusal notes: what is noted, what is not noted twice, and that they cannot fill the disk."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from dicom_node.reasons import Reason
from dicom_node.receiving import refusals
from dicom_node.receiving.refusals import EdgeReason, RefusalNote
from dicom_node.receiving.spool import Spool

if TYPE_CHECKING:
    from pathlib import Path

NOTE = RefusalNote(
    time=datetime(2026, 11, 22, 14, 0, tzinfo=UTC),
    reason=Reason.UNSUPPORTED_TRANSFER_SYNTAX.value,
    calling_ae_title="MODALITY",
    called_ae_title="LUNGWATCH",
    peer_address="192.0.2.1",
    detail="CT Image Storage is not accepted in JPEG Baseline.",
    sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
    transfer_syntax_uids=("1.2.840.10008.1.2.4.50",),
)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    spool = Spool(tmp_path / "spool")
    spool.prepare()
    return spool


def test_a_note_comes_back_as_it_was(spool: Spool) -> None:
    spool.note_refusal(NOTE)
    ((path, note),) = spool.refusals()
    assert note == NOTE
    spool.drop_refusal(path)
    spool.drop_refusal(path)
    assert list(spool.refusals()) == []


def test_notes_come_oldest_first(spool: Spool) -> None:
    titles = [f"SENDER{number}" for number in range(20)]
    for title in titles:
        spool.note_refusal(replace(NOTE, calling_ae_title=title))
    assert [note.calling_ae_title for _, note in spool.refusals()] == titles


def test_a_repetition_is_noted_once_also_after_it_was_dropped(spool: Spool) -> None:
    for _ in range(5):
        spool.note_refusal(replace(NOTE, time=datetime.now(UTC)))
    ((path, _),) = spool.refusals()
    spool.drop_refusal(path)
    spool.note_refusal(NOTE)
    assert list(spool.refusals()) == []
    spool.note_refusal(replace(NOTE, reason=EdgeReason.CALLING_AE_NOT_ALLOWED.value))
    assert len(list(spool.refusals())) == 1


def test_one_address_has_a_share_and_the_others_theirs(spool: Spool) -> None:
    noted = [
        spool.note_refusal(replace(NOTE, calling_ae_title=f"A{number}"))
        for number in range(refusals.NOTES_OF_AN_ADDRESS + 50)
    ]
    assert noted.count(True) == refusals.NOTES_OF_AN_ADDRESS
    assert spool.note_refusal(replace(NOTE, peer_address="192.0.2.2"))


def test_notes_do_not_grow_without_end_even_while_somebody_takes_them_away(spool: Spool) -> None:
    noted = 0
    for number in range(refusals.MAXIMUM_NOTES + 50):
        noted += spool.note_refusal(replace(NOTE, peer_address=f"192.0.{number // 99}.{number}"))
        if number % 100 == 0:
            for path, _ in spool.refusals():
                spool.drop_refusal(path)
    assert noted == refusals.MAXIMUM_NOTES


def test_a_folder_that_nobody_empties_takes_no_more(spool: Spool) -> None:
    for number in range(refusals.MAXIMUM_NOTES):
        (spool.root / "refusals" / f"{number}.json").touch()
    assert not spool.note_refusal(NOTE)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"time": "yesterday"}', '{"reason": "x"}'])
def test_a_note_that_a_power_cut_spoilt_does_not_hold_up_the_others(
    spool: Spool, content: str
) -> None:
    spoilt = spool.root / "refusals" / "00000000000000000001-00000000.json"
    spoilt.write_text(content)
    spool.note_refusal(NOTE)
    assert [note for _, note in spool.refusals()] == [NOTE]
    assert not spoilt.exists()
