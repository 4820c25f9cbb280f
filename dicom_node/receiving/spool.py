"""The durable spool: what a peer was told is stored is on disk, whole and under its final name."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import time
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_file_meta_info
from pydicom.uid import UID

from dicom_node.errors import SpoolError
from dicom_node.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicom_node.reading.integrity import content_digest_of_file
from dicom_node.receiving.admissions import AdmissionNotes
from dicom_node.receiving.data_set import FiledDataSet, parts_of
from dicom_node.receiving.folder_sync import fsync_folder
from dicom_node.receiving.refusals import RefusalNote, RefusalNotes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import BytesIO

_TEMPORARY_SUFFIX = ".part"
_OWN_NAME = re.compile(r"[0-9a-f]{64}-[0-9a-f]{64}\.dcm")


@dataclass(frozen=True, slots=True)
class SpooledInstance:
    """An instance that is durable in the inbox.

    Attributes
    ----------
    path
        The file in the inbox.
    content_digest
        :func:`content_digest` of it.
    """

    path: Path
    content_digest: str


def uid_hash(uid: str) -> str:
    """Hexadecimal SHA-256 of a UID: the only form in which a UID enters a path."""
    return hashlib.sha256(uid.encode("utf-8", "surrogateescape")).hexdigest()


def content_digest(dataset: bytes | BytesIO, transfer_syntax_uid: str) -> str:
    """Hexadecimal SHA-256 of a transfer syntax and a data set encoded in it, without file meta."""
    digest = hashlib.sha256(transfer_syntax_uid.encode() + b"\0")
    for part in parts_of(dataset):
        digest.update(part)
    return digest.hexdigest()


class Spool:
    """A folder tree that takes instances from the listener and keeps them by study.

    ``incoming/`` holds files being written, ``inbox/`` those received and not yet recorded,
    ``studies/<hash of study UID>/`` the recorded ones, ``quarantine/`` those nobody could read,
    ``refusals/`` notes of what was turned away, ``admissions/`` of who was let in. An instance is
    named by the hash of its SOP Instance UID and the digest of its content, so that an exact
    duplicate meets its own name and two objects under one UID live side by side until the intake
    has judged them.

    Several processes may use one spool at once. It must lie on one file system.

    Parameters
    ----------
    root
        The spool's folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._incoming = root / "incoming"
        self._inbox = root / "inbox"
        self._studies = root / "studies"
        self._quarantine = root / "quarantine"
        self._notes = RefusalNotes(root / "refusals")
        self.admissions = AdmissionNotes(root / "admissions")

    def prepare(self) -> int:
        """Make the folders and remove what a killed listener left half-written.

        Returns
        -------
        int
            Number of orphans removed. A file that another process is writing is left alone.

        Raises
        ------
        SpoolError
            If the folders cannot be made or written.
        """
        folders = (self._incoming, self._inbox, self._studies, self._quarantine)
        try:
            # What is in it is nobody else's business on this machine.
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            for folder in folders:
                folder.mkdir(exist_ok=True)
            self._notes.prepare()
            self.admissions.prepare()
            fsync_folder(self.root)
            return sum(_remove_if_orphan(path) for path in self._incoming.iterdir())
        except OSError as error:
            msg = f"spool {self.root} cannot be used: {error.strerror}"
            raise SpoolError(msg) from error

    def free_bytes(self) -> int:
        """Return the bytes left on the spool's file system for this process."""
        try:
            figures = os.statvfs(self.root)
        except OSError as error:
            msg = f"spool {self.root} cannot be reached: {error.strerror}"
            raise SpoolError(msg) from error
        return figures.f_bavail * figures.f_frsize

    def store(
        self,
        dataset: bytes | BytesIO,
        *,
        sop_class_uid: str,
        sop_instance_uid: str,
        transfer_syntax_uid: str,
        calling_ae_title: str,
        called_ae_title: str,
    ) -> SpooledInstance:
        """Put an encoded data set into the inbox and return when it would survive a power cut.

        The file is written under a temporary name in the same file system, synchronised,
        renamed, and its folder synchronised: a rename that is not may be lost, an unsynchronised
        file may come back empty.

        Parameters
        ----------
        dataset
            The encoded data set exactly as sent, without file meta information.
        sop_class_uid, sop_instance_uid, transfer_syntax_uid
            For the file meta information (PS3.10 section 7.1); they are not checked here.
        calling_ae_title, called_ae_title
            Who sent it to whom: recorded in the file as Source and Sending, and as Receiving
            Application Entity Title.

        Raises
        ------
        SpoolError
            If it is not durable; nothing is left of it then.
        """
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = UID(sop_class_uid)
        meta.MediaStorageSOPInstanceUID = UID(sop_instance_uid)
        meta.TransferSyntaxUID = UID(transfer_syntax_uid)
        meta.ImplementationClassUID = IMPLEMENTATION_CLASS_UID
        meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
        meta.SourceApplicationEntityTitle = calling_ae_title
        meta.SendingApplicationEntityTitle = calling_ae_title
        meta.ReceivingApplicationEntityTitle = called_ae_title
        try:
            digest = content_digest(dataset, transfer_syntax_uid)
            target = self._inbox / f"{uid_hash(sop_instance_uid)}-{digest}.dcm"
            if not target.exists():
                self._write(target, _encode_file_header(meta), dataset)
            # Also for a duplicate: the thread that wrote it may not have come this far yet.
            fsync_folder(self._inbox)
        except OSError as error:
            msg = f"spool {self.root} could not store an instance: {error.strerror}"
            raise SpoolError(msg) from error
        return SpooledInstance(target, digest)

    def file(self, begun: BytesIO) -> FiledDataSet:
        """Give a data set that is still arriving a file to arrive in.

        Raises
        ------
        SpoolError
            If what has arrived of it cannot be written.
        """
        try:
            return FiledDataSet(self._incoming, begun)
        except OSError as error:
            msg = f"spool {self.root} could not file a data set: {error.strerror}"
            raise SpoolError(msg) from error

    def inbox(self) -> Iterator[Path]:
        """Yield what waits in the inbox, in order of receipt."""
        received = []
        with os.scandir(self._inbox) as entries:
            for entry in entries:
                # Another process may have filed it since.
                with contextlib.suppress(FileNotFoundError):
                    received.append((entry.stat().st_mtime_ns, entry.path))
        for _, path in sorted(received):
            yield Path(path)

    def adopt(self, path: Path) -> Path:
        """Give a file that somebody put into the inbox by hand a name of the spool's own.

        Names are kept in the database, and say what is in the file; a person's need do neither.

        Returns
        -------
        Path
            The file under its name, the same for one that the spool named itself.

        Raises
        ------
        SpoolError, OSError
            If it cannot be moved or read.
        """
        if _OWN_NAME.fullmatch(path.name):
            return path
        digest = content_digest_of_file(path)
        if not digest:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        return self._move(path, self._inbox / f"{uid_hash(path.name)}-{digest}.dcm")

    @staticmethod
    def digest_of(path: Path) -> str:
        """Return the content digest of an instance of the spool, from its name."""
        return path.stem.rpartition("-")[2]

    def study_folder(self, study_instance_uid: str) -> Path:
        """Folder of a study's recorded instances; it exists once one was filed."""
        return self._studies / uid_hash(study_instance_uid)

    def study_path(self, study_instance_uid: str, sop_instance_uid: str, digest: str) -> Path:
        """Where :meth:`file_into_study` puts an instance."""
        return self.study_folder(study_instance_uid) / f"{uid_hash(sop_instance_uid)}-{digest}.dcm"

    def file_into_study(
        self, inbox_path: Path, study_instance_uid: str, sop_instance_uid: str, digest: str
    ) -> Path:
        """Move a recorded instance from the inbox to its study, durably.

        Idempotent: called again after a crash at any point it ends in the same state.

        Returns
        -------
        Path
            The file in the study's folder.

        Raises
        ------
        SpoolError
            If the instance is neither in the inbox nor in the study, or cannot be moved.
        """
        target = self.study_path(study_instance_uid, sop_instance_uid, digest)
        try:
            if not target.parent.is_dir():
                target.parent.mkdir(exist_ok=True)
                fsync_folder(self._studies)
        except OSError as error:
            msg = f"spool {self.root} could not make a study folder: {error.strerror}"
            raise SpoolError(msg) from error
        return self._move(inbox_path, target)

    def quarantine(self, path: Path, reason: str) -> Path:
        """Move an instance that cannot be read out of the way, with a note of the reason.

        Idempotent like :meth:`file_into_study`.

        Parameters
        ----------
        path
            The instance, in the inbox or in a study.
        reason
            Value of :class:`dicom_node.reasons.Reason`, kept beside it as ``<name>.json``.
        """
        target = self._quarantine / path.name
        note = {"reason": reason, "time": datetime.now(UTC).isoformat()}
        try:
            target.with_suffix(".json").write_text(json.dumps(note), encoding="utf-8")
        except OSError as error:
            msg = f"spool {self.root} could not note a quarantine: {error.strerror}"
            raise SpoolError(msg) from error
        return self._move(path, target)

    def forget_quarantined(self, name: str) -> None:
        """Remove an instance that was read after all, and its note; gone already is fine."""
        path = self._quarantine / name
        try:
            path.unlink(missing_ok=True)
            path.with_suffix(".json").unlink(missing_ok=True)
        except OSError as error:
            msg = f"spool {self.root} could not remove {name} from quarantine: {error.strerror}"
            raise SpoolError(msg) from error

    def discard(self, inbox_path: Path) -> None:
        """Remove an instance from the inbox that is recorded already; gone already is fine."""
        try:
            inbox_path.unlink(missing_ok=True)
            fsync_folder(self._inbox)
        except OSError as error:
            msg = f"spool {self.root} could not remove {inbox_path.name}: {error.strerror}"
            raise SpoolError(msg) from error

    def note_refusal(self, note: RefusalNote) -> bool:
        """Leave a note of something turned away.

        A note is an observation, not a promise: it is not synchronised, and repetitions and what
        is too much are dropped.

        Returns
        -------
        bool
            Whether it was noted.

        Raises
        ------
        SpoolError
            If it cannot be written.
        """
        try:
            return self._notes.write(note) is not None
        except OSError as error:
            msg = f"spool {self.root} could not note a refusal: {error.strerror}"
            raise SpoolError(msg) from error

    def refusals(self) -> Iterator[tuple[Path, RefusalNote]]:
        """Yield the waiting refusal notes, oldest first."""
        return self._notes.read()

    def drop_refusal(self, path: Path) -> None:
        """Remove a note that has been recorded."""
        self._notes.drop(path)

    def _write(self, target: Path, header: bytes, dataset: bytes | BytesIO) -> None:
        temporary = self._incoming / f"{uuid.uuid4().hex}{_TEMPORARY_SUFFIX}"
        try:
            with temporary.open("xb") as file:
                # Tells the janitor of another process that this file has an owner.
                fcntl.flock(file, fcntl.LOCK_EX)
                file.write(header)
                for part in parts_of(dataset):
                    file.write(part)
                file.flush()
                # The kernel's own stamps are too coarse to keep the order of receipt.
                received = time.time_ns()
                os.utime(file.fileno(), ns=(received, received))
                os.fsync(file.fileno())
                temporary.rename(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def _move(self, source: Path, target: Path) -> Path:
        try:
            try:
                source.rename(target)
            except FileNotFoundError:
                if not target.exists():
                    msg = f"{source.name} is neither in {source.parent} nor in {target.parent}"
                    raise SpoolError(msg) from None
            fsync_folder(target.parent)
            fsync_folder(source.parent)
        except OSError as error:
            msg = f"spool {self.root} could not move {source.name}: {error.strerror}"
            raise SpoolError(msg) from error
        return target


def _encode_file_header(meta: FileMetaDataset) -> bytes:
    """Encode preamble, prefix and file meta information (PS3.10 section 7.1)."""
    buffer = DicomBytesIO()
    buffer.write(bytes(128) + b"DICM")
    write_file_meta_info(buffer, meta, enforce_standard=True)
    return buffer.getvalue()


def _remove_if_orphan(path: Path) -> bool:
    """Remove a temporary file unless a living writer holds its lock."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
    except (BlockingIOError, FileNotFoundError):
        return False
    return True
