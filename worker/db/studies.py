"""Studies and their instances in the database: recording what came, finding, requeueing."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from sqlalchemy import Text, and_, cast, delete, func, or_, select
from sqlalchemy.orm import undefer

from dicom_node.reading.assembly import settles_at
from dicom_node.reasons import Reason
from worker.db import deliveries, events, retention, screenings
from worker.db.engine import now
from worker.db.tables import Delivery, Instance, Screening, Series, Study
from worker.errors import NotFoundError, TransitionError
from worker.lifecycle import (
    AT_REST,
    Progress,
    ScreeningState,
    StudyEvent,
    StudyState,
    advance,
    resume,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import ColumnElement
    from sqlalchemy.orm import Session

    from dicom_node.reading.header import InstanceHeader
    from dicom_node.reading.series import StudySelection

_UNREADABLE = "unreadable-"


class Disposition(StrEnum):
    """What was done with a received instance."""

    ACCEPTED = "accepted"
    IGNORED = "ignored"
    CONFLICT = "conflict"
    REPLACED = "replaced"
    QUARANTINED = "quarantined"


@dataclass(frozen=True, slots=True)
class Receipt:
    """An instance as the spool holds it."""

    content_digest: str
    path: str
    calling_ae_title: str


def find_or_add(session: Session, header: InstanceHeader) -> Study:
    """Return the study an instance belongs to, locked, new if this is its first instance."""
    study = by_uid(session, header.study_instance_uid)
    if study is not None:
        return screenings.lock_study(session, study.id)
    return _add(
        session,
        header.study_instance_uid,
        state=StudyState.IGNORED,
        reason=Progress.NOTHING_TO_SCREEN,
        patient_id=header.patient_id,
        patient_name=header.patient_name,
        accession_number=header.accession_number,
        study_date=header.study_date,
        study_description=header.study_description,
    )


def add_unreadable(
    session: Session, sop_instance_uid: str, state: StudyState, reason: str, detail: str
) -> Study:
    """Return a study that stands for an instance in quarantine, whose own is not known."""
    uid = f"{_UNREADABLE}{sop_instance_uid}"
    study = by_uid(session, uid)
    if study is None:
        study = _add(session, uid, state=state, reason=reason, detail=detail)
    return study


def _add(session: Session, uid: str, **facts: Any) -> Study:  # noqa: ANN401 - columns of all types
    moment = now(session)
    study = Study(study_instance_uid=uid, created_at=moment, updated_at=moment, **facts)
    session.add(study)
    session.flush()
    events.record(session, "study_added", study, state=study.state.value, reason=study.reason)
    return study


def same_instance(session: Session, sop_instance_uid: str) -> Sequence[Instance]:
    """List what was received before under a SOP Instance UID."""
    return session.scalars(
        select(Instance).where(Instance.sop_instance_uid == sop_instance_uid)
    ).all()


def add_instance(
    session: Session,
    study: Study,
    receipt: Receipt,
    sop_instance_uid: str,
    disposition: Disposition,
    reason: str | None = None,
    header: InstanceHeader | None = None,
) -> None:
    """Record one received instance."""
    session.add(
        Instance(
            study_id=study.id,
            series_instance_uid=header.series_instance_uid if header else "",
            sop_instance_uid=sop_instance_uid,
            sop_class_uid=header.sop_class_uid if header else "",
            content_digest=receipt.content_digest,
            path=receipt.path,
            disposition=disposition.value,
            reason=reason,
            header=header.to_json() if header else {},
            calling_ae_title=receipt.calling_ae_title,
            received_at=now(session),
        )
    )


def ct_received(session: Session, study: Study, settle_seconds: float) -> None:
    """Let a study wait for more of its CT: it settles when nothing has come for a while."""
    study.assemble_at = settles_at(now(session), settle_seconds)
    if study.state is not StudyState.RECEIVING:
        events.move(session, study, StudyEvent.CT_RECEIVED, Progress.WAITING_TO_SETTLE)


def is_delivered_object(session: Session, sop_instance_uid: str) -> bool:
    """Tell whether this SOP instance is a result this installation has sent."""
    return (
        session.scalar(
            select(Delivery.id).where(Delivery.sop_instance_uid == sop_instance_uid).limit(1)
        )
        is not None
    )


def settled(session: Session, *, but_for: Collection[int] = (), limit: int = 20) -> Sequence[int]:
    """List the studies whose settle time is over, but for those with one of these ids."""
    return session.scalars(
        select(Study.id)
        .where(_is_settled(now(session)), Study.id.not_in(but_for))
        .order_by(Study.assemble_at)
        .limit(limit)
    ).all()


def is_settled(session: Session, study: Study) -> bool:
    """Tell whether a study's settle time is over, as it is now."""
    query = select(Study.id).where(Study.id == study.id, _is_settled(now(session)))
    return session.scalar(query) is not None


