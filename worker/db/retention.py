"""Retention in the database: whose files may go, and that they went.

A study is marked first and its files are removed after the commit; whatever is interrupted is
found by its mark and finished. What was not delivered, or not yet committed, is never marked.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from sqlalchemy import and_, func, or_, select, update

from worker.db import events, screenings
from worker.db.engine import now
from worker.db.tables import Delivery, Instance, Review, Screening, Study
from worker.lifecycle import CommitmentState, DeliveryState, ScreeningState, StudyState

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import ColumnElement, ScalarSelect
    from sqlalchemy.orm import Session

_PROMISED = (CommitmentState.COMMITTED, CommitmentState.NOT_ASKED)
_OF_NO_RESULT = (StudyState.REFUSED, StudyState.IGNORED, StudyState.FAILED)


class Why(StrEnum):
    """Why the files of a study may go."""

    DELIVERED = "delivered"
    REVIEWED = "reviewed"
    REFUSED = "refused"
    PRESSED = "pressed"


@dataclass(frozen=True, slots=True)
class StudyFiles:
    """The files of a study that was marked: paths in the spool, and its screenings' results."""

    instances: tuple[str, ...]
    screenings: tuple[int, ...]


def due(session: Session, why: Why, before: datetime | None, limit: int) -> Sequence[int]:
    """List the studies whose files may go, those that changed longest ago first.

    Parameters
    ----------
    session
        A session.
    why
        Which kind of studies.
    before
        Only those that changed, or were reviewed, before, and received nothing since; None for all.
    limit
        How many.
    """
    since = _last_review() if why is Why.REVIEWED else Study.updated_at
    query = select(Study.id).where(_may_go(why)).order_by(since, Study.id).limit(limit)
    if before is not None:
        query = query.where(since < before, ~_exists(Instance, Instance.received_at >= before))
    return session.scalars(query).all()


def mark(session: Session, study_id: int, why: Why) -> bool:
    """Give the files of a study up; False if it has become work again meanwhile."""
    study = screenings.lock_study(session, study_id)
    if session.scalar(select(Study.id).where(Study.id == study_id, _may_go(why))) is None:
        return False
    moment = now(session)
    study.cleaned_at, study.files_to_remove = moment, True
    for table in (Instance, Screening):
        session.execute(
            update(table)
            .where(table.study_id == study_id, table.cleaned_at.is_(None))
            .values(cleaned_at=moment)
        )
    events.record(session, "study_cleaned", study, why=why.value)
    return True


def unfinished(session: Session, after: int = 0, limit: int = 100) -> Sequence[int]:
    """List the marked studies of which files may still be there, by id, from one id on."""
    return session.scalars(
        select(Study.id)
        .where(Study.files_to_remove, Study.id > after)
        .order_by(Study.id)
        .limit(limit)
    ).all()


def overdue(session: Session, before: datetime) -> Sequence[int]:
    """List the studies that were marked before a moment and of which files may still be there."""
    # What came again since took the date off its study, though others of its files are left.
    marked_at = func.coalesce(Study.cleaned_at, Study.updated_at)
    return session.scalars(
        select(Study.id).where(Study.files_to_remove, marked_at < before).order_by(Study.id)
    ).all()


def files(session: Session, study_id: int, *, marked: bool = False) -> StudyFiles:
    """List the files of a study; with `marked` those alone that were given up.

    What came again after it was given up is not marked any more.
    """
    instances = select(Instance.path).where(Instance.study_id == study_id)
    results = select(Screening.id).where(Screening.study_id == study_id)
    if marked:
        instances = instances.where(Instance.cleaned_at.is_not(None))
        results = results.where(Screening.cleaned_at.is_not(None))
    return StudyFiles(tuple(session.scalars(instances)), tuple(session.scalars(results)))


def still_given_up(session: Session, study_id: int, paths: Sequence[str]) -> Sequence[str]:
    """Tell which of these instances did not come again; locks the study, so that none can."""
    screenings.lock_study(session, study_id)
    return session.scalars(
        select(Instance.path).where(
            Instance.study_id == study_id,
            Instance.path.in_(paths),
            Instance.cleaned_at.is_not(None),
        )
    ).all()


