"""The event log, and the one way a study changes its state."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
from sqlalchemy import select

from worker import lifecycle
from worker.db.engine import now
from worker.db.tables import Event, Screening, Study
from worker.errors import TransitionError
from worker.lifecycle import StudyState

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy.orm import Session

    from worker.lifecycle import StudyEvent

REFUSED_AT_ASSOCIATION = "refused_at_association"
MODEL_LOADED = "model_loaded"
MODEL_PICK_UP_FAILED = "model_pick_up_failed"

log = structlog.get_logger(__name__)


def record(
    session: Session,
    event: str,
    study: Study | None = None,
    screening: Screening | None = None,
    **detail: object,
) -> None:
    """Append one line to the event log.

    Parameters
    ----------
    session
        The transaction that did what is logged.
    event
        Coded name of what happened.
    study, screening
        What it happened to; None for what concerns neither.
    **detail
        Further facts of JSON types; never patient data.
    """
    session.flush()
    session.add(
        Event(
            at=now(session),
            study_id=study.id if study else None,
            screening_id=screening.id if screening else None,
            event=event,
            detail=detail,
        )
    )


def of_study(session: Session, study: Study) -> Sequence[Event]:
    """List a study's lines of the log, oldest first."""
    return session.scalars(select(Event).where(Event.study_id == study.id).order_by(Event.id)).all()


def association_refusals(session: Session, limit: int = 100) -> Sequence[Event]:
    """List what the listener turned away, the latest first; it belongs to no study."""
    return session.scalars(
        select(Event)
        .where(Event.event == REFUSED_AT_ASSOCIATION)
        .order_by(Event.id.desc())
        .limit(limit)
    ).all()


def model_loads(session: Session, since: datetime, limit: int = 200) -> Sequence[Event]:
    """List the networks that workers loaded or could not load from a moment on, latest first."""
    return session.scalars(
        select(Event)
        .where(Event.event.in_((MODEL_LOADED, MODEL_PICK_UP_FAILED)), Event.at >= since)
        .order_by(Event.id.desc())
        .limit(limit)
    ).all()


def move(
    session: Session,
    study: Study,
    event: StudyEvent,
    reason: str,
    detail: str = "",
    screening: Screening | None = None,
) -> None:
    """Let an event happen to a study: new state, coded reason, one line in the log.

    Raises
    ------
    TransitionError
        If the study's state does not allow it.
    """
    place(session, study, lifecycle.advance(study.state, event), event, reason, detail, screening)


def follow(
    session: Session, screening: Screening, event: StudyEvent, reason: str, detail: str = ""
) -> None:
    """Let a study follow its screening, where the screening is still what the study waits for.

    A study that newer instances took back to receiving, or that ended otherwise, stays where it
    is: what the screening found is on record, and counts when the study is judged anew.
    """
    study = screening.study
    if study.state is not StudyState.RECEIVING:
        try:
            move(session, study, event, reason, detail, screening)
        except TransitionError:
            log.warning("study_not_moved", study=study.id, study_event=event.value)
        else:
            return
    record(session, event.value, study, screening, reason=str(reason), detail=detail)


def place(
    session: Session,
    study: Study,
    state: StudyState,
    event: StudyEvent,
    reason: str,
    detail: str = "",
    screening: Screening | None = None,
) -> None:
    """Put a study into the state the state machine told, with reason and log line."""
    before = study.state
    study.state, study.reason, study.detail = state, str(reason), detail
    study.updated_at = now(session)
    record(
        session,
        event.value,
        study,
        screening,
        state=state.value,
        before=before.value,
        reason=str(reason),
        detail=detail,
    )
    log.info(
        "study_moved",
        study=study.id,
        study_event=event.value,
        before=before.value,
        state=state.value,
        reason=str(reason),
    )
