"""Acts that failed, on both databases: who tried what, how it ended, and nobody's name."""

from __future__ import annotations

import getpass
import json
from contextlib import closing
from typing import TYPE_CHECKING
from xml.etree.ElementTree import fromstring

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from support.audit_lines import lines, the_only
from support.audit_message_schema import violations
from support.command import Done, lungwatch
from support.stated import screened
from support.study_rows import receiving_study

from model.errors import RegistryError
from worker.audit.attempts import attempt
from worker.audit_entry import ActorKind, AuditAction, AuditOutcome
from worker.cli import backup as backup_command
from worker.cli import export_reviewed as export_command
from worker.db import dump, studies
from worker.db.engine import Database
from worker.db.tables import Study
from worker.embedded.process import free_ports
from worker.errors import PromotionError
from worker.learning import review_desk
from worker.review.reviewed_data import ReviewedData
from worker.review.reviews import Reviewer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


MINOR, SERIOUS, MAJOR = (
    AuditOutcome.MINOR_FAILURE,
    AuditOutcome.SERIOUS_FAILURE,
    AuditOutcome.MAJOR_FAILURE,
)
# What a person may type in the wrong place, and must not be found in the trail.
NAME = "DOE^JANE"


# ---- what goes around an act ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (PromotionError(NAME), MINOR),
        (RegistryError(NAME), MINOR),
        (OSError(28, NAME), SERIOUS),
        (KeyboardInterrupt(), SERIOUS),
        (ValueError(NAME), MAJOR),
    ],
)
def test_a_failed_act_is_a_line_and_nothing_else_of_it_is_kept(database, error, outcome):
    def act() -> None:
        action = AuditAction.MODEL_PROMOTED
        with attempt(database, action) as tried, database.transaction() as session:
            receiving_study(session)
            tried.detail["model"] = "tiny-2.0.0"
            raise error

    with pytest.raises(type(error)) as raised:
        act()
    assert raised.value is error
    line = the_only(database)
    assert (line.action, line.outcome) == (AuditAction.MODEL_PROMOTED, outcome)
    assert (line.actor, line.actor_kind) == (getpass.getuser(), ActorKind.PERSON)
    assert line.detail == {"model": "tiny-2.0.0", "error": type(error).__name__}
    with database.reading() as session:
        assert session.query(Study).count() == 0


def test_what_succeeds_has_no_second_line(database):
    with attempt(database, AuditAction.MODEL_PROMOTED):
        pass
    assert lines(database) == []


@pytest.mark.parametrize("known", [True, False])
def test_a_study_is_named_where_it_is_one(database, known):
    with database.transaction() as session:
        receiving_study(session)

    def act() -> None:
        with attempt(database, AuditAction.STUDY_REQUEUED, "1.2.3" if known else NAME):
            raise PromotionError

    with pytest.raises(PromotionError):
        act()
    line = the_only(database)
    assert line.study_instance_uid == ("1.2.3" if known else None)
    assert line.detail == {"error": "PromotionError"}


def _nowhere(tmp_path: Path) -> Iterator[Database]:
    (port,) = free_ports(1)
    yield Database(f"postgresql+psycopg://nobody@127.0.0.1:{port}/nothing?connect_timeout=2")
    # A database without a schema.
    yield Database(f"sqlite:///{tmp_path / 'bare.db'}")


def test_the_error_comes_through_where_nothing_can_be_written(tmp_path):
    def act(database: Database) -> None:
        with attempt(database, AuditAction.STUDY_REQUEUED, "1"):
            raise PromotionError("this is what the person has to see")

    for database in _nowhere(tmp_path):
        with closing(database), pytest.raises(PromotionError, match="has to see"):
            act(database)
    (database, _) = _nowhere(tmp_path)
    with (
        closing(database),
        pytest.raises(OperationalError),
        attempt(database, AuditAction.STUDY_REQUEUED),
        database.reading() as session,
    ):
        studies.find(session, "1")


