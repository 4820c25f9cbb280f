"""From the spool's inbox into the database: what came, to which study, and what to do with it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import structlog
from pydicom.filereader import read_file_meta_info
from sqlalchemy.exc import InterfaceError, OperationalError

from dicom_node.errors import RefusedError, SpoolError
from dicom_node.header import read_header
from dicom_node.provenance import is_own_result
from dicom_node.reasons import Reason
from dicom_node.sop_classes import CT_SOP_CLASSES
from worker.db import events, studies
from worker.db.studies import Disposition, Receipt
from worker.lifecycle import Progress, StudyState

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sqlalchemy.orm import Session

    from dicom_node.header import InstanceHeader
    from dicom_node.refusals import RefusalNote
    from dicom_node.spool import Spool
    from worker.db.engine import Database
    from worker.db.tables import Instance, Study

log = structlog.get_logger(__name__)


class Intake:
    """Records what the listener spooled.

    An instance is recorded first and moved into its study's folder after the commit: whatever
    is interrupted is found in the inbox again and finished.

    Parameters
    ----------
    database, spool
        Where instances are recorded and lie.
    settle_seconds
        How long a study waits for more CT.
    """

    def __init__(self, database: Database, spool: Spool, settle_seconds: float) -> None:
        self._database = database
        self._spool = spool
        self._settle_seconds = settle_seconds

    def run_once(self) -> int:
        """Record everything that waits.

        Returns
        -------
        int
            Number of instances and refusal notes recorded.
        """
        count = 0
        for path in self._spool.inbox():
            self._take_or_set_aside(path)
            count += 1
        for path, note in self._spool.refusals():
            with self._database.transaction() as session:
                events.record(session, "refused_at_association", **_as_json(note))
            self._spool.drop_refusal(path)
            count += 1
        return count

    def _take_or_set_aside(self, path: Path) -> None:
        """Record one instance; one that cannot be recorded must not hold up the others."""
        try:
            self._take(path)
        except RefusedError as error:
            self._quarantine(path, StudyState.REFUSED, error.reason, error.detail)
        except (OSError, SpoolError, InterfaceError, OperationalError):
            # The disk or the database is in trouble, not the instance: it waits.
            raise
        except Exception as error:
            log.exception("instance_not_recorded", file=path.name)
            detail = f"{type(error).__name__} while it was recorded"
            self._quarantine(path, StudyState.FAILED, Progress.PROCESSING_ERROR, detail)

    def _take(self, path: Path) -> None:
        header = read_header(path, content_sha256=self._spool.digest_of(path))
        with self._database.transaction() as session:
            recorded = self._record(session, path, header)
        if recorded:
            self._spool.file_into_study(
                path,
                header.study_instance_uid,
                header.sop_instance_uid,
                self._spool.digest_of(path),
            )
        else:
            self._spool.discard(path)

    def _record(self, session: Session, path: Path, header: InstanceHeader) -> bool:
        """Record one instance; tell whether its file is to be kept."""
        target = self._spool.study_path(
            header.study_instance_uid, header.sop_instance_uid, header.content_sha256
        )
        receipt = Receipt(
            header.content_sha256,
            str(target.relative_to(self._spool.root)),
            _calling_ae_title(path),
        )
        study = studies.find_or_add(session, header)
        known = studies.same_instance(session, header.sop_instance_uid)
        if any(instance.content_digest == header.content_sha256 for instance in known):
            # Recorded before: a duplicate, or a move that a crash prevented.
            if target.exists():
                study.duplicate_count += 1
                return False
            return True
        disposition, reason = _judge(session, header, known)
        studies.add_instance(
            session, study, receipt, header.sop_instance_uid, disposition, reason, header
        )
        if disposition is Disposition.ACCEPTED:
            studies.ct_received(session, study, self._settle_seconds)
        else:
            self._note(session, study, header, disposition, reason)
        return True

    @staticmethod
    def _note(
        session: Session,
        study: Study,
        header: InstanceHeader,
        disposition: Disposition,
        reason: str | None,
    ) -> None:
        if disposition is Disposition.CONFLICT:
            study.detail = (
                f"another object came under the SOP Instance UID {header.sop_instance_uid}; "
                "the first is kept"
            )
        events.record(
            session,
            f"instance_{disposition.value}",
            study,
            reason=reason,
            sop_class_uid=header.sop_class_uid,
            sop_instance_uid=header.sop_instance_uid,
        )

    def _quarantine(self, path: Path, state: StudyState, reason: str, detail: str) -> None:
        uid = _claimed_sop_instance_uid(path)
        digest = self._spool.digest_of(path)
        receipt = Receipt(digest, f"quarantine/{path.name}", _calling_ae_title(path))
        with self._database.transaction() as session:
            known = studies.same_instance(session, uid)
            if not any(instance.content_digest == digest for instance in known):
                study = studies.add_unreadable(session, uid, state, reason, detail)
                studies.add_instance(session, study, receipt, uid, Disposition.REFUSED, reason)
        self._spool.quarantine(path, reason)
        log.warning("instance_quarantined", reason=str(reason), detail=detail)


def _judge(
    session: Session, header: InstanceHeader, known: Sequence[Instance]
) -> tuple[Disposition, str | None]:
    if is_own_result(header) or studies.is_delivered_object(session, header.sop_instance_uid):
        return Disposition.IGNORED, Reason.OWN_RESULT
    if known:
        return Disposition.CONFLICT, Reason.CONFLICTING_DUPLICATES
    if header.sop_class_uid not in CT_SOP_CLASSES:
        return Disposition.IGNORED, Reason.NOT_CT
    return Disposition.ACCEPTED, None


def _as_json(note: RefusalNote) -> dict[str, Any]:
    return {**asdict(note), "time": note.time.isoformat()}


def _calling_ae_title(path: Path) -> str:
    return str(read_file_meta_info(path).get("SourceApplicationEntityTitle", ""))


def _claimed_sop_instance_uid(path: Path) -> str:
    """Return the UID the sender named in its C-STORE request, which the spool wrote down."""
    return str(read_file_meta_info(path).get("MediaStorageSOPInstanceUID", path.stem))