def _is_settled(moment: datetime) -> ColumnElement[bool]:
    return and_(Study.state == StudyState.RECEIVING, Study.assemble_at <= moment)


def awaited_files(session: Session) -> dict[str, int]:
    """List where the spool keeps the slices of studies that are still receiving, with their ids."""
    found = session.execute(
        select(Instance.path, Instance.study_id)
        .join(Study, Instance.study_id == Study.id)
        .where(
            Study.state == StudyState.RECEIVING,
            Instance.disposition == Disposition.ACCEPTED,
            Instance.cleaned_at.is_(None),
        )
    )
    return {row.path: row.study_id for row in found}


def assembly_candidates(session: Session, study: Study) -> Sequence[Instance]:
    """List the instances a series may be chosen from, in the order they came.

    All that can be read and is the first under its UID; our own results are none of them.
    """
    return session.scalars(
        select(Instance)
        .where(*_may_be_chosen_from(study))
        .order_by(Instance.id)
        .options(undefer(Instance.header))
    ).all()


def header_bytes(session: Session, study: Study) -> int:
    """Add up what the headers of the `assembly_candidates` take, without reading them."""
    size = func.coalesce(func.sum(func.length(cast(Instance.header, Text))), 0)
    return int(session.scalars(select(size).where(*_may_be_chosen_from(study))).one())


def _may_be_chosen_from(study: Study) -> tuple[ColumnElement[bool], ...]:
    return (
        Instance.study_id == study.id,
        Instance.disposition.in_((Disposition.ACCEPTED, Disposition.IGNORED)),
        or_(Instance.reason.is_(None), Instance.reason != Reason.OWN_RESULT),
    )


def series_instances(session: Session, study_id: int, series_uid: str) -> Sequence[Instance]:
    """List the accepted instances of one series, in the order they came."""
    return session.scalars(
        select(Instance)
        .where(
            Instance.study_id == study_id,
            Instance.series_instance_uid == series_uid,
            Instance.disposition == Disposition.ACCEPTED,
        )
        .order_by(Instance.id)
    ).all()


def write_decisions(
    session: Session,
    study: Study,
    selection: StudySelection,
    first_headers: Mapping[str, InstanceHeader],
) -> None:
    """Replace the decisions on the study's series by those of this assembly.

    Parameters
    ----------
    session
        The assembly's transaction.
    study
        The study.
    selection
        What was chosen, and why the others were not.
    first_headers
        For each Series Instance UID one of its instances, for modality and description.
    """
    session.execute(delete(Series).where(Series.study_id == study.id))
    for decision in selection.decisions:
        header = first_headers[decision.series_instance_uid]
        session.add(
            Series(
                study_id=study.id,
                series_instance_uid=decision.series_instance_uid,
                modality=header.modality,
                description=header.series_description,
                instance_count=decision.instance_count,
                chosen=decision.series_instance_uid == selection.chosen,
                reason=decision.reason.value if decision.reason else None,
                detail=decision.detail,
            )
        )


