"""Retention where files cannot be removed, or something comes while it is at work."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from pydicom import dcmread
from pydicom.uid import BasicTextSRStorage
from structlog.testing import capture_logs
from support.audit_lines import lines
from support.command import lungwatch
from support.delivered_site import clean, deliver_study, delivered_site, files_of
from support.small_ct import write_small_ct
from support.spooling import spool_file

from dicom_node.errors import RefusedError
from dicom_node.reading.decoder import Decoder
from dicom_node.reasons import Reason
from worker import dispatch
from worker.audit_entry import AuditAction, AuditOutcome
from worker.db import retention
from worker.db.retention import Why
from worker.db.tables import Study
from worker.lifecycle import StudyState

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy.orm import Session
    from support.installation import Installation


@pytest.fixture
def site(tmp_path: Path, storing_pacs: int) -> Installation:
    return delivered_site(tmp_path, storing_pacs)


def test_a_file_that_cannot_be_removed_holds_up_no_other(site, tmp_path, monkeypatch):
    monkeypatch.setattr("worker.retention.retention._UNDER_ONE_LOCK", 5)
    victim = sorted((site.settings.spool_dir / "studies").rglob("*.dcm"))[3]
    victim.unlink()
    # Stands for whatever an unlink can end with.
    (victim / "in the way").mkdir(parents=True)
    with capture_logs() as logs:
        assert clean(site) == 0
    assert files_of(site) == []
    assert victim.is_dir()
    assert site.study().files_to_remove
    (line,) = (entry for entry in logs if entry["event"] == "files_not_removed")
    assert (line["study"], line["error"]) == (1, "IsADirectoryError: Is a directory")

    others = write_small_ct(tmp_path / "other", study="other")
    deliver_study(site, others)
    assert len(files_of(site)) == len(others) + 3
    assert clean(site) == 1, "the next study went"
    assert files_of(site) == []
    shutil.rmtree(victim)
    assert clean(site) == 0
    with site.database.reading() as session:
        assert not session.query(Study).filter_by(files_to_remove=True).count()


def test_the_log_tells_once_of_a_study_whose_files_stay(site):
    with site.database.transaction() as session:
        assert retention.mark(session, site.study().id, Why.DELIVERED)
    victim = next((site.settings.spool_dir / "studies").rglob("*.dcm"))
    victim.unlink()
    victim.mkdir()
    keeper = dispatch.retention(site.settings, site.database)
    with capture_logs() as logs:
        keeper.finish()
        keeper.finish()
    assert [entry["event"] for entry in logs] == ["files_not_removed"]


def test_results_count_as_removed_when_they_are_gone(site, monkeypatch):
    def fails(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    with monkeypatch.context() as patch:
        # For root no permission is missing.
        patch.setattr("shutil.rmtree", fails)
        assert clean(site) == 0
        assert site.study().files_to_remove
    assert len(files_of(site)) == 3
    clean(site)
    assert (files_of(site), site.study().files_to_remove) == ([], False)


def test_a_disk_that_lets_nothing_go_costs_no_second_study(site, tmp_path, monkeypatch):
    deliver_study(site, write_small_ct(tmp_path / "other", study="other"))

    def fails(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.unlink", fails)
        assert clean(site, retention_days=365, retention_free_mb=1 << 40) == 0
    with site.database.reading() as session:
        assert session.query(Study).filter_by(files_to_remove=True).count() == 1


def test_command_and_doctor_tell_of_files_that_the_disk_does_not_let_go(site):
    victim = sorted((site.settings.spool_dir / "studies").rglob("*.dcm"))[3]
    victim.unlink()
    (victim / "in the way").mkdir(parents=True)
    given = {name: getattr(site.settings, name) for name in ("data_dir", "retention_days")}
    done = lungwatch("studies", "clean", "--json", **given, retention_free_mb=0)
    assert (done.code, done.json) == (1, [])
    assert "files of study 1 could not be removed" in done.stderr
    cleaning = [each for each in lines(site.database) if each.action == AuditAction.STUDIES_CLEANED]
    assert [each.outcome for each in cleaning] == [
        AuditOutcome.SUCCESS,
        AuditOutcome.SERIOUS_FAILURE,
    ]

    def told() -> tuple[str, str]:
        checks = lungwatch("doctor", "--json", **given).json
        (check,) = (check for check in checks if check["part"] == "retention")
        return check["level"], check["message"]

    assert told()[0] == "ok"
    with site.database.transaction() as session:
        session.query(Study).one().cleaned_at = datetime.now(UTC) - timedelta(hours=3)
    level, message = told()
    assert level == "warn"
    assert message.startswith("files are left of study 1, whose removal began")


def late_report(site: Installation, folder: Path) -> Path:
    report = dcmread(site.files[0])
    report.SOPClassUID = report.file_meta.MediaStorageSOPClassUID = BasicTextSRStorage
    report.SOPInstanceUID = report.file_meta.MediaStorageSOPInstanceUID = "1.2.3.98"
    report.save_as(folder / "report.dcm")
    return folder / "report.dcm"


@pytest.mark.parametrize("comes", ["something new", "what was removed"])
def test_what_is_removed_between_its_record_and_its_move_leaves_no_file(
    site, tmp_path, monkeypatch, comes
):
    """Little disk free takes what was recorded a moment ago: there is no age to wait for."""
    path = late_report(site, tmp_path)
    low = {"retention_days": 0, "retention_free_mb": 1 << 40}
    if comes == "what was removed":
        site.receive([path])
        assert clean(site, **low) == 1
    record = site.database.transaction
    cleaned = []

    @contextmanager
    def raced() -> Iterator[Session]:
        with record() as session:
            yield session
        if not cleaned:
            monkeypatch.undo()
            cleaned.append(clean(site, **low))

    spool_file(site.spool, path)
    monkeypatch.setattr(site.database, "transaction", raced)
    site.intake.run_once()
    assert cleaned == [1]
    assert files_of(site) == []
    assert list(site.spool.inbox()) == []
    site.receive([path])
    assert len(files_of(site)) == 1, "it may come again"
    assert clean(site, **low) == 1
    assert files_of(site) == []


def test_what_comes_again_and_cannot_be_read_at_the_moment_is_known(site, monkeypatch):
    def fails(*_: object) -> None:
        raise RefusedError(Reason.DECODER_FAILED, "took too long")

    assert clean(site) == 1
    monkeypatch.setattr(Decoder, "read_header", fails)
    for _ in range(2):
        site.receive(site.files)
        assert len(files_of(site)) == len(site.files)
        assert list((site.spool.root / "quarantine").iterdir()) == []
    study = site.study()
    assert (study.state, study.cleaned_at) == (StudyState.COMPLETED, None)
    assert study.duplicate_count == len(site.files)
