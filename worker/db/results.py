"""A screening's result in the database: result, findings and outbox in one transaction."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from dicom_node.objects.provenance import PredecessorReport
from worker.db import deliveries, events, model_versions, screenings
from worker.db.tables import FindingRow, Screening
from worker.lifecycle import Progress, ScreeningState, StudyEvent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from dicom_node.objects.provenance import ResultIdentity
    from model.prediction import ModelVersion
    from worker.db.screenings import Claim

_AT_WORK = (ScreeningState.QUEUED, ScreeningState.RUNNING)


def identity_digest(identity: ResultIdentity, *surroundings: object) -> str:
    """Hexadecimal SHA-256 that stands for a result's identity in one column.

    Parameters
    ----------
    identity
        Series, model and pipeline.
    *surroundings
        What else enters the bytes of the objects: equipment, time zone.
    """
    parts = (identity.series_digest, identity.model_sha256, identity.pipeline_digest)
    return hashlib.sha256("\n".join(map(str, (*parts, *surroundings))).encode()).hexdigest()


def origin(session: Session, screening: Screening, digest: str) -> Screening:
    """Return the first screening of the study that had this result, else the screening itself.

    Revision and dates of a result come from its origin, so that screening again gives the same
    objects to the byte, and nothing reaches a PACS twice.
    """
    first = session.scalar(
        select(Screening)
        .where(Screening.study_id == screening.study_id, Screening.result_identity == digest)
        .order_by(Screening.revision)
        .limit(1)
    )
    return first or screening


def predecessor_report(screening: Screening, session: Session) -> PredecessorReport | None:
    """Return the report that the screening's report supersedes."""
    if screening.predecessor_id is None:
        return None
    predecessor = screenings.get(session, screening.predecessor_id)
    # Not of its deliveries: a later screening that gave the same result has taken these over.
    objects = predecessor.result["objects"] if predecessor.result else ()
    report = next((entry for entry in objects if entry["kind"] == "sr"), None)
    if report is None:
        return None
    return PredecessorReport(
        study_instance_uid=screening.study.study_instance_uid,
        series_instance_uid=report["series_instance_uid"],
        sop_class_uid=report["sop_class_uid"],
        sop_instance_uid=report["sop_instance_uid"],
    )


def record_success(
    session: Session,
    claim: Claim,
    *,
    model: ModelVersion,
    identity: str,
    document: dict[str, Any],
    destinations: Sequence[str],
) -> None:
    """Record a result with its findings and its outbox, and let the study go on to delivery.

    Raises
    ------
    LeaseLostError
        If another claim holds the screening now; nothing is recorded then.
    """
    screening = screenings.finish(session, claim)
    screening.model_version_id = model_versions.used(session, model).id
    screening.result_identity = identity
    screening.result = document
    screening.findings = [_finding(lesion) for lesion in document["lesions"]]
    for destination in destinations:
        for entry in document["objects"]:
            deliveries.put(session, screening, destination, entry)
    session.flush()
    events.follow(session, screening, StudyEvent.SCREENED, Progress.WAITING_FOR_DESTINATION)
    deliveries.settle(session, screening.id)


def files_of_ended(session: Session, screening_id: int) -> frozenset[str] | None:
    """List the files of a screening that ended, relative to the results folder.

    Returns
    -------
    frozenset of str or None
        Empty where it ended without a result; None where it has not ended, or is not known.
    """
    screening = session.get(Screening, screening_id)
    if screening is None or screening.state in _AT_WORK:
        return None
    return frozenset(entry["path"] for entry in (screening.result or {}).get("objects", ()))


def _finding(lesion: dict[str, Any]) -> FindingRow:
    return FindingRow(
        segment_number=lesion["segment_number"],
        tracking_uid=lesion["tracking_uid"],
        volume_ml=lesion["volume_ml"],
        laterality=lesion["laterality"],
        mean_hu=lesion["mean_hu"],
        maximum_diameter_mm=lesion["maximum_diameter_mm"],
        slice_count=len(lesion["slices"]),
    )
