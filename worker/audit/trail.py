"""What goes into the audit trail: the acts of persons, applications and processes of ours."""

from __future__ import annotations

import os
import pwd
import socket
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy import func, select
from sqlalchemy.exc import DBAPIError

from dicom_node.receiving.refusals import EdgeReason
from worker.audit_entry import Actor, ActorKind, AuditAction, AuditEntry, AuditOutcome
from worker.db import audit
from worker.db.tables import AuditEvent, Instance
from worker.lifecycle import ScreeningState

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from sqlalchemy.orm import Session

    from dicom_node.receiving.admissions import AdmissionNote
    from dicom_node.receiving.refusals import RefusalNote
    from worker.db.engine import Database
    from worker.db.tables import Delivery, Screening, Study

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


class NotSent(StrEnum):
    """Why a result is not sent, and will not be before a person sees to it."""

    REFUSED = "refused_by_destination"
    NOT_KEPT = "not_kept_by_destination"
    NO_DESTINATION = "destination_not_set"
    DAMAGED = "result_damaged"


def acted(
    session: Session,
    action: AuditAction,
    study: Study | None = None,
    *,
    actor: Actor | None = None,
    outcome: AuditOutcome = AuditOutcome.SUCCESS,
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
    outcome
        How it ended.
    **detail
        Further facts of JSON types; never patient data.
    """
    facts = {}
    if actor is None:
        actor, account = person()
        facts = {"account": account} if account != actor.name else {}
    uid = study.study_instance_uid if study else None
    audit.record(session, AuditEntry(action, actor, outcome, uid, {**facts, **detail}))


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


def screening_failed(session: Session, screening: Screening, actor: Actor, error: str) -> None:
    """Record that a study is not screened, if that was the last attempt.

    Parameters
    ----------
    session
        The transaction that records the end of the attempt.
    screening
        The screening, after that.
    actor
        Who recorded it.
    error
        What kind of error ended it; never its words.
    """
    if screening.state is not ScreeningState.FAILED:
        return
    _about(
        session,
        AuditAction.STUDY_SCREENED,
        actor,
        screening.study.study_instance_uid,
        AuditOutcome.SERIOUS_FAILURE,
        series_instance_uid=screening.series_instance_uid,
        revision=screening.revision,
        attempt=screening.attempts,
        error=error,
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
        sop_classes=_counted(sop_class_uids),
    )


def results_refused(session: Session, deliveries: Iterable[Delivery], because: NotSent) -> None:
    """Record that results will not be sent, one line for each study and destination.

    Parameters
    ----------
    session
        The transaction that records it of the deliveries.
    deliveries
        What is not sent.
    because
        Why.
    """
    refused: dict[tuple[str, str], list[str]] = {}
    for delivery in deliveries:
        whereto = delivery.screening.study.study_instance_uid, delivery.destination
        refused.setdefault(whereto, []).append(delivery.sop_class_uid)
    for (study_instance_uid, destination), sop_class_uids in sorted(refused.items()):
        _about(
            session,
            AuditAction.RESULT_SENT,
            process("node"),
            study_instance_uid,
            AuditOutcome.SERIOUS_FAILURE,
            destination=destination,
            sop_classes=_counted(sop_class_uids),
            error=because.value,
        )


def _counted(sop_class_uids: Sequence[str]) -> dict[str, int]:
    return {uid: sop_class_uids.count(uid) for uid in sorted(set(sop_class_uids))}


def _about(
    session: Session,
    action: AuditAction,
    actor: Actor,
    study_instance_uid: str,
    outcome: AuditOutcome = AuditOutcome.SUCCESS,
    **detail: Any,  # noqa: ANN401 - JSON
) -> None:
    audit.record(session, AuditEntry(action, actor, outcome, study_instance_uid, detail))
