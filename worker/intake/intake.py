"""From the spool's inbox into the database: what came, to which study, and what to do with it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import structlog
from sqlalchemy.exc import DataError, IntegrityError, InterfaceError, OperationalError

from dicom_node.errors import RefusedError, SpoolError
from dicom_node.objects.provenance import is_own_result
from dicom_node.reading.decoder import Decoder, shared_decoder
from dicom_node.reading.header import InstanceHeader
from dicom_node.reading.integrity import content_digest_of_file
from dicom_node.reasons import Reason
from dicom_node.sop_classes import CT_SOP_CLASSES
from worker.audit import trail
from worker.db import events, retention, screenings, studies
from worker.db.studies import Disposition, Receipt
from worker.intake.sender import calling_ae_title, claimed_sop_instance_uid, own_uid
from worker.intake.waiting_files import WaitingFiles
from worker.lifecycle import Progress, StudyState

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sqlalchemy.orm import Session

    from dicom_node.receiving.refusals import RefusalNote
    from dicom_node.receiving.spool import Spool
    from worker.db.engine import Database
    from worker.db.tables import Instance, Study

# So often the decoder may be killed over a file while it serves others.
_MOST_ENDS_OF_DECODER = 3
# What is in quarantine nobody could read, and of the others one is kept already.
_FIRST_UNDER_A_UID = frozenset({Disposition.ACCEPTED, Disposition.IGNORED})

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
    decoder
        Reads the headers in a process of its own: no header may cost this one memory or time.
        None for that of this process.
    """

    def __init__(
        self,
        database: Database,
        spool: Spool,
        settle_seconds: float,
        decoder: Decoder | None = None,
    ) -> None:
        self._database = database
        self._spool = spool
        self._settle_seconds = settle_seconds
        self._decoder = decoder or shared_decoder()
        self._caught_up = False
        self._waiting = WaitingFiles()

    @property
    def caught_up(self) -> bool:
        """Whether the last round recorded everything that waited.

        Before that no study may be judged: its missing slices could lie in the inbox. Which files
        hold up nothing though they wait, `WaitingFiles` tells.
        """
        return self._caught_up

    @property
    def studies_held_up(self) -> frozenset[int]:
        """Ids of the studies of which a recorded file waits in the inbox to be moved.

        A worker would miss it in the study's folder: these are not to be judged.
        """
        return self._waiting.studies_held_up

    def run_once(self) -> int:
        """Record everything that waits.

        Returns
        -------
        int
            Number of instances and notes recorded.
        """
        self._caught_up = False
        count = self._take_inbox() + self._take_refusals() + self._take_admissions()
        self._caught_up = not self._waiting.hold_up_studies
        return count

    def _take_inbox(self) -> int:
        count = 0
        self._waiting.begin_round()
        for path in self._spool.inbox():
            try:
                if not path.is_file():
                    continue
                path = self._spool.adopt(path)  # noqa: PLW2901 - its name from now on
                self._take_or_set_aside(path)
                count += 1
            except (OSError, SpoolError) as error:
                # One file on a bad sector must keep neither the others nor the notes waiting.
                self._waiting.add(path, error)
        self._waiting.end_round(self._missed())
        return count

    def _missed(self) -> dict[Path, int]:
        """Tell which of the files that wait are recorded, and which study misses each."""
        if not self._waiting.paths:
            return {}
        waiting = {path.name: path for path in self._waiting.paths}
        with self._database.reading() as session:
            awaited = studies.awaited_files(session)
        return {
            waiting[name]: study_id
            for path, study_id in awaited.items()
            if (name := PurePath(path).name) in waiting and not self._is_there(path)
        }

    def _is_there(self, path: str) -> bool:
        try:
            return (self._spool.root / path).exists()
        except OSError:
            return False

    def _take_refusals(self) -> int:
        count = 0
        for path, note in self._spool.refusals():
            with self._database.transaction() as session:
                events.record(session, events.REFUSED_AT_ASSOCIATION, **_as_json(note))
                trail.turned_away(session, note)
            self._spool.drop_refusal(path)
            count += 1
        return count

    def _take_admissions(self) -> int:
        count = 0
        for path, note in self._spool.admissions.read():
            with self._database.transaction() as session:
                trail.admitted(session, note)
            path.unlink(missing_ok=True)
            count += 1
        return count

    def _take_or_set_aside(self, path: Path) -> None:
        """Record one instance; one that cannot be recorded must not hold up the others."""
        try:
            try:
                self._take(path)
            except IntegrityError:
                # Another process was first with the same study or instance: now it is known.
                self._take(path)
        except RefusedError as error:
            self._quarantine(path, StudyState.REFUSED, error.reason, error.detail)
        except ChildProcessError:
            if not self._kills_the_decoder(path):
                raise
            detail = (
                f"the process that read it was killed {_MOST_ENDS_OF_DECODER} times, as the kernel "
                "does for want of memory, and not over other objects"
            )
            self._quarantine(path, StudyState.REFUSED, Reason.DECODER_FAILED, detail)
        except (OSError, SpoolError, MemoryError, InterfaceError, OperationalError):
            # The machine or the database is in trouble, not the instance: it waits.
            raise
        except Exception as error:
            log.exception("instance_not_recorded", file=path.name)
            detail = f"{type(error).__name__} while it was recorded"
            self._quarantine(path, StudyState.FAILED, Progress.PROCESSING_ERROR, detail)

    def _kills_the_decoder(self, path: Path) -> bool:
        """Tell whether a file is to blame that the decoder was killed, and not the machine."""
        try:
            self._decoder.read_header(path.with_suffix(".absent"))
        except FileNotFoundError:
            # The decoder's own answer: it lives.
            return self._waiting.count_end_of_decoder(path) >= _MOST_ENDS_OF_DECODER
        except OSError:
            pass
        return False

    def _take(self, path: Path) -> None:
        try:
            header = self._decoder.read_header(path, self._spool.digest_of(path))
        except RefusedError:
            known = self._header_of_known(path)
            if known is None:
                raise
            header = known
        with self._database.transaction() as session:
            study = studies.find_or_add(session, header)
            readmitted = studies.readmit(session, header, study)
            recorded = self._record(session, study, path, header)
        # First: the record of them is gone, and this is not reached again where the move fails.
        for name in readmitted:
            self._spool.forget_quarantined(name)
        if recorded:
            self._file(path, header)
        else:
            self._spool.discard(path)

    def _header_of_known(self, path: Path) -> InstanceHeader | None:
        """Give what was read of the same bytes before: that they cannot be now is of the moment.

        In quarantine they would be missing in their study, and stand there under no record.
        """
        digest = self._spool.digest_of(path)
        with self._database.reading() as session:
            for instance in studies.same_instance(session, claimed_sop_instance_uid(path)):
                if instance.content_digest == digest and instance.header:
                    return InstanceHeader.from_json(instance.header)
        return None

    def _file(self, path: Path, header: InstanceHeader) -> None:
        """Move a recorded instance to its study, unless retention gave it up in between.

        Under the study's lock, or retention could be through with the study before the file is
        in its folder, where nothing would look for it any more.
        """
        with self._database.transaction() as session:
            kept = retention.is_kept(session, header.sop_instance_uid, header.content_sha256)
            if kept:
                self._spool.file_into_study(
                    path,
                    header.study_instance_uid,
                    header.sop_instance_uid,
                    self._spool.digest_of(path),
                )
        if not kept:
            self._spool.discard(path)

    def _record(self, session: Session, study: Study, path: Path, header: InstanceHeader) -> bool:
        """Record one instance; tell whether its file is to be kept."""
        target = self._spool.study_path(
            header.study_instance_uid, header.sop_instance_uid, header.content_sha256
        )
        known = studies.same_instance(session, header.sop_instance_uid)
        for instance in known:
            if instance.content_digest != header.content_sha256:
                continue
            if instance.cleaned_at:
                retention.came_again(session, instance, study)
                if instance.disposition == Disposition.ACCEPTED:
                    studies.ct_received(session, study, self._settle_seconds)
                return True
            # Recorded before: a duplicate, or a move that a crash prevented.
            return self._is_wanted_again(session, study, header, target)
        receipt = Receipt(
            header.content_sha256,
            str(target.relative_to(self._spool.root)),
            calling_ae_title(path),
        )
        disposition, reason = _judge(session, study, header, known)
        studies.add_instance(
            session, study, receipt, header.sop_instance_uid, disposition, reason, header
        )
        if disposition is Disposition.ACCEPTED:
            studies.ct_received(session, study, self._settle_seconds)
        else:
            self._note(session, study, header, disposition, reason)
            if study.state is StudyState.IGNORED:
                trail.study_known(session, study)
        return True

    def _is_wanted_again(
        self, session: Session, study: Study, header: InstanceHeader, target: Path
    ) -> bool:
        """Tell whether the file of a known instance is to be kept: ours is not there, or spoilt."""
        if not target.exists():
            return True
        if content_digest_of_file(target) == header.content_sha256:
            study.duplicate_count += 1
            return False
        events.record(session, "instance_mended", study, sop_instance_uid=header.sop_instance_uid)
        for screening in screenings.refused_series(study).values():
            if screening.reason == Reason.SPOOL_DAMAGED:
                screenings.supersede(session, screening)
        if header.sop_class_uid in CT_SOP_CLASSES:
            studies.ct_received(session, study, self._settle_seconds)
        return True

    def _note(
        self,
        session: Session,
        study: Study,
        header: InstanceHeader,
        disposition: Disposition,
        reason: str | None,
    ) -> None:
        events.record(
            session,
            f"instance_{disposition.value}",
            study,
            reason=reason,
            sop_class_uid=header.sop_class_uid,
            sop_instance_uid=header.sop_instance_uid,
        )
        if disposition is Disposition.CONFLICT:
            study.conflict_count += 1
            if study.state is StudyState.IGNORED and header.sop_class_uid in CT_SOP_CLASSES:
                # So far it holds no other CT: it is judged, and refused for that.
                studies.ct_received(session, study, self._settle_seconds)

    def _quarantine(self, path: Path, state: StudyState, reason: str, detail: str) -> None:
        uid, ae_title = claimed_sop_instance_uid(path), calling_ae_title(path)
        try:
            self._record_quarantined(path, uid, ae_title, state, reason, detail)
        except DataError as error:
            # Something of the sender's that the database does not hold; the name is our own.
            log.warning("quarantine_recorded_by_name", error=type(error.orig).__name__)
            detail = "the database could not hold what its sender said of it"
            self._record_quarantined(path, own_uid(path), "", state, reason, detail)
        self._spool.quarantine(path, reason)
        log.warning("instance_quarantined", reason=str(reason), detail=detail)

    def _record_quarantined(
        self, path: Path, uid: str, ae_title: str, state: StudyState, reason: str, detail: str
    ) -> None:
        digest = self._spool.digest_of(path)
        receipt = Receipt(digest, f"quarantine/{path.name}", ae_title)
        with self._database.transaction() as session:
            known = studies.same_instance(session, uid)
            same = next((each for each in known if each.content_digest == digest), None)
            if same is not None and same.cleaned_at and same.disposition == Disposition.QUARANTINED:
                retention.came_again(session, same, same.study)
            if same is None:
                study = studies.add_unreadable(session, uid, state, reason, detail)
                studies.add_instance(session, study, receipt, uid, Disposition.QUARANTINED, reason)
                trail.study_received(session, study)


