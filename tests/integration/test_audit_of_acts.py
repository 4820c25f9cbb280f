"""Who did what with a study, from its receipt to a person's command, and how it is told."""

from __future__ import annotations

import getpass
import json
import socket
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from xml.etree.ElementTree import fromstring

import pytest
from sqlalchemy import text
from support.audit_message_schema import violations
from support.command import Done, lungwatch
from support.stated import SMALL, screened

from dicom_node.receiving.refusals import RefusalNote
from worker.audit import trail
from worker.audit_entry import ActorKind, AuditAction, AuditOutcome
from worker.db import audit
from worker.db.tables import AuditEvent, Study

if TYPE_CHECKING:
    from support.installation import Installation


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Installation:
    folder = tmp_path_factory.mktemp("site")
    installation, files = screened(folder)
    # Once more, as a PACS does that lost our answers: nothing of it is new.
    installation.receive(files)
    return installation


def _command(site: Installation, *arguments: object) -> Done:
    return lungwatch(*arguments, data_dir=site.settings.data_dir, **SMALL)


def _lines(site: Installation, action: AuditAction | None = None) -> list[AuditEvent]:
    with site.database.reading() as session:
        return [line for line in audit.in_order(session) if action in {None, line.action}]


def _study(site: Installation) -> Study:
    with site.database.reading() as session:
        return session.query(Study).one()


def test_receipt_and_screening_are_on_record_once(site):
    uid = _study(site).study_instance_uid
    received, accessed = _lines(site)[:2]
    assert (received.action, received.actor_kind) == (
        AuditAction.STUDY_RECEIVED,
        ActorKind.APPLICATION,
    )
    assert (received.actor, received.study_instance_uid) == ("SENDER", uid)
    assert received.detail["sop_classes"] == {"1.2.840.10008.5.1.4.1.1.2": 12}
    assert (accessed.action, accessed.study_instance_uid) == (AuditAction.STUDY_SCREENED, uid)
    assert accessed.source == socket.gethostname()
    assert accessed.detail["attempt"] == 1
    assert len(_lines(site, AuditAction.STUDY_RECEIVED)) == 1


@pytest.mark.parametrize(
    ("arguments", "action"),
    [
        (("studies", "requeue", "1", "--rescreen"), AuditAction.STUDY_REQUEUED),
        (("studies", "show", "1", "--patient"), AuditAction.PATIENT_SHOWN),
        (("studies", "list", "--patient"), AuditAction.PATIENTS_LISTED),
        (("db", "reconcile"), AuditAction.DATABASE_RECONCILED),
    ],
)
def test_a_persons_command_is_on_record_with_the_person(site, arguments, action):
    before = len(_lines(site))
    assert _command(site, *arguments).code == 0
    (line,) = _lines(site)[before:]
    assert (line.action, line.actor_kind) == (action, ActorKind.PERSON)
    assert (line.actor, line.source) == (getpass.getuser(), socket.gethostname())
    of_study = _study(site).study_instance_uid if "1" in arguments else None
    assert line.study_instance_uid == of_study


def test_looking_without_names_is_nobodys_business(site):
    before = len(_lines(site))
    assert _command(site, "studies", "list").code == 0
    assert len(_lines(site)) == before


def test_behind_sudo_stands_the_person(monkeypatch):
    monkeypatch.setenv("SUDO_USER", "alice")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    actor, account = trail.person()
    assert (actor.name, account) == ("alice", "root")
    # Whoever is not root could have made it up.
    monkeypatch.setattr("os.geteuid", lambda: 12345678)
    actor, account = trail.person()
    assert (actor.name, account) == ("uid 12345678", "uid 12345678")


def test_a_caller_that_is_let_in_is_on_record_with_address_and_certificate(site):
    before = len(_lines(site))
    for _ in range(3):
        site.spool.admissions.admit("MODALITY", "192.0.2.7", "ab" * 32)
    site.intake.run_once()
    (line,) = _lines(site)[before:]
    assert (line.action, line.actor, line.source) == (
        AuditAction.CALLER_ADMITTED,
        "MODALITY",
        "192.0.2.7",
    )
    assert line.detail["certificate"] == "ab" * 32
    assert list(site.spool.admissions.read()) == []


@pytest.mark.parametrize(
    ("reason", "alert"),
    [("calling_ae_not_allowed", True), ("sop_class_not_supported", False)],
)
def test_a_stranger_is_an_alert_and_an_odd_object_is_none(site, reason, alert):
    before = len(_lines(site))
    note = RefusalNote(
        time=datetime.now(UTC),
        reason=reason,
        calling_ae_title="STRANGER",
        called_ae_title="LUNGWATCH",
        peer_address="192.0.2.9",
        detail="Turned away.",
    )
    site.spool.note_refusal(note)
    site.intake.run_once()
    lines = _lines(site)[before:]
    assert len(lines) == alert
    for line in lines:
        assert (line.action, line.outcome) == (
            AuditAction.ASSOCIATION_REJECTED,
            AuditOutcome.SERIOUS_FAILURE,
        )
        assert (line.actor, line.source) == ("STRANGER", "192.0.2.9")


def test_the_trail_is_listed_and_exported(site):
    listed = _command(site, "audit", "list", "--json", "--limit", "1000").json
    assert [row["number"] for row in listed] == list(range(len(listed), 0, -1))
    exported = _command(site, "audit", "export", "--format", "json").stdout.splitlines()
    rows = [json.loads(row) for row in exported]
    assert [row for row in rows if row["number"] <= len(listed)] == listed[::-1]
    assert (rows[-1]["action"], rows[-1]["actor"]) == ("audit_exported", getpass.getuser())


def test_a_dicom_export_keeps_to_the_schema_and_names_patients_only_when_asked(site):
    with site.database.transaction() as session:
        session.query(Study).one().patient_id = "MRN-4711"
    for arguments, shown in (((), False), (("--patient",), True)):
        done = _command(site, "audit", "export", *arguments)
        assert ("MRN-4711" in done.stdout) is shown
        messages = [fromstring(m) for m in done.stdout.splitlines()]  # noqa: S314 - our own
        assert len(messages) == len(_lines(site))
        assert [violations(message) for message in messages] == [[]] * len(messages)


def test_tampering_is_found_and_an_end_cut_off_by_what_was_noted(site):
    intact = _command(site, "audit", "verify")
    assert intact.code == 0
    head = intact.stdout.split()[-1]
    number, _, digest = head.partition(":")
    assert len(digest) == 64

    with site.database.transaction() as session:
        for trigger in ("update", "delete"):
            session.execute(text(f"DROP TRIGGER audit_events_no_{trigger}"))
        session.execute(text("DELETE FROM audit_events WHERE number >= :n"), {"n": int(number)})
    cut = _command(site, "audit", "verify", "--expect", head)
    assert (cut.code, f"line {number}" in cut.stdout) == (1, True)

    with site.database.transaction() as session:
        session.execute(text("UPDATE audit_events SET actor = 'nobody' WHERE number = 2"))
    done = _command(site, "audit", "verify", "--json")
    assert (done.code, done.json["intact"]) == (1, False)
    assert "line 2 was changed" in done.json["problem"]
