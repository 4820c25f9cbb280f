"""What goes into the audit trail: the acts of persons, applications and processes of ours."""

from __future__ import annotations

import os
import pwd
import socket
from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError

from dicom_node.receiving.refusals import EdgeReason
from worker.audit_entry import Actor, ActorKind, AuditAction, AuditEntry, AuditOutcome
from worker.db import audit
from worker.db.tables import AuditEvent, Instance

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy.orm import Session

    from dicom_node.receiving.admissions import AdmissionNote
    from dicom_node.receiving.refusals import RefusalNote
    from worker.db.engine import Database
    from worker.db.tables import Screening, Study

log = structlog.get_logger(__name__)

# Whoever is turned away for one of these may be somebody who has no business here; the others are
# about what was sent, or about our own limits.
_NO_BUSINESS_HERE = frozenset(
    {
        EdgeReason.CALLING_AE_NOT_ALLOWED,
        EdgeReason.ADDRESS_NOT_ALLOWED,
        EdgeReason.CERTIFICATE_NOT_ALLOWED,
        EdgeReason.CALLED_AE_NOT_RECOGNISED,
        EdgeReason.TLS_HANDSHAKE_FAILED,
    }
)


def acted(
    session: Session,
    action: AuditAction,
    study: Study | None = None,
    *,
    actor: Actor | None = None,
    **detail: object,
) -> None:
    """Record what the person at this shell did, or another actor.

    Parameters
    ----------
    session
        The transaction that does it.
    action
        What was done.
    study
        To which study, where it was one.
    actor
        Who did it; None for the person at this shell.
    **detail
        Further facts of JSON types; never patient data.
    """
    facts = {}
    if actor is None:
        actor, account = person()
        facts = {"account": account} if account != actor.name else {}
    uid = study.study_instance_uid if study else None
    audit.record(
        session, AuditEntry(action, actor, study_instance_uid=uid, detail={**facts, **detail})
    )


def person() -> tuple[Actor, str]:
    """Tell who sits at this shell, and the account this process runs as.

    Where root runs it through sudo it is the user sudo names; nobody but root could say so.
    """
    user = _account()
    name = os.environ.get("SUDO_USER") or user if os.geteuid() == 0 else user
    return Actor(ActorKind.PERSON, name, socket.gethostname()), user


def _account() -> str:
    # Of the account, not of an environment variable.
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return f"uid {os.geteuid()}"


def process(name: str) -> Actor:
    """Give the actor for a process of this product on this machine."""
    return Actor(ActorKind.PROCESS, f"lungwatch {name}", socket.gethostname())


def started(database: Database, name: str) -> None:
    """Record that a process of this product began its work."""
    _application(database, AuditAction.APPLICATION_STARTED, name)


def stopped(database: Database, name: str) -> None:
    """Record that a process of this product ends; one that is killed records nothing."""
    try:
        _application(database, AuditAction.APPLICATION_STOPPED, name)
    except DBAPIError:
        # It must come to its end without a database that can be written, too.
        log.warning("stop_not_audited", process=name)


def _application(database: Database, action: AuditAction, name: str) -> None:
    with database.transaction() as session:
        audit.record(session, AuditEntry(action, process(name), detail={"account": _account()}))


def admitted(session: Session, note: AdmissionNote) -> None:
    """Record that a caller was let in."""
    detail = {
        "associations": note.associations,
        "certificate": note.certificate,
        "noted_at": note.time.isoformat(),
    }
    actor = Actor(ActorKind.APPLICATION, note.calling_ae_title, note.peer_address)
    audit.record(session, AuditEntry(AuditAction.CALLER_ADMITTED, actor, detail=detail))


def turned_away(session: Session, note: RefusalNote) -> None:
    """Record a security alert for a caller that may have no business here."""
    if note.reason not in _NO_BUSINESS_HERE:
        return
    actor = Actor(ActorKind.APPLICATION, note.calling_ae_title, note.peer_address)
    detail = {
        "reason": note.reason,
        "called_ae_title": note.called_ae_title,
        "noted_at": note.time.isoformat(),
    }
    outcome = AuditOutcome.SERIOUS_FAILURE
    audit.record(
        session, AuditEntry(AuditAction.ASSOCIATION_REJECTED, actor, outcome, detail=detail)
    )


def study_known(session: Session, study: Study) -> None:
    """Record who sent the first instance of a study that is not going to be judged."""
    if _last_received(session, study) is None:
        study_received(session, study)


def _last_received(session: Session, study: Study) -> datetime | None:
    return session.scalar(
        select(func.max(AuditEvent.at)).where(
            AuditEvent.study_instance_uid == study.study_instance_uid,
            AuditEvent.action == AuditAction.STUDY_RECEIVED,
        )
    )


def study_received(session: Session, study: Study) -> None:
    """Record who sent what of a study since this was last recorded of it."""
    audited = _last_received(session, study)
    query = (
        select(Instance.calling_ae_title, Instance.sop_class_uid, func.count())
        .where(Instance.study_id == study.id)
        .group_by(Instance.calling_ae_title, Instance.sop_class_uid)
        .order_by(Instance.calling_ae_title, Instance.sop_class_uid)
    )
    if audited is not None:
        query = query.where(Instance.received_at > audited)
    received: dict[str, dict[str, int]] = {}
    for ae_title, sop_class_uid, count in session.execute(query):
        received.setdefault(ae_title, {})[sop_class_uid or "unreadable"] = count
    for ae_title, sop_classes in received.items():
        _about(
            session,
            AuditAction.STUDY_RECEIVED,
            Actor(ActorKind.APPLICATION, ae_title, ""),
            study.study_instance_uid,
            sop_classes=sop_classes,
        )


def study_screened(session: Session, screening: Screening, worker: str) -> None:
    """Record that a worker is about to read the images of a study, once for each attempt."""
    _about(
        session,
        AuditAction.STUDY_SCREENED,
        process(f"worker {worker}"),
        screening.study.study_instance_uid,
        series_instance_uid=screening.series_instance_uid,
        revision=screening.revision,
        attempt=screening.attempts,
    )


def result_sent(
    session: Session, study_instance_uid: str, destination: str, sop_class_uids: Sequence[str]
) -> None:
    """Record that results of a study went to a destination."""
    _about(
        session,
        AuditAction.RESULT_SENT,
        process("node"),
        study_instance_uid,
        destination=destination,
        sop_classes={uid: sop_class_uids.count(uid) for uid in sorted(set(sop_class_uids))},
    )


def _about(
    session: Session,
    action: AuditAction,
    actor: Actor,
    study_instance_uid: str,
    **detail: Any,  # noqa: ANN401 - JSON
) -> None:
    audit.record(
        session, AuditEntry(action, actor, study_instance_uid=study_instance_uid, detail=detail)
    )
