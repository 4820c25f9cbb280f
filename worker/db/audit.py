"""The audit trail: lines that are only ever added, each sealed with the one before it."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, cast

from sqlalchemy import event, func, select

from worker.db.engine import now
from worker.db.tables import AuditEvent

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

    from sqlalchemy.orm import Session

    from worker.audit_entry import AuditEntry

FIRST_PREVIOUS_DIGEST = "0" * 64
# One number for all processes: PostgreSQL's advisory lock that is held while a line is added.
_LOCK = 0x41554449
_PENDING = "audit_entries"


def record(session: Session, entry: AuditEntry) -> None:
    """Add a line to the audit trail when the session's transaction is committed.

    The line and what it tells of are kept together or not at all. It gets its number, its time by
    the database's clock and its digest last of all, so that transactions wait for each other's
    lines as briefly as can be.
    """
    pending = session.info.get(_PENDING)
    if pending is None:
        session.info[_PENDING] = pending = []
        event.listen(session, "before_commit", _append_pending)
    pending.append(entry)


def _append_pending(session: Session) -> None:
    entries, session.info[_PENDING] = session.info[_PENDING], []
    if not entries:
        return
    session.flush()
    if session.get_bind().dialect.name == "postgresql":
        session.execute(select(func.pg_advisory_xact_lock(_LOCK)))
    last = _last(session)
    number = last.number if last else 0
    digest = last.digest if last else FIRST_PREVIOUS_DIGEST
    for entry in entries:
        number += 1
        line = AuditEvent(
            number=number,
            at=now(session),
            action=entry.action,
            outcome=entry.outcome,
            actor_kind=entry.actor.kind,
            actor=entry.actor.name,
            source=entry.actor.source,
            study_instance_uid=entry.study_instance_uid,
            detail=dict(entry.detail),
            previous_digest=digest,
        )
        line.digest = digest = digest_of(line)
        session.add(line)
        session.flush()


def digest_of(line: AuditEvent) -> str:
    """Hexadecimal SHA-256 of a line with the digest of the line before it."""
    content = {
        "number": line.number,
        "at": line.at.isoformat(timespec="microseconds"),
        "action": str(line.action),
        "outcome": str(line.outcome),
        "actor_kind": str(line.actor_kind),
        "actor": line.actor,
        "source": line.source,
        "study_instance_uid": line.study_instance_uid,
        "detail": line.detail,
        "previous_digest": line.previous_digest,
    }
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def lines(
    session: Session, since: datetime | None = None, limit: int | None = None
) -> Sequence[AuditEvent]:
    """List lines of the trail, the latest first.

    Parameters
    ----------
    session
        Open database session.
    since
        Only those from this moment on.
    limit
        No more than this many.
    """
    query = select(AuditEvent).order_by(AuditEvent.number.desc()).limit(limit)
    if since is not None:
        query = query.where(AuditEvent.at >= since)
    return session.scalars(query).all()


def in_order(session: Session, since: datetime | None = None) -> Iterator[AuditEvent]:
    """Yield the lines of the trail, oldest first, without holding all of them in memory."""
    query = select(AuditEvent).order_by(AuditEvent.number).execution_options(yield_per=500)
    if since is not None:
        query = query.where(AuditEvent.at >= since)
    return iter(session.scalars(query))


def find_break(trail: Iterable[AuditEvent]) -> tuple[int, str] | None:
    """Find the first place where a trail was tampered with.

    Parameters
    ----------
    trail
        All lines, oldest first. That the end was cut off shows only by a later number and digest
        noted elsewhere.

    Returns
    -------
    tuple of int and str, optional
        Number of the line and what is wrong there, or None where every line follows the one
        before it.
    """
    digest = FIRST_PREVIOUS_DIGEST
    for number, line in enumerate(trail, start=1):
        if line.number != number:
            return number, f"line {number} is missing: line {line.number} comes in its place"
        if line.previous_digest != digest:
            return number, f"line {number} does not follow the line before it"
        if line.digest != digest_of(line):
            return number, f"line {number} was changed after it was written"
        digest = line.digest
    return None


def head(session: Session) -> tuple[int, str]:
    """Give number and digest of the last line, 0 and zeros for an empty trail."""
    last = _last(session)
    return (last.number, last.digest) if last else (0, FIRST_PREVIOUS_DIGEST)


def _last(session: Session) -> AuditEvent | None:
    query = select(AuditEvent).order_by(AuditEvent.number.desc()).limit(1)
    return cast("AuditEvent | None", session.scalar(query))
