"""Acts that failed, on both databases: who tried what, how it ended, and nobody's name."""

from __future__ import annotations

import getpass
import json
from contextlib import closing
from typing import TYPE_CHECKING
from xml.etree.ElementTree import fromstring

import pytest
from pydicom.uid import SegmentationStorage
from pynetdicom import AE, AllStoragePresentationContexts, evt
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from support.audit_message_schema import violations
from support.command import Done, lungwatch
from support.installation import Installation
from support.small_ct import write_small_ct
from support.stated import SMALL, StatedPredictor, screened
from support.study_rows import queued_screening, receiving_study, screened_study

from dicom_node.config import DimseDestination
from model.errors import RegistryError
from worker.audit.attempts import attempt
from worker.audit_entry import ActorKind, AuditAction, AuditOutcome
from worker.cli import backup as backup_command
from worker.cli import export_reviewed as export_command
from worker.db import audit, dump, screenings, studies
from worker.db.engine import Database
from worker.db.tables import Study
from worker.delivery.outbox import Deliverer, RetryPolicy
from worker.embedded.process import free_ports
from worker.errors import PromotionError
from worker.learning import review_desk
from worker.lifecycle import ScreeningState, StudyState
from worker.review.reviewed_data import ReviewedData
from worker.review.reviews import Reviewer
from worker.screening.sweeper import Sweeper

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from worker.db.tables import AuditEvent

MINOR, SERIOUS, MAJOR = (
    AuditOutcome.MINOR_FAILURE,
    AuditOutcome.SERIOUS_FAILURE,
    AuditOutcome.MAJOR_FAILURE,
)
# What a person may type in the wrong place, and must not be found in the trail.
NAME = "DOE^JANE"


def lines(database: Database) -> list[AuditEvent]:
    with database.reading() as session:
        return list(audit.in_order(session))


def the_only(database: Database) -> AuditEvent:
    (line,) = lines(database)
    return line


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


# ---- what the processes give up ------------------------------------------------------------------


def _site(folder: Path, predictor: StatedPredictor, **settings: object) -> Installation:
    site = Installation(folder / "data", **SMALL, **settings)
    site.receive(write_small_ct(folder / "ct"))
    site.screen(predictor)
    return site


def test_results_a_destination_refuses_have_a_line_beside_the_one_of_those_it_takes(tmp_path):
    """PS3.15 section A.5.2: no message with mixed results."""

    def answer(event: evt.Event) -> int:
        seg = event.request.AffectedSOPClassUID == SegmentationStorage
        return 0x0000 if seg else 0xA900

    ae = AE(ae_title="PACS")
    ae.supported_contexts = AllStoragePresentationContexts
    handlers = [(evt.EVT_C_STORE, answer)]
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    try:
        port = server.server_address[1]
        url = f"dimse://PACS@127.0.0.1:{port}?commitment=none"
        site = _site(tmp_path, StatedPredictor(), destinations=url)
        site.deliver()
    finally:
        server.shutdown()
    study = site.study()
    assert (study.state, study.reason) == (StudyState.FAILED, "delivery_refused")
    sent = [line for line in lines(site.database) if line.action is AuditAction.RESULT_SENT]
    by_outcome = {line.outcome: line for line in sent}
    assert len(by_outcome) == len(sent) == 2
    assert {line.study_instance_uid for line in sent} == {study.study_instance_uid}
    assert set(by_outcome[AuditOutcome.SUCCESS].detail["sop_classes"]) == {SegmentationStorage}
    refused = by_outcome[SERIOUS].detail
    assert SegmentationStorage not in refused["sop_classes"]
    assert (refused["destination"], refused["error"]) == ("PACS", "refused_by_destination")


@pytest.mark.parametrize("why", ["destination_not_set", "result_damaged"])
def test_results_that_cannot_be_sent_have_a_line(database, tmp_path, why):
    with database.transaction() as session:
        for delivery in screened_study(session).deliveries:
            delivery.path = f"{delivery.kind}.dcm"
            (tmp_path / delivery.path).write_bytes(b"not what was recorded")
    pacs = DimseDestination(
        name="pacs", ae_title="PACS", host="127.0.0.1", port=1, calling_ae_title="NODE"
    )
    known = [] if why == "destination_not_set" else [pacs]
    deliverer = Deliverer(database, tmp_path, known, RetryPolicy(1, 1, 600))
    deliverer.take_over()
    for _, round_ in deliverer.rounds():
        assert round_() == 2
    line = the_only(database)
    assert (line.action, line.outcome) == (AuditAction.RESULT_SENT, SERIOUS)
    assert line.study_instance_uid == "1.2.3"
    assert line.detail == {"destination": "pacs", "sop_classes": {"1.2": 2}, "error": why}


def test_a_screening_whose_workers_are_lost_fails_with_a_line(database):
    with database.transaction() as session:
        screening_id = queued_screening(session).id
    sweeper = Sweeper(database, lambda _: None, maximum_attempts=2, republish_seconds=60)
    for attempts in (1, 2):
        with database.transaction() as session:
            screening = screenings.get(session, screening_id)
            screening.not_before = None
            session.flush()
            assert screenings.claim(session, screening_id, "worker", -1)
        assert len(lines(database)) == 0, "the next attempt may succeed"
        sweeper.run_once()
        assert len(lines(database)) == (attempts == 2)
    line = the_only(database)
    assert (line.action, line.outcome) == (AuditAction.STUDY_SCREENED, SERIOUS)
    assert (line.study_instance_uid, line.actor) == ("1.2.3", "lungwatch node")
    assert (line.detail["error"], line.detail["attempt"]) == ("worker_lost", 2)


class Broken(StatedPredictor):
    """A network with a defect that shows on this study."""

    def predict(self, volume, progress):
        raise ValueError(NAME)


def test_a_screening_that_fails_for_good_has_a_line_with_the_kind_of_error(tmp_path):
    installation = _site(tmp_path, Broken(), maximum_attempts=1)
    study = installation.study()
    assert study.screenings[0].state is ScreeningState.FAILED
    line = lines(installation.database)[-1]
    assert (line.action, line.outcome) == (AuditAction.STUDY_SCREENED, SERIOUS)
    assert (line.study_instance_uid, line.detail["error"]) == (
        study.study_instance_uid,
        "ValueError",
    )
    assert NAME not in json.dumps(line.detail)