# ---- commands ------------------------------------------------------------------------------------


class Shell:
    """A person's shell on an installation with a study that waits for its instances."""

    def __init__(self, database: Database, data_dir: Path) -> None:
        self.database = database
        url = database.engine.url.render_as_string(hide_password=False)
        self._settings = {"data_dir": data_dir, "database_url": url, "model_dir": data_dir}
        with database.transaction() as session:
            receiving_study(session)

    def run(self, *arguments: object) -> Done:
        return lungwatch(*arguments, **self._settings)


@pytest.fixture
def shell(database: Database, tmp_path: Path) -> Shell:
    return Shell(database, tmp_path)


REFUSED_COMMANDS = [
    (("studies", "requeue", "1"), AuditAction.STUDY_REQUEUED, "TransitionError"),
    (("studies", "requeue", NAME), AuditAction.STUDY_REQUEUED, "NotFoundError"),
    (("studies", "show", NAME, "--patient"), AuditAction.PATIENT_SHOWN, "NotFoundError"),
    (
        ("studies", "review", "1", "--accept", "--note", NAME),
        AuditAction.STUDY_REVIEWED,
        "ReviewError",
    ),
    (
        ("studies", "review", "1", "--reject", "false-negative"),
        AuditAction.STUDY_REVIEWED,
        "ReviewError",
    ),
    (("studies", "export-reviewed", "--out", "OUT"), AuditAction.REVIEWED_EXPORTED, "DatasetError"),
    (("model", "promote", NAME, "--override", NAME), AuditAction.MODEL_PROMOTED, "RegistryError"),
    (("model", "rollback", "--reason", NAME), AuditAction.MODEL_ROLLED_BACK, "PromotionError"),
    (("model", "lock", "--reason", NAME), AuditAction.TEST_SET_LOCKED, "PromotionError"),
    (("retrain", "--out", "OUT", "--queue"), AuditAction.RETRAINING_STARTED, "SettingsError"),
]


# Eleven processes; what writes their lines was tried on both databases above.
@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_what_a_person_is_refused_is_on_record_and_exports_to_the_schema(shell, tmp_path):
    for arguments, action, error in REFUSED_COMMANDS:
        before = len(lines(shell.database))
        done = shell.run(*(tmp_path / "out" if each == "OUT" else each for each in arguments))
        assert done.code not in {0, 2}, arguments
        assert "Traceback" not in done.stderr
        *begun, line = lines(shell.database)[before:]
        # A training is on record before it begins.
        assert len(begun) == (arguments[0] == "retrain"), arguments
        assert (line.action, line.outcome) == (action, MINOR), done.stderr
        assert (line.actor_kind, line.actor) == (ActorKind.PERSON, getpass.getuser())
        assert line.detail["error"] == error
        assert line.study_instance_uid == ("1.2.3" if "1" in arguments else None)

    written = [json.dumps(line.detail) for line in lines(shell.database)]
    assert not any(NAME in each for each in written)
    exported = shell.run("audit", "export")
    messages = [fromstring(each) for each in exported.stdout.splitlines()]  # noqa: S314 - our own
    assert [violations(message) for message in messages] == [[]] * len(messages)
    assert NAME not in exported.stdout
    described = {each.text for each in messages[0].iter("EventOutcomeDescription")}
    assert described == {"study_requeued: TransitionError"}


def test_a_backup_is_on_record_before_it_is_written_and_so_is_its_failure(shell, tmp_path):
    done = shell.run("db", "backup", tmp_path)
    assert done.code == 1
    begun, failed = lines(shell.database)
    assert {begun.action, failed.action} == {AuditAction.DATABASE_BACKED_UP}
    assert (begun.outcome, failed.outcome) == (AuditOutcome.SUCCESS, SERIOUS)

    assert shell.run("db", "backup", tmp_path / "backup.zip").code == 0
    # The copy holds the line of its own making.
    manifest = dump.read_manifest(tmp_path / "backup.zip")
    assert manifest.tables["audit_events"].rows == len(lines(shell.database)) == 3

    refused = shell.run("db", "restore", tmp_path / "backup.zip")
    assert (refused.code, "not empty" in refused.stderr) == (7, True)
    line = lines(shell.database)[-1]
    assert (line.action, line.outcome) == (AuditAction.DATABASE_RESTORED, MINOR)
    assert line.detail == {"error": "BackupError"}


