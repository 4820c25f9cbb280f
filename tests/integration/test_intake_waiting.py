"""What waits in the inbox since it could not be taken, and which studies that holds up."""

from __future__ import annotations

import errno
import os
import signal
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import patch

import pytest
from structlog.testing import capture_logs
from support.small_ct import write_small_ct
from support.spooling import refusal, spool_file

from dicom_node.reading.decoder import Decoder
from dicom_node.reading.decoder_process import DecoderProcess
from dicom_node.reading.header import read_header
from dicom_node.reading.series import SelectionPolicy
from dicom_node.receiving.spool import uid_hash
from worker.db import studies
from worker.db.tables import Event, Instance, Study
from worker.intake.assembler import Assembler
from worker.intake.intake import Intake
from worker.lifecycle import StudyState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


@pytest.fixture
def database(sqlite_database):
    return sqlite_database


def test_an_instance_waits_while_the_decoder_is_ended_from_outside(
    database, spool, series_files, monkeypatch
):
    with Decoder() as decoder:
        intake = Intake(database, spool, settle_seconds=-1, decoder=decoder)
        decoder.read_header(series_files[0])
        os.kill(decoder.pid, signal.SIGKILL)
        spool_file(spool, series_files[0])
        assert intake.run_once() == 0
        assert len(list(spool.inbox())) == 1
        assert not intake.caught_up
        assert intake.run_once() == 1
        assert intake.caught_up
    with database.reading() as session:
        assert session.query(Instance).one().disposition == "accepted"


def test_a_file_over_which_the_kernel_kills_the_decoder_each_time_is_quarantined(
    database, spool, series_files, monkeypatch
):
    fatal = spool_file(spool, series_files[0]).path
    order = DecoderProcess.order

    def killed_over_it(process: DecoderProcess, content: dict[str, str]) -> None:
        kills = content["header"] == str(fatal)
        if kills:
            # Or it could have answered by the time it is killed.
            os.kill(process.pid, signal.SIGSTOP)
        order(process, content)
        if kills:
            os.kill(process.pid, signal.SIGKILL)

    monkeypatch.setattr(DecoderProcess, "order", killed_over_it)
    with Decoder() as decoder:
        intake = Intake(database, spool, settle_seconds=-1, decoder=decoder)
        spool_file(spool, series_files[1])
        assert [intake.run_once() for _ in range(3)] == [1, 0, 1]
        assert intake.caught_up
    with database.reading() as session:
        found = {i.disposition: i.reason for i in session.query(Instance)}
    assert found == {"accepted": None, "quarantined": "decoder_failed"}


FAILS_AT = {
    errno.ECHILD: "dicom_node.reading.decoder_process.DecoderProcess.receive",
    errno.ENOMEM: "subprocess.Popen",
    errno.EMFILE: "os.pipe",
    # The program is not there, as in the middle of an upgrade.
    errno.ENOENT: "subprocess.Popen",
}


@pytest.mark.parametrize("number", FAILS_AT)
def test_no_study_is_judged_while_the_machine_is_in_trouble(
    database, spool, tmp_path, monkeypatch, number
):
    def fails(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    for path in write_small_ct(tmp_path / "ct"):
        spool_file(spool, path)
    waiting = len(list(spool.inbox()))
    with Decoder() as decoder:
        intake = Intake(database, spool, settle_seconds=-1, decoder=decoder)
        with monkeypatch.context() as patch:
            patch.setattr(FAILS_AT[number], fails)
            for _ in range(3):
                assert intake.run_once() == 0
                assert not intake.caught_up
        assert intake.run_once() == waiting
        assert intake.caught_up


@contextmanager
def file_in_its_place(folder: Path) -> Iterator[None]:
    folder.touch()
    yield
    folder.unlink()


@contextmanager
def closed_folder(folder: Path) -> Iterator[None]:
    """As one that we may not enter; root, whom tests may run as, may enter all."""

    def guarded(method: Callable[..., object]) -> Callable[..., object]:
        def call(path: Path, *others: Path) -> object:
            if folder in {each.parent for each in (path, *others)}:
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            return method(path, *others)

        return call

    folder.mkdir()
    with (
        patch.object(Path, "exists", guarded(Path.exists)),
        patch.object(Path, "rename", guarded(Path.rename)),
    ):
        yield


@pytest.mark.parametrize("obstacle", [file_in_its_place, closed_folder])
def test_only_the_study_is_held_up_whose_recorded_file_cannot_be_moved(
    database, spool, series_files, tmp_path, obstacle
):
    stored = spool_file(spool, series_files[0])
    held_up = read_header(stored.path).study_instance_uid
    for path in write_small_ct(tmp_path / "ct"):
        spool_file(spool, path)
    intake, next_one = (Intake(database, spool, settle_seconds=-1) for _ in range(2))
    assembler = Assembler(database, SelectionPolicy())

    def states() -> dict[bool, StudyState]:
        with database.reading() as session:
            return {s.study_instance_uid == held_up: s.state for s in session.query(Study)}

    with obstacle(spool.study_folder(held_up)):
        # The second round finds it recorded, and a node that is started again knows it too.
        for each in (intake, intake, next_one):
            each.run_once()
            assert each.caught_up
            assembler.run_after(each)
            assert states()[True] == StudyState.RECEIVING
    assert states()[False] != StudyState.RECEIVING
    assert intake.run_once() == 1
    assembler.run_after(intake)
    assert states()[True] != StudyState.RECEIVING


def test_a_slice_that_comes_as_its_study_is_about_to_be_judged_is_waited_for(
    database, spool, series_files
):
    spool_file(spool, series_files[0])
    Intake(database, spool, settle_seconds=-1).run_once()
    spool_file(spool, series_files[1])
    assembler, listed = Assembler(database, SelectionPolicy()), studies.settled

    def listed_before(*arguments: object, **options: object) -> Sequence[int]:
        found = listed(*arguments, **options)
        Intake(database, spool, settle_seconds=60).run_once()
        return found

    with patch.object(studies, "settled", listed_before):
        assert assembler.run_once() == 1
    with database.reading() as session:
        assert session.query(Study).one().state is StudyState.RECEIVING


def test_a_file_that_cannot_be_read_holds_up_nothing(database, spool, series_files):
    # Reading the memory of a process from address 0 fails with EIO, for root too.
    name = "DOE^JOHN.dcm"
    (spool.root / "inbox" / name).symlink_to("/proc/self/mem")
    spool_file(spool, series_files[0])
    spool.note_refusal(refusal())
    intake = Intake(database, spool, settle_seconds=-1)
    with capture_logs() as logs:
        assert intake.run_once() == 2
        # What is missing in a study could be what failed only now.
        assert not intake.caught_up
        for _ in range(3):
            assert intake.run_once() == 0
            assert intake.caught_up
    assert [path.name for path in spool.inbox()] == [name]
    errors = [entry for entry in logs if entry["log_level"] == "error"]
    assert [entry["name_sha256"] for entry in errors] == [uid_hash(name)]
    assert errors[0]["error"] == "OSError: Input/output error"
    assert "DOE" not in str(logs)
    spool_file(spool, series_files[1])
    assert intake.run_once() == 1
    with database.reading() as session:
        assert session.query(Event).filter_by(event="refused_at_association").count() == 1
