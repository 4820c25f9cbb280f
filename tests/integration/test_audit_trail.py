"""The audit trail on both databases: it grows, it is sealed, and nobody changes it unnoticed."""

import threading

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import Session
from support.study_rows import receiving_study

from worker.audit_entry import Actor, ActorKind, AuditAction, AuditEntry, AuditOutcome
from worker.db import audit
from worker.db.engine import Database
from worker.db.tables import AuditEvent, Study

_SOMEBODY = Actor(ActorKind.PERSON, "alice", "ward-7")


def _entry(**facts) -> AuditEntry:
    return AuditEntry(AuditAction.STUDY_REQUEUED, _SOMEBODY, study_instance_uid="1.2.3", **facts)


def _record(database: Database, *entries: AuditEntry) -> None:
    with database.transaction() as session:
        for entry in entries:
            audit.record(session, entry)


def _first_break(database: Database) -> tuple[int, str] | None:
    with database.reading() as session:
        return audit.find_break(audit.in_order(session))


def test_lines_come_with_number_time_and_an_unbroken_chain(database):
    _record(database, _entry(), _entry(outcome=AuditOutcome.SERIOUS_FAILURE, detail={"é": [1.5]}))
    _record(database, _entry())
    with database.reading() as session:
        first, second, third = audit.in_order(session)
        assert (first.number, second.number, third.number) == (1, 2, 3)
        assert first.at <= second.at <= third.at
        assert (second.outcome, second.detail) == (AuditOutcome.SERIOUS_FAILURE, {"é": [1.5]})
        assert audit.head(session) == (3, third.digest)
        assert [line.number for line in audit.lines(session, limit=2)] == [3, 2]
        assert [line.number for line in audit.lines(session, since=second.at)] == [3, 2]
    assert _first_break(database) is None


def test_a_line_is_kept_with_what_it_tells_of_or_not_at_all(database):
    def fail() -> None:
        with database.transaction() as session:
            receiving_study(session)
            audit.record(session, _entry())
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    with database.reading() as session:
        assert (session.query(Study).count(), audit.head(session)[0]) == (0, 0)


def test_processes_that_write_at_once_make_one_chain(database):
    barrier = threading.Barrier(6)

    def write() -> None:
        barrier.wait()
        for _ in range(5):
            _record(database, _entry())

    threads = [threading.Thread(target=write) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.reading() as session:
        assert audit.head(session)[0] == 30
    assert _first_break(database) is None


def test_the_database_refuses_what_would_break_the_chain(database):
    _record(database, _entry())
    insert = {"sqlite": "INSERT OR REPLACE", "postgresql": "INSERT"}[database.engine.dialect.name]
    facts = "at, action, outcome, actor_kind, 'bob', source, study_instance_uid, detail"
    for change, said in (
        ("UPDATE audit_events SET actor = 'bob'", "append-only"),
        ("DELETE FROM audit_events", "append-only"),
        (f"{insert} INTO audit_events SELECT number, {facts}, 'x', digest", "has to follow"),
        (f"INSERT INTO audit_events SELECT number + 7, {facts}, digest, 'x'", "has to follow"),
        (f"INSERT INTO audit_events SELECT number + 1, {facts}, 'x', digest", "has to follow"),
    ):
        statement = f"{change} FROM audit_events" if "SELECT" in change else change
        with pytest.raises(DatabaseError, match=said), database.transaction() as session:
            session.execute(text(statement))
    if database.engine.dialect.name == "postgresql":
        with pytest.raises(DatabaseError, match="append-only"), database.transaction() as session:
            session.execute(text("TRUNCATE audit_events"))
    with database.reading() as session:
        assert [line.actor for line in audit.in_order(session)] == ["alice"]
    assert _first_break(database) is None


def test_who_takes_the_triggers_away_is_found_out(database):
    _record(database, _entry(), _entry(), _entry())
    for tampering, said in (
        ("UPDATE audit_events SET actor = 'bob' WHERE number = 2", "line 2 was changed"),
        ("UPDATE audit_events SET at = '2020-01-01 00:00:00' WHERE number = 3", "line 3 was"),
        ("DELETE FROM audit_events WHERE number = 2", "line 2 is missing"),
        ("DELETE FROM audit_events WHERE number = 1", "line 1 is missing"),
        ("UPDATE audit_events SET previous_digest = 'x' WHERE number = 3", "does not follow"),
    ):
        with Session(database.engine) as session:
            _take_the_triggers_away(session)
            session.execute(text(tampering))
            broken = audit.find_break(audit.in_order(session))
            session.rollback()
        assert broken is not None
        assert said in broken[1]


def test_an_end_that_was_cut_off_shows_by_a_head_noted_elsewhere(database):
    _record(database, _entry(), _entry())
    with database.reading() as session:
        number, digest = audit.head(session)
    with database.transaction() as session:
        _take_the_triggers_away(session)
        session.execute(text("DELETE FROM audit_events WHERE number = 2"))
    assert _first_break(database) is None
    with database.reading() as session:
        assert session.get(AuditEvent, number) is None
        assert session.scalar(select(AuditEvent).where(AuditEvent.digest == digest)) is None


def _take_the_triggers_away(session: Session) -> None:
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("ALTER TABLE audit_events DISABLE TRIGGER USER"))
        return
    for name in ("audit_events_no_update", "audit_events_no_delete", "audit_events_chain"):
        session.execute(text(f"DROP TRIGGER {name}"))
