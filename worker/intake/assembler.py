"""From settled studies to queued screenings: which series is screened, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import structlog
from sqlalchemy.exc import InterfaceError, OperationalError

from dicom_node.reading.assembly import series_digest_of_headers
from dicom_node.reading.header import InstanceHeader
from dicom_node.reading.series import SeriesDecision, StudySelection, select_series
from dicom_node.reasons import Reason
from dicom_node.sop_classes import CT_SOP_CLASSES
from worker.audit import trail
from worker.db import events, retention, screenings, studies
from worker.lifecycle import Progress, ScreeningState, StudyEvent

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from sqlalchemy.orm import Session

    from dicom_node.reading.series import SelectionPolicy
    from worker.db.engine import Database
    from worker.db.tables import Screening, Study
    from worker.intake.intake import Intake

log = structlog.get_logger(__name__)

# Of a study, as JSON; in memory they take several times that, beside the listener. A slice has 1.5
# kB, a frame of a multi-frame instance a tenth of that: some 30,000 slices.
_MOST_HEADER_BYTES = 48 * 1024 * 1024


class Assembler:
    """Judges studies whose settle time is over.

    Parameters
    ----------
    database
        Where studies are.
    policy
        Rules for choosing a series.
    """

    def __init__(self, database: Database, policy: SelectionPolicy) -> None:
        self._database = database
        self._policy = policy

    def run_after(self, intake: Intake) -> int:
        """Judge as `run_once`, but for what may still lie in the inbox in part."""
        return self.run_once(intake.studies_held_up) if intake.caught_up else 0

    def run_once(self, held_up: Collection[int] = ()) -> int:
        """Judge every settled study, each in a transaction of its own; return their number.

        Parameters
        ----------
        held_up
            Ids of those that are not to be judged yet.
        """
        with self._database.reading() as session:
            due = studies.settled(session, but_for=held_up)
        for study_id in due:
            try:
                self._judge(study_id)
            except (InterfaceError, OperationalError):
                raise
            except Exception as error:
                # One study that cannot be judged must not hold up the others.
                log.exception("study_not_assembled", study=study_id)
                self._fail(study_id, f"{type(error).__name__} while its series were judged")
        return len(due)

    def _judge(self, study_id: int) -> None:
        with self._database.transaction() as session:
            study = screenings.lock_study(session, study_id)
            # A slice that was recorded meanwhile waits for others, and may not be filed yet.
            if studies.is_settled(session, study):
                trail.study_received(session, study)
                self._assemble(session, study)

    def _fail(self, study_id: int, detail: str) -> None:
        with self._database.transaction() as session:
            study = screenings.lock_study(session, study_id)
            in_force = screenings.current(study)
            if in_force is not None:
                screenings.supersede(session, in_force)
            events.move(session, study, StudyEvent.FAILED, Progress.PROCESSING_ERROR, detail)

    def _assemble(self, session: Session, study: Study) -> None:
        if gone := retention.missing_images(session, study):
            self._judge_without(session, study, gone)
            return
        if (size := studies.header_bytes(session, study)) > _MOST_HEADER_BYTES:
            detail = (
                f"the headers of its instances take {size:,} bytes, the ceiling is "
                f"{_MOST_HEADER_BYTES:,}"
            )
            self._refuse(session, study, StudySelection(None, (), Reason.TOO_LARGE, detail))
            return
        instances = studies.assembly_candidates(session, study)
        headers = [InstanceHeader.from_json(instance.header) for instance in instances]
        selection = self._select(study, headers)
        studies.write_decisions(
            session, study, selection, {h.series_instance_uid: h for h in reversed(headers)}
        )
        if selection.chosen is None:
            self._refuse(session, study, selection)
            return
        chosen = [h for h in headers if h.series_instance_uid == selection.chosen]
        self._queue(session, study, selection.chosen, chosen)

    def _select(self, study: Study, headers: Sequence[InstanceHeader]) -> StudySelection:
        """Choose among the series, but for those a worker has found not to be screenable."""
        holds_ct = any(header.sop_class_uid in CT_SOP_CLASSES for header in headers)
        if not holds_ct and study.conflict_count:
            reason, detail = Reason.CONFLICTING_DUPLICATES, "its instances came before, otherwise"
            return StudySelection(None, (), reason, detail)
        refused = {
            uid: screening
            for uid, screening in screenings.refused_series(study).items()
            if screening.instances_digest == _digest(headers, uid)
        }
        left = [h for h in headers if h.series_instance_uid not in refused]
        selection = select_series(left, self._policy)
        decisions = tuple(
            SeriesDecision(
                series_instance_uid=uid,
                reason=Reason(screening.reason),
                detail=screening.detail,
                instance_count=sum(h.series_instance_uid == uid for h in headers),
            )
            for uid, screening in refused.items()
        )
        if selection.chosen is None and decisions:
            first = decisions[0]
            return StudySelection(None, selection.decisions + decisions, first.reason, first.detail)
        return replace(selection, decisions=selection.decisions + decisions)

    @staticmethod
    def _judge_without(session: Session, study: Study, gone: int) -> None:
        """Judge a study of which retention removed images, and something came since.

        Part of what was screened changes nothing; of anything new the rest of the study is wanted.
        """
        in_force = screenings.current(study)
        known = in_force is not None and not retention.has_new_images(session, study, in_force)
        if in_force is not None and known and in_force.state is ScreeningState.SUCCEEDED:
            studies.resume_unchanged(session, study, in_force)
            return
        detail = f"{gone} of its images were removed when their time was over"
        events.move(session, study, StudyEvent.REFUSED, Progress.IMAGES_CLEANED, detail)

    @staticmethod
    def _refuse(session: Session, study: Study, selection: StudySelection) -> None:
        in_force = screenings.current(study)
        if in_force is not None and in_force.state is not ScreeningState.REFUSED:
            screenings.supersede(session, in_force)
        nothing = selection.reason in {None, Reason.NOT_CT}
        event = StudyEvent.NOTHING_TO_SCREEN if nothing else StudyEvent.REFUSED
        reason = selection.reason or Progress.NOTHING_TO_SCREEN
        events.move(session, study, event, reason, selection.detail)

    @staticmethod
    def _queue(
        session: Session, study: Study, series_uid: str, headers: Sequence[InstanceHeader]
    ) -> None:
        digest = series_digest_of_headers(headers)
        in_force = screenings.current(study)
        if (
            in_force is not None
            and in_force.series_instance_uid == series_uid
            and in_force.instances_digest == digest
            and not _lost_on_its_way(in_force)
        ):
            studies.resume_unchanged(session, study, in_force)
            return
        screening = screenings.add(session, study, series_uid, digest)
        events.move(
            session,
            study,
            StudyEvent.SERIES_CHOSEN,
            Progress.WAITING_FOR_WORKER,
            f"series {series_uid}, {len(headers)} instances",
            screening,
        )


def _lost_on_its_way(screening: Screening) -> bool:
    """Tell whether the files of a result are gone and some were still to be sent."""
    return screening.cleaned_at is not None and not screenings.deliveries_done(screening)


def _digest(headers: Sequence[InstanceHeader], series_uid: str) -> str:
    return series_digest_of_headers(h for h in headers if h.series_instance_uid == series_uid)