def resume_unchanged(session: Session, study: Study, screening: Screening) -> None:
    """Put a settled study back to where it was: the late instances changed nothing."""
    done = screenings.deliveries_done(screening)
    state = resume(screening.state, deliveries_done=done)
    reasons = {
        StudyState.QUEUED: Progress.WAITING_FOR_WORKER,
        StudyState.SCREENING: Progress.IN_WORK,
        StudyState.DELIVERING: Progress.WAITING_FOR_DESTINATION,
        StudyState.COMPLETED: Progress.DELIVERED
        if screening.deliveries
        else Progress.NO_DESTINATION,
    }
    reason = reasons.get(state, screening.reason)
    detail = screening.detail if state not in reasons else ""
    if screening.state is ScreeningState.QUEUED:
        screening.published_at = None
    events.place(session, study, state, StudyEvent.UNCHANGED, reason, detail, screening)
    deliveries.settle(session, screening.id)


def requeue(
    session: Session, study: Study, destinations: Sequence[str], *, rescreen: bool = False
) -> None:
    """Take a study up again from what stopped it.

    A result that exists is delivered again, to the destinations that are set now (deterministic
    UIDs make that harmless); a failed or refused screening, or any with `rescreen`, is done
    again as a new revision; a study refused before that is assembled again, for instance after a
    setting was changed. Where retention removed the files of a result, it is made again, the same.

    Parameters
    ----------
    session
        A transaction.
    study
        The study.
    destinations
        Names of the destinations that are set.
    rescreen
        Whether to screen again although there is a result.

    Raises
    ------
    TransitionError
        If the study is on its way, stands for something unreadable, or its images are gone.
    """
    study = screenings.lock_study(session, study.id)
    advance(study.state, StudyEvent.REQUEUED)
    if gone := retention.missing_images(session, study):
        raise TransitionError(
            f"study {study.id}: {gone} of its images were removed when their time was over; send "
            "it again, then requeue it"
        )
    if study.study_instance_uid.startswith(_UNREADABLE):
        raise TransitionError(
            f"study {study.id} stands for an object that could not be read; send it again"
        )
    screening = screenings.current(study)
    has_result = screening is not None and screening.state is ScreeningState.SUCCEEDED
    if screening is not None and has_result and not rescreen and screening.cleaned_at is None:
        deliveries.send_again(session, screening, destinations)
    else:
        for refused in screenings.refused_series(study).values():
            screenings.supersede(session, refused)
        if screening is not None:
            screenings.supersede(session, screening)
    study.assemble_at = now(session)
    events.move(session, study, StudyEvent.REQUEUED, Progress.REQUEUED)


def readmit(session: Session, header: InstanceHeader, study: Study) -> list[str]:
    """Forget an instance in quarantine that was now read: it belongs to its own study after all.

    Returns
    -------
    list of str
        Names of the files in quarantine that stand for nothing any more: empty for almost all.
    """
    forgotten = []
    for instance in same_instance(session, header.sop_instance_uid):
        if instance.disposition != Disposition.QUARANTINED:
            continue
        if instance.content_digest != header.content_sha256:
            continue
        forgotten.append(instance.path.rpartition("/")[2])
        stand_in = instance.study
        session.delete(instance)
        events.place(
            session,
            stand_in,
            StudyState.IGNORED,
            StudyEvent.NOTHING_TO_SCREEN,
            Progress.RECEIVED_AGAIN,
            f"it came again and belongs to study {study.id}",
        )
    session.flush()
    return forgotten


def by_uid(session: Session, study_instance_uid: str) -> Study | None:
    """Return the study with this UID, None if it never came."""
    return session.scalar(select(Study).where(Study.study_instance_uid == study_instance_uid))


def find(session: Session, key: str) -> Study:
    """Return the study with this id or Study Instance UID.

    Raises
    ------
    NotFoundError
        If there is none.
    """
    study = by_uid(session, key)
    if study is None and key.isdigit() and len(key) < 19:
        study = session.get(Study, int(key))
    if study is None:
        raise NotFoundError(f"there is no study {key}; `lungwatch studies list` shows all")
    return study


def list_studies(
    session: Session, state: StudyState | None = None, limit: int = 100
) -> Sequence[Study]:
    """List studies, the latest change first."""
    query = select(Study).order_by(Study.updated_at.desc(), Study.id.desc()).limit(limit)
    if state is not None:
        query = query.where(Study.state == state)
    return session.scalars(query).all()


def is_at_rest(study: Study) -> bool:
    """Tell whether nothing will happen to the study by itself."""
    return study.state in AT_REST
