"""The use case of a review: judge a result, keep the outlines, record the label."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from dicom_node.objects.corrected_segmentation import read_corrected_segmentation
from dicom_node.reading.reader import read_ct_series
from model.files import write_bytes
from worker.audit.attempts import attempt
from worker.audit.trail import acted
from worker.audit_entry import AuditAction
from worker.db import reviews, studies
from worker.db.tables import Screening
from worker.errors import ImagesGoneError, ReviewError
from worker.judgement import (
    Label,
    Lesions,
    RejectReason,
    ReviewDecision,
    accepted,
    corrected,
    rejected,
)
from worker.screening.result import review_document

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from numpy.typing import NDArray
    from sqlalchemy.orm import Session

    from dicom_node.reading.ct_series import CtSeries
    from worker.audit.attempts import Attempt
    from worker.db.engine import Database

_SEGMENTATION = "seg"


@dataclass(frozen=True, slots=True)
class Folders:
    """Where an installation keeps what a review touches: instances, results, segmentations."""

    spool: Path
    results: Path
    reviews: Path


@dataclass(frozen=True, slots=True)
class Reviewer:
    """Who judges, and what they remark; remarks stay in the database."""

    name: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class _Subject:
    """The result under review, detached from any session."""

    study_id: int
    screening_id: int
    positive: bool
    segmentation: tuple[Path, str] | None


class ReviewDesk:
    """Records reviews.

    Parameters
    ----------
    database
        The truth.
    folders
        The installation's files.
    """

    def __init__(self, database: Database, folders: Folders) -> None:
        self._database = database
        self._folders = folders

    def accept(self, key: str, reviewer: Reviewer) -> dict[str, Any]:
        """Record that a result is right: its class and its lesions, of which a copy is kept.

        Parameters
        ----------
        key
            Id or Study Instance UID.
        reviewer
            Who judges.

        Returns
        -------
        dict
            As `worker.screening.result.review_document`.

        Raises
        ------
        NotFoundError
            If there is no such study.
        ReviewError
            If it has no result in force, or the result's segmentation is not what it was.
        """
        decision = ReviewDecision.ACCEPTED
        with self._attempt(key, decision):
            subject = self._subject(key)
            has_lesions = subject.segmentation is not None
            label = accepted(positive=subject.positive, has_lesions=has_lesions)
            data = self._own_segmentation(subject)
            return self._record(subject, reviewer, decision, label, data=data)

    def reject(self, key: str, reason: RejectReason, reviewer: Reviewer) -> dict[str, Any]:
        """Record that a result is wrong; the reason says what may be learned from the study.

        Raises
        ------
        NotFoundError, ReviewError
            As `accept`; also if the reason contradicts the result.
        """
        decision = ReviewDecision.REJECTED
        with self._attempt(key, decision):
            subject = self._subject(key)
            label = rejected(reason, positive=subject.positive)
            return self._record(subject, reviewer, decision, label, reason=reason)

    def correct(
        self, key: str, path: Path, reviewer: Reviewer, *, covid: bool | None = None
    ) -> dict[str, Any]:
        """Record the lesions that a person drew; what equals our own counts as acceptance.

        Parameters
        ----------
        key
            Id or Study Instance UID.
        path
            DICOM Segmentation on the series that was screened; a copy of it is kept.
        reviewer
            Who judges.
        covid
            The study's class, where the reviewer says it.

        Raises
        ------
        NotFoundError, ReviewError
            As `accept`; also if the images are no longer there.
        SegmentationError
            If the segmentation cannot be used.
        """
        with self._attempt(key, ReviewDecision.CORRECTED):
            return self._correct(key, path, reviewer, covid=covid)

    def _correct(
        self, key: str, path: Path, reviewer: Reviewer, *, covid: bool | None
    ) -> dict[str, Any]:
        subject = self._subject(key)
        series = self._series(subject)
        data = path.read_bytes()
        found = read_corrected_segmentation(path, series)
        label = corrected(positive=subject.positive, has_lesions=not found.is_empty, covid=covid)
        decision = ReviewDecision.CORRECTED
        if self._equals_our_own(subject, series, found.mask):
            own = accepted(positive=subject.positive, has_lesions=not found.is_empty)
            if label == own:
                decision = ReviewDecision.ACCEPTED
        document = self._record(subject, reviewer, decision, label, data=data)
        return {**document, "left_out_segments": list(found.left_out)}

    def _attempt(self, key: str, decision: ReviewDecision) -> AbstractContextManager[Attempt]:
        action = AuditAction.STUDY_REVIEWED
        return attempt(self._database, action, key, decision=decision.value)

    def _subject(self, key: str) -> _Subject:
        with self._database.reading() as session:
            screening = reviews.reviewable(studies.find(session, key))
            result = screening.result or {}
            entry = next(
                (each for each in result.get("objects", ()) if each["kind"] == _SEGMENTATION), None
            )
            own = (self._folders.results / entry["path"], entry["sha256"]) if entry else None
            return _Subject(screening.study_id, screening.id, bool(result["positive"]), own)

    def _own_segmentation(self, subject: _Subject) -> bytes | None:
        """Read the network's segmentation, None where it found no lesion."""
        if subject.segmentation is None:
            return None
        path, sha256 = subject.segmentation
        try:
            data = path.read_bytes()
        except OSError as error:
            raise _not_as_it_was(subject, f"cannot be read: {error.strerror}") from error
        if hashlib.sha256(data).hexdigest() != sha256:
            raise _not_as_it_was(subject, "is not the one that was written")
        return data

    def _equals_our_own(self, subject: _Subject, series: CtSeries, mask: NDArray[np.bool_]) -> bool:
        if subject.segmentation is None:
            return not mask.any()
        self._own_segmentation(subject)
        own = read_corrected_segmentation(subject.segmentation[0], series)
        return np.array_equal(own.mask, mask)

    def _series(self, subject: _Subject) -> CtSeries:
        with self._database.reading() as session:
            return screened_series(
                session, session.get_one(Screening, subject.screening_id), self._folders.spool
            )

    def _record(
        self,
        subject: _Subject,
        reviewer: Reviewer,
        decision: ReviewDecision,
        label: Label,
        *,
        reason: RejectReason | None = None,
        data: bytes | None = None,
    ) -> dict[str, Any]:
        if data is None and label.lesions is Lesions.DRAWN:
            label = replace(label, lesions=Lesions.UNKNOWN)
        kept = None if data is None else self._keep(subject, data)
        with self._database.transaction() as session:
            review = reviews.add(
                session,
                session.get_one(Screening, subject.screening_id),
                reviewer=reviewer.name,
                decision=decision,
                label=label,
                reason=reason,
                segmentation=kept,
                note=reviewer.note,
            )
            acted(
                session,
                AuditAction.STUDY_REVIEWED,
                review.study,
                reviewer=reviewer.name,
                decision=decision.value,
            )
            return review_document(review)

    def _keep(self, subject: _Subject, data: bytes) -> tuple[str, str]:
        """Copy a segmentation into the reviews folder, under a name no other content can have."""
        sha256 = hashlib.sha256(data).hexdigest()
        name = f"{subject.study_id}/seg-{sha256[:16]}.dcm"
        write_bytes(self._folders.reviews / name, data)
        return name, sha256


def screened_series(session: Session, screening: Screening, spool_dir: Path) -> CtSeries:
    """Read the series of a screening from the spool.

    Raises
    ------
    ImagesGoneError
        If its files are no longer there.
    RefusedError
        If it cannot be read any more.
    """
    uid = screening.series_instance_uid
    digests = {
        spool_dir / instance.path: instance.content_digest
        for instance in studies.series_instances(session, screening.study_id, uid)
    }
    try:
        return read_ct_series(list(digests), uid, digests=digests)
    except FileNotFoundError as error:
        raise ImagesGoneError(
            f"images of study {screening.study_id} are no longer in the spool: send it again"
        ) from error


def _not_as_it_was(subject: _Subject, what: str) -> ReviewError:
    return ReviewError(
        f"the segmentation of study {subject.study_id}'s result {what}; screen it again with "
        f"`lungwatch studies requeue {subject.study_id} --rescreen`, then review"
    )
