"""What the database says of files that are not there, and what is to become of their studies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select, update

from worker.db import events, retention, screenings
from worker.db.engine import now
from worker.db.tables import Instance, Screening, Study
from worker.lifecycle import DeliveryState, Progress, ScreeningState, StudyEvent, StudyState

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from sqlalchemy.orm import Session

_AT_WORK = (StudyState.RECEIVING, StudyState.QUEUED, StudyState.SCREENING)
_TO_BE_SCREENED = (ScreeningState.QUEUED, ScreeningState.RUNNING)


def kept_instances(session: Session) -> dict[str, int]:
    """Give the study of each instance whose file should be there, by its path in the spool."""
    query = select(Instance.path, Instance.study_id).where(Instance.cleaned_at.is_(None))
    return {path: study_id for path, study_id in session.execute(query)}  # noqa: C416 - a result has keys()


def named_in_quarantine(session: Session) -> frozenset[str]:
    """Give the paths of all instances in quarantine, in the spool."""
    query = select(Instance.path).where(Instance.disposition == "quarantined")
    return frozenset(session.scalars(query))


def kept_results(session: Session) -> Sequence[Screening]:
    """List the screenings in force whose result files should be there."""
    return session.scalars(
        select(Screening)
        .where(Screening.state == ScreeningState.SUCCEEDED, Screening.cleaned_at.is_(None))
        .order_by(Screening.id)
    ).all()


def give_up_images(session: Session, study_id: int, paths: Collection[str]) -> None:
    """Record that images of a study are lost; one that needs them fails, for all to see."""
    study = screenings.lock_study(session, study_id)
    moment = now(session)
    session.execute(
        update(Instance)
        .where(Instance.study_id == study_id, Instance.path.in_(paths))
        .values(cleaned_at=moment)
    )
    study.cleaned_at = moment
    events.record(session, "images_lost", study, count=len(paths))
    if study.state in _AT_WORK and retention.missing_images(session, study):
        in_force = screenings.current(study)
        if in_force is not None and in_force.state in _TO_BE_SCREENED:
            screenings.supersede(session, in_force)
        _fail(session, study, f"{len(paths)} of its images were not there")


def give_up_results(session: Session, screening_id: int) -> bool:
    """Record that the files of a result are lost; tell whether it is made again.

    It is where something of it was still to be sent and the images are there.
    """
    screening = screenings.get(session, screening_id)
    study = screenings.lock_study(session, screening.study_id)
    screening.cleaned_at = now(session)
    events.record(session, "results_lost", study, screening)
    unsent = any(each.state is DeliveryState.PENDING for each in screening.deliveries)
    if study.state is not StudyState.DELIVERING or not unsent:
        return False
    if retention.missing_images(session, study):
        _fail(session, study, "its images and the results still to be sent were not there")
        return False
    screenings.supersede(session, screening)
    study.assemble_at = now(session)
    events.move(session, study, StudyEvent.REQUEUED, Progress.REQUEUED, "its results were lost")
    return True


def _fail(session: Session, study: Study, detail: str) -> None:
    events.move(session, study, StudyEvent.FILES_LOST, Progress.FILES_LOST, detail)
