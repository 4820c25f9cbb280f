"""What the listener leaves for the worker fills no disk, and a killed listener's rest goes."""

from __future__ import annotations

import errno
import json
import os
import threading
import time
from typing import TYPE_CHECKING

import pytest

from dicom_node.receiving import note_folder
from dicom_node.receiving.admissions import AdmissionNotes
from dicom_node.receiving.note_folder import NoteFolder
from dicom_node.receiving.spool import Spool

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("folder", ["refusals", "admissions"])
def test_what_a_killed_listener_left_half_written_goes_at_the_start(
    tmp_path: Path, folder: str
) -> None:
    spool = Spool(tmp_path / "spool")
    spool.prepare()
    old, fresh = (tmp_path / "spool" / folder / f"{name}.part" for name in ("old", "fresh"))
    old.touch()
    os.utime(old, (time.time() - 3600,) * 2)
    fresh.touch()
    spool.prepare()
    assert list(fresh.parent.iterdir()) == [fresh]


def test_of_many_threads_none_writes_more_than_may_wait(tmp_path: Path) -> None:
    notes = NoteFolder(tmp_path, 20)
    refused = []

    def write() -> None:
        for number in range(5):
            try:
                notes.write({"number": number})
            except OSError as error:
                refused.append(error.errno)

    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list(notes.read(json.loads))) == 20
    assert refused == [errno.EDQUOT] * 20


def test_admissions_that_could_not_be_noted_are_in_the_next_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    notes = AdmissionNotes(tmp_path)
    with monkeypatch.context() as full_disk:
        full_disk.setattr(note_folder, "RESERVED_BYTES", 2**60)
        with pytest.raises(OSError, match="would be free"):
            notes.admit("CT1", "192.0.2.7", None)
    notes.admit("CT1", "192.0.2.7", None)
    assert list(tmp_path.iterdir()) == []
    now[0] += 3600
    notes.admit("CT1", "192.0.2.7", None)
    assert [note.associations for _, note in notes.read()] == [3]


def test_admissions_that_nobody_takes_have_an_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicom_node.receiving.admissions.MAXIMUM_NOTES", 3)
    notes = AdmissionNotes(tmp_path)
    for number in range(3):
        notes.admit(f"AE{number}", "192.0.2.7", None)
    with pytest.raises(OSError, match="wait already"):
        notes.admit("AE3", "192.0.2.7", None)
    assert len(list(tmp_path.iterdir())) == 3
