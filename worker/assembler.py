"""From settled studies to queued screenings: which series is screened, and what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog
from sqlalchemy.exc import InterfaceError, OperationalError

from dicom_node.assembly import series_digest_of_headers
from dicom_node.header import InstanceHeader
from dicom_node.series import select_series
from worker.db import events, screenings, studies
from worker.lifecycle import Progress, StudyEvent, StudyState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

    from dicom_node.series import SelectionPolicy, StudySelection
    from worker.db.engine import Database
    from worker.db.tables import Study

log = structlog.get_logger(__name__)


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

    def run_once(self) -> int:
        """Judge every settled study, each in a transaction of its own; return their number."""
        with self._database.reading() as session:
            due = studies.settled(session)
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
            study = studies.lock(session, study_id)
            if study.state is StudyState.RECEIVING:
                self._assemble(session, study)

    def _fail(self, study_id: int, detail: str) -> None:
        with self._database.transaction() as session:
            study = studies.lock(session, study_id)
            events.move(session, study, StudyEvent.FAILED, Progress.PROCESSING_ERROR, detail)

    def _assemble(self, session: Session, study: Study) -> None:
        instances = studies.assembly_candidates(session, study)
        headers = [InstanceHeader.from_json(instance.header) for instance in instances]
        selection = select_series(headers, self._policy)
        studies.write_decisions(
            session, study, selection, {h.series_instance_uid: h for h in reversed(headers)}
        )
        if selection.chosen is None:
            self._refuse(session, study, selection)
            return
        chosen = [h for h in headers if h.series_instance_uid == selection.chosen]
        self._queue(session, study, selection.chosen, chosen)

    @staticmethod
    def _refuse(session: Session, study: Study, selection: StudySelection) -> None:
        in_force = screenings.current(study)
        if in_force is not None:
            screenings.supersede(session, in_force)
        if selection.reason is None:
            events.move(session, study, StudyEvent.NOTHING_TO_SCREEN, Progress.NOTHING_TO_SCREEN)
        else:
            events.move(session, study, StudyEvent.REFUSED, selection.reason, selection.detail)

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