def removed(session: Session, study_id: int) -> None:
    """Note that the files of a marked study are gone."""
    session.execute(update(Study).where(Study.id == study_id).values(files_to_remove=False))


def came_again(session: Session, instance: Instance, study: Study) -> None:
    """Take an instance back whose file was given up; the caller puts the file into its place."""
    instance.cleaned_at = study.cleaned_at = None
    study.updated_at = now(session)
    events.record(session, "instance_came_again", study, sop_instance_uid=instance.sop_instance_uid)


def is_kept(session: Session, sop_instance_uid: str, content_digest: str) -> bool:
    """Lock the study of a recorded instance, and tell whether its file was not given up."""
    instance = session.scalars(
        select(Instance).where(
            Instance.sop_instance_uid == sop_instance_uid,
            Instance.content_digest == content_digest,
        )
    ).one()
    screenings.lock_study(session, instance.study_id)
    session.refresh(instance, ["cleaned_at"])
    return instance.cleaned_at is None


def missing_images(session: Session, study: Study) -> int:
    """Count the images of a study that were given up and did not come again."""
    return int(
        session.scalar(
            select(func.count())
            .select_from(Instance)
            .where(
                Instance.study_id == study.id,
                Instance.disposition == "accepted",
                Instance.cleaned_at.is_not(None),
            )
        )
        or 0
    )


def has_new_images(session: Session, study: Study, screening: Screening) -> bool:
    """Tell whether a study holds images that its screening did not know."""
    return (
        session.scalar(
            select(Instance.id)
            .where(
                Instance.study_id == study.id,
                Instance.disposition == "accepted",
                Instance.received_at > screening.created_at,
            )
            .limit(1)
        )
        is not None
    )


def _may_go(why: Why) -> ColumnElement[bool]:
    """Give the condition on a study; the one place that says what may be removed."""
    reviewed = _last_review().is_not(None)
    kept = and_(Study.state == StudyState.COMPLETED, _delivery_exists(_delivered()), ~_unsettled())
    nothing_to_keep = and_(Study.state.in_(_OF_NO_RESULT), ~_in_force(), ~_unsettled())
    conditions = {
        Why.DELIVERED: and_(kept, ~reviewed),
        Why.PRESSED: and_(kept, ~reviewed),
        Why.REVIEWED: and_(kept, reviewed),
        Why.REFUSED: and_(nothing_to_keep, ~reviewed),
    }
    # Of a study that was cleaned before: what came or was made since.
    left = or_(
        Study.cleaned_at.is_(None),
        _exists(Instance, Instance.cleaned_at.is_(None)),
        _exists(Screening, Screening.cleaned_at.is_(None)),
    )
    return and_(left, conditions[why])


def _last_review() -> ScalarSelect[datetime]:
    query = select(func.max(Review.reviewed_at)).where(Review.study_id == Study.id)
    return query.correlate(Study).scalar_subquery()


def _in_force() -> ColumnElement[bool]:
    """Whether a screening is at work, or its result is still here."""
    at_work = Screening.state.in_((ScreeningState.QUEUED, ScreeningState.RUNNING))
    kept = and_(Screening.state == ScreeningState.SUCCEEDED, Screening.cleaned_at.is_(None))
    return _exists(Screening, or_(at_work, kept))


def _exists(
    table: type[Instance | Screening], condition: ColumnElement[bool]
) -> ColumnElement[bool]:
    return select(table.id).where(table.study_id == Study.id, condition).correlate(Study).exists()


def _delivered() -> ColumnElement[bool]:
    return Delivery.state == DeliveryState.DELIVERED


def _unsettled() -> ColumnElement[bool]:
    """Whether something of the result in force is unsent, refused or not yet promised."""
    return _delivery_exists(
        or_(
            Delivery.state.in_((DeliveryState.PENDING, DeliveryState.REFUSED)),
            and_(_delivered(), Delivery.commitment.not_in(_PROMISED)),
        )
    )


def _delivery_exists(condition: ColumnElement[bool]) -> ColumnElement[bool]:
    return (
        select(Delivery.id)
        .join(Screening, Delivery.screening_id == Screening.id)
        .where(
            Screening.study_id == Study.id,
            Screening.state == ScreeningState.SUCCEEDED,
            condition,
        )
        .correlate(Study)
        .exists()
    )