def test_an_empty_database_takes_a_backup_whatever_was_tried_before(filled_backup, tmp_path):
    data_dir = tmp_path / "empty"
    (tmp_path / "damaged.zip").write_bytes(filled_backup.read_bytes()[:-200])
    for arguments, code in (
        (("db", "upgrade"), 0),
        (("audit", "list"), 0),
        (("audit", "verify"), 0),
        (("audit", "export"), 0),
        (("db", "restore", tmp_path / "damaged.zip"), 7),
        (("db", "restore", filled_backup), 0),
    ):
        done = lungwatch(*arguments, data_dir=data_dir)
        assert done.code == code, done.stderr


@pytest.fixture
def filled_backup(sqlite_database: Database, tmp_path: Path) -> Path:
    with sqlite_database.transaction() as session:
        receiving_study(session)
    dump.backup(sqlite_database.engine, tmp_path / "filled.zip")
    return tmp_path / "filled.zip"


class Killed(BaseException):
    """The end of the process at this point."""


def test_a_killed_backup_has_its_line(tmp_path, monkeypatch):
    installation, _ = screened(tmp_path)
    at_the_end = []

    def die(*_: object) -> None:
        at_the_end.extend(lines(installation.database))
        raise Killed

    monkeypatch.setattr(backup_command, "start_command", lambda: installation.settings)
    monkeypatch.setattr(dump, "backup", die)
    with pytest.raises(Killed):
        backup_command.backup(tmp_path / "backup.zip")
    assert at_the_end[-1].action is AuditAction.DATABASE_BACKED_UP


def test_a_killed_export_has_named_its_studies(tmp_path, monkeypatch):
    installation, _ = screened(tmp_path)
    review_desk(installation.settings).accept("1", Reviewer("Dr. A"))
    at_the_end = []

    def die(*_: object) -> None:
        at_the_end.extend(lines(installation.database))
        raise Killed

    monkeypatch.setattr(export_command, "start_command", lambda: installation.settings)
    monkeypatch.setattr(ReviewedData, "_export", die)
    with pytest.raises(Killed):
        export_command.export_reviewed(out=tmp_path / "out", slices_per_study=64)
    line = at_the_end[-1]
    assert (line.action, line.outcome) == (AuditAction.REVIEWED_EXPORTED, AuditOutcome.SUCCESS)
    uid = installation.study().study_instance_uid
    assert line.detail["study_instance_uids"] == [uid]


def test_looking_at_the_trail_is_an_event_of_it(shell):
    shell.run("studies", "requeue", "1")
    for command in ("list", "verify"):
        assert shell.run("audit", command).code == 0
        line = lines(shell.database)[-1]
        assert (line.action.value.startswith("audit_"), line.outcome) == (
            True,
            AuditOutcome.SUCCESS,
        )
    _take_a_line_away(shell.database)
    done = shell.run("audit", "verify")
    assert (done.code, "line 2 is missing" in done.stdout) == (1, True)
    line = lines(shell.database)[-1]
    assert (line.action, line.outcome) == (AuditAction.AUDIT_VERIFIED, SERIOUS)
    assert line.detail == {"intact": False}


def _take_a_line_away(database: Database) -> None:
    with database.transaction() as session:
        if database.engine.dialect.name == "postgresql":
            session.execute(text("ALTER TABLE audit_events DISABLE TRIGGER USER"))
        else:
            session.execute(text("DROP TRIGGER audit_events_no_delete"))
        session.execute(text("DELETE FROM audit_events WHERE number = 2"))