def _judge(
    session: Session, study: Study, header: InstanceHeader, known: Sequence[Instance]
) -> tuple[Disposition, str | None]:
    if is_own_result(header) or studies.is_delivered_object(session, header.sop_instance_uid):
        return Disposition.IGNORED, Reason.OWN_RESULT
    for instance in known:
        if instance.disposition not in _FIRST_UNDER_A_UID:
            continue
        if not _gives_way(study, instance, header):
            # The first under a UID is kept: which of two is right is not ours to guess.
            return Disposition.CONFLICT, Reason.CONFLICTING_DUPLICATES
        instance.disposition = Disposition.REPLACED
    if header.sop_class_uid not in CT_SOP_CLASSES:
        return Disposition.IGNORED, Reason.NOT_CT
    return Disposition.ACCEPTED, None


def _gives_way(study: Study, instance: Instance, header: InstanceHeader) -> bool:
    """Tell whether a received instance is worth nothing, so that another may take its place."""
    if instance.study_id != study.id or instance.sop_class_uid != header.sop_class_uid:
        return False
    cut = instance.header.get("pixel_data_complete") is False
    spoilt_study = study.reason in {Reason.UNDECODABLE_PIXELS, Reason.SHORT_PIXEL_DATA}
    return cut or (spoilt_study and instance.disposition == Disposition.ACCEPTED)


def _as_json(note: RefusalNote) -> dict[str, Any]:
    return {**asdict(note), "time": note.time.isoformat()}
