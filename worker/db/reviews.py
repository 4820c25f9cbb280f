"""Reviews in the database: recorded once, never changed; the newest one of a study counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, select

from worker.db import events, screenings
from worker.db.engine import now
from worker.db.tables import Review, Screening, Study
from worker.errors import ReviewError
from worker.lifecycle import ScreeningState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from worker.judgement import Label, RejectReason, ReviewDecision

_LONGEST_NAME = 128


def reviewable(study: Study) -> Screening:
    """Return the screening whose result can be reviewed: the one in force.

    Raises
    ------
    ReviewError
        If the study has no result, or a newer one is on its way.
    """
    screening = screenings.current(study)
    if screening is None or screening.state is not ScreeningState.SUCCEEDED or not screening.result:
        raise ReviewError(
            f"study {study.id} is {study.state.value} and has no result in force: only a "
            f"screened study can be reviewed; `lungwatch studies show {study.id}` says why"
        )
    return screening


def add(  # noqa: PLR0913 - the columns of a review
    session: Session,
    screening: Screening,
    *,
    reviewer: str,
    decision: ReviewDecision,
    label: Label,
    reason: RejectReason | None = None,
    segmentation: tuple[str, str] | None = None,
    note: str = "",
) -> Review:
    """Record a review; it supersedes the study's earlier ones, which stay.

    Parameters
    ----------
    session
        A transaction.
    screening
        Whose result was judged; it has to be in force still.
    reviewer
        Who judged.
    decision, reason, note
        The judgement.
    label
        What follows from it.
    segmentation
        Path in the reviews folder and SHA-256 of the lesions' outlines, where there are some.

    Raises
    ------
    ReviewError
        If another result came into force meanwhile, or the reviewer has no name.
    """
    if not 0 < len(reviewer) <= _LONGEST_NAME:
        raise ReviewError(f"the reviewer's name must have 1 to {_LONGEST_NAME} characters")
    study = screenings.lock_study(session, screening.study_id)
    if reviewable(study).id != screening.id:
        raise ReviewError(f"study {study.id} was screened again meanwhile: look at the new result")
    path, sha256 = segmentation or (None, None)
    review = Review(
        study_id=study.id,
        screening_id=screening.id,
        reviewed_at=now(session),
        reviewer=reviewer,
        decision=decision,
        reason=reason,
        covid=label.covid,
        lesions=label.lesions,
        segmentation_path=path,
        segmentation_sha256=sha256,
        note=note,
    )
    session.add(review)
    session.flush()
    events.record(
        session,
        "reviewed",
        study,
        screening,
        review=review.id,
        decision=decision.value,
        reason=reason.value if reason else "",
        segmentation_sha256=sha256 or "",
    )
    return review


def get(session: Session, review_id: int) -> Review:
    """Return a review that is known to exist."""
    return session.get_one(Review, review_id)


def of_study(session: Session, study: Study) -> Sequence[Review]:
    """List a study's reviews, oldest first; the last one counts."""
    return session.scalars(
        select(Review).where(Review.study_id == study.id).order_by(Review.id)
    ).all()


def in_force(session: Session) -> Sequence[Review]:
    """List the review that counts of each reviewed study, by study."""
    newest = select(func.max(Review.id)).group_by(Review.study_id)
    return session.scalars(
        select(Review).where(Review.id.in_(newest)).order_by(Review.study_id)
    ).all()


def still_holds(review: Review) -> bool:
    """Tell whether the instances that were judged are the ones of the newest screening.

    Another network's result of the same instances does not make a person's judgement of them
    wrong; instances that came since do: nobody has judged those.
    """
    newest = review.study.screenings[-1]
    judged = review.screening
    return (newest.series_instance_uid, newest.instances_digest) == (
        judged.series_instance_uid,
        judged.instances_digest,
    )
