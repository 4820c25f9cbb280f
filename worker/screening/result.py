"""Results as plain JSON: the content of ``result.json`` and of ``lungwatch studies show``."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from dicom_node.objects.provenance import UidRole

if TYPE_CHECKING:
    from datetime import datetime

    from dicom_node.reading.ct_series import CtSeries
    from model.prediction import Finding, Prediction
    from worker.db.tables import Delivery, Event, Review, Screening, Series, Study
    from worker.screening.screening import Outcome

NOTICE = "Unverified result of a research network, for review by a radiologist."


def result_document(outcome: Outcome) -> dict[str, Any]:
    """Describe the outcome of one screening.

    Returns
    -------
    dict
        JSON types only; volumes in mL, Hounsfield values in HU, diameters in mm, times in s.
    """
    prediction, series = outcome.prediction, outcome.series
    return {
        "notice": NOTICE,
        "study_instance_uid": series.study_instance_uid,
        "series_instance_uid": series.series_instance_uid,
        "revision": outcome.context.revision,
        "model_name": prediction.model.name,
        "model_version": prediction.model.version,
        "model_sha256": prediction.model.sha256,
        "covid_probability": round(prediction.covid_probability, 6),
        "operating_point": round(prediction.operating_point, 6),
        "positive": prediction.positive,
        "screened_slices": _screened_slices(series, prediction),
        "slice_probabilities": [round(p, 6) for p in prediction.slice_probabilities],
        "lesions": [_lesion(outcome, finding) for finding in prediction.findings],
        "total_lesion_volume_ml": round(prediction.total_lesion_volume_ml, 3),
        "lung_volume_ml": round(prediction.lung_volume_ml, 1),
        "lung_involvement_percent": round(prediction.lung_involvement_percent, 3),
        "objects": [
            {
                "kind": encoded.kind,
                "sop_class_uid": encoded.sop_class_uid,
                "sop_instance_uid": encoded.sop_instance_uid,
                "series_instance_uid": encoded.series_instance_uid,
                "sha256": hashlib.sha256(encoded.data).hexdigest(),
            }
            for encoded in outcome.objects
        ],
        "timings": outcome.timings,
    }


def _screened_slices(series: CtSeries, prediction: Prediction) -> list[dict[str, Any]]:
    slices = []
    for index in prediction.screened_slices:
        reference = series.slices[index]
        entry: dict[str, Any] = {"index": index, "sop_instance_uid": reference.sop_instance_uid}
        if reference.frame_number is not None:
            entry["frame_number"] = reference.frame_number
        slices.append(entry)
    return slices


def _lesion(outcome: Outcome, finding: Finding) -> dict[str, Any]:
    return {
        "segment_number": finding.segment_number,
        "tracking_uid": outcome.context.uid(UidRole.LESION, finding.segment_number),
        "volume_ml": round(finding.volume_ml, 3),
        "slices": list(finding.slice_indices),
        "laterality": finding.laterality.value,
        "mean_hu": round(finding.mean_hu, 1),
        "maximum_diameter_mm": round(finding.maximum_diameter_mm, 1),
        "component_count": finding.component_count,
    }


def study_summary(study: Study) -> dict[str, Any]:
    """Describe a study in one line of a list; its patient is not named."""
    return {
        "id": study.id,
        "study_instance_uid": study.study_instance_uid,
        "state": study.state.value,
        "reason": study.reason,
        "detail": study.detail,
        "revision": study.revision,
        "duplicate_count": study.duplicate_count,
        "conflict_count": study.conflict_count,
        "created_at": _iso(study.created_at),
        "updated_at": _iso(study.updated_at),
        "cleaned_at": _iso(study.cleaned_at),
    }


def study_document(study: Study, events: list[Event] | None = None) -> dict[str, Any]:
    """Describe a study with its series, its result in force, its deliveries and its history.

    Parameters
    ----------
    study
        The study, in an open session.
    events
        Its lines of the event log, oldest first.

    Returns
    -------
    dict
        The fields of `result_document` stand at the top level once there is a result.
    """
    newest = study.screenings[-1] if study.screenings else None
    result = newest.result if newest is not None and newest.result else {}
    return {
        **result,
        **study_summary(study),
        "series": [_series(series) for series in study.series],
        "screenings": [_screening(screening) for screening in study.screenings],
        "deliveries": [
            _delivery(delivery)
            for screening in study.screenings
            for delivery in screening.deliveries
        ],
        "events": [
            {"at": _iso(event.at), "event": event.event, **event.detail} for event in events or []
        ],
    }


def review_document(review: Review) -> dict[str, Any]:
    """Describe a review in JSON types."""
    return {
        "id": review.id,
        "study": review.study_id,
        "screening": review.screening_id,
        "reviewed_at": _iso(review.reviewed_at),
        "reviewer": review.reviewer,
        "decision": review.decision.value,
        "reason": review.reason.value if review.reason else None,
        "covid": review.covid,
        "lesions": review.lesions.value,
        "segmentation_sha256": review.segmentation_sha256,
        "note": review.note,
    }


def _series(series: Series) -> dict[str, Any]:
    return {
        "series_instance_uid": series.series_instance_uid,
        "modality": series.modality,
        "instance_count": series.instance_count,
        "chosen": series.chosen,
        "reason": series.reason,
        "detail": series.detail,
    }


def _screening(screening: Screening) -> dict[str, Any]:
    return {
        "id": screening.id,
        "revision": screening.revision,
        "series_instance_uid": screening.series_instance_uid,
        "state": screening.state.value,
        "reason": screening.reason,
        "detail": screening.detail,
        "attempts": screening.attempts,
        "created_at": _iso(screening.created_at),
        "started_at": _iso(screening.started_at),
        "finished_at": _iso(screening.finished_at),
        "cleaned_at": _iso(screening.cleaned_at),
    }


def _delivery(delivery: Delivery) -> dict[str, Any]:
    return {
        "destination": delivery.destination,
        "kind": delivery.kind,
        "sop_instance_uid": delivery.sop_instance_uid,
        "state": delivery.state.value,
        "attempts": delivery.attempts,
        "next_attempt_at": _iso(delivery.next_attempt_at),
        "last_error": delivery.last_error,
        "delivered_at": _iso(delivery.delivered_at),
        "commitment": delivery.commitment.value,
        "commitment_attempts": delivery.commitment_attempts,
        "commitment_error": delivery.commitment_error,
        "committed_at": _iso(delivery.committed_at),
    }


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat(timespec="milliseconds") if moment else None
