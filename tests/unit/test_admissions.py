"""Who was let in is noted at once, then once an hour with the number of associations."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from dicom_node.receiving.admissions import AdmissionNotes

if TYPE_CHECKING:
    from pathlib import Path

_HOUR = 3600.0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_the_first_association_is_noted_at_once_and_the_rest_once_an_hour(tmp_path, clock):
    notes = AdmissionNotes(tmp_path)
    for _ in range(5):
        notes.admit("CT1", "192.0.2.7", None)
    clock[0] += _HOUR
    notes.admit("CT1", "192.0.2.7", None)
    notes.admit("CT1", "192.0.2.7", None)
    assert [note.associations for _, note in notes.read()] == [1, 5]


def test_title_address_and_certificate_make_a_caller(tmp_path):
    notes = AdmissionNotes(tmp_path)
    callers = [("CT1", "192.0.2.7", None), ("CT1", "192.0.2.8", None), ("CT1", "192.0.2.8", "ab")]
    for caller in callers * 2:
        notes.admit(*caller)
    told = [(n.calling_ae_title, n.peer_address, n.certificate) for _, n in notes.read()]
    assert told == callers


def test_associations_of_several_threads_are_all_counted(tmp_path, clock):
    notes = AdmissionNotes(tmp_path)
    threads = [
        threading.Thread(target=lambda: [notes.admit("CT1", "192.0.2.7", None) for _ in range(50)])
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    clock[0] += _HOUR
    notes.admit("CT1", "192.0.2.7", None)
    assert sum(note.associations for _, note in notes.read()) == 201


def test_callers_without_end_take_memory_with_an_end(tmp_path, clock, monkeypatch):
    monkeypatch.setattr("dicom_node.receiving.admissions._MAXIMUM_CALLERS", 3)
    notes = AdmissionNotes(tmp_path)
    for number in range(6):
        clock[0] += 1
        notes.admit(f"AE{number}", "192.0.2.7", None)
    notes.admit("AE5", "192.0.2.7", None)
    notes.admit("AE0", "192.0.2.7", None)
    told = [note.calling_ae_title for _, note in notes.read()]
    assert told == ["AE0", "AE1", "AE2", "AE3", "AE4", "AE5", "AE0"]


def test_a_note_that_cannot_be_read_holds_up_no_other(tmp_path: Path) -> None:
    notes = AdmissionNotes(tmp_path)
    (tmp_path / "0.json").write_text("{")
    notes.admit("CT1", "192.0.2.7", None)
    assert [note.calling_ae_title for _, note in notes.read()] == ["CT1"]
    assert not (tmp_path / "0.json").exists()
