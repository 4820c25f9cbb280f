"""Storage commitment reports of a PACS, taken durably and left in a folder for the worker.

A report may come on an association of its own, minutes or days after the request (PS3.4 section
J.3.3). The listener needs no database for it: as with instances, it answers success once the
report would survive a power cut.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import time
import uuid
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, cast

from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom.presentation import build_context

from dicom_node.commitment import (
    LARGEST_REPORT_BYTES,
    STORAGE_COMMITMENT,
    CommitmentReport,
    read_report,
)
from dicom_node.errors import CommitmentReportError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pynetdicom.dimse_primitives import N_EVENT_REPORT
    from pynetdicom.events import Event
    from pynetdicom.presentation import PresentationContext

logger = logging.getLogger(__name__)

FOLDER = "commitments"
MAXIMUM_WAITING = 10_000
_ORPHAN_AFTER_SECONDS = 60.0

# PS3.7 annex C.
_SUCCESS = 0x0000
_PROCESSING_FAILURE = 0x0110
_INVALID_ARGUMENT = 0x0115
_RESOURCE_LIMITATION = 0x0213


class CommitmentReports:
    """The reports that wait to be taken up, bounded in number.

    Parameters
    ----------
    spool_dir
        Root of the spool; the folder in it is made when the first report comes.
    """

    def __init__(self, spool_dir: Path) -> None:
        self._folder = spool_dir / FOLDER

    def write(self, report: CommitmentReport) -> None:
        """Keep a report; returns when it would survive a power cut.

        Raises
        ------
        OSError
            If it is not durable, or too many wait.
        """
        self._folder.mkdir(mode=0o700, exist_ok=True)
        if self._is_full():
            raise OSError(errno.EDQUOT, f"{MAXIMUM_WAITING} commitment reports wait already")
        name = uuid.uuid4().hex
        temporary = self._folder / f"{name}.part"
        try:
            with temporary.open("x", encoding="utf-8") as file:
                json.dump(asdict(report), file)
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(self._folder / f"{name}.json")
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        for folder in (self._folder, self._folder.parent):
            _fsync_folder(folder)

    def waiting(self) -> Iterator[tuple[Path, CommitmentReport]]:
        """Yield the reports that wait, each with the path that :meth:`drop` takes.

        One that cannot be read is dropped: the destination is asked again when its time is over.
        """
        self._remove_orphans()
        for path in sorted(self._folder.glob("*.json")):
            try:
                report = _decode(path.read_text(encoding="utf-8"))
            except (ValueError, TypeError, KeyError, RecursionError):
                logger.warning("dropped a commitment report that cannot be read: %s", path.name)
                self.drop(path)
                continue
            yield path, report

    def drop(self, path: Path) -> None:
        """Remove a report that is recorded; one that is gone already is fine."""
        path.unlink(missing_ok=True)

    def _remove_orphans(self) -> None:
        """Remove what a killed listener left half-written; a living one takes no minute."""
        for path in self._folder.glob("*.part"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > _ORPHAN_AFTER_SECONDS:
                    path.unlink()

    def _is_full(self) -> bool:
        with os.scandir(self._folder) as entries:
            return sum(1 for _ in entries) >= MAXIMUM_WAITING


def commitment_context() -> PresentationContext:
    """Presentation context of the listener for reports on an association of the PACS.

    There the PACS proposes itself in the role of an SCP (PS3.4 section J.3.3).
    """
    context = build_context(STORAGE_COMMITMENT, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
    context.scu_role = False
    context.scp_role = True
    return context


def report_handler(keep: Callable[[CommitmentReport], None]) -> Callable[[Event], tuple[int, None]]:
    """Make the handler of EVT_N_EVENT_REPORT.

    Parameters
    ----------
    keep
        Takes a report; success is answered once it returns.

    Returns
    -------
    callable
        Gives the status (PS3.7 section 10.1.1): 0x0000, or 0x0115 for what is no report, 0x0213
        for one that is too large, 0x0110 where it could not be kept.
    """

    def answer(event: Event) -> tuple[int, None]:
        request = cast("N_EVENT_REPORT", event.request)
        information = cast("Any", request.EventInformation)
        if request.AffectedSOPClassUID != STORAGE_COMMITMENT or information is None:
            return _INVALID_ARGUMENT, None
        if information.getbuffer().nbytes > LARGEST_REPORT_BYTES:
            return _RESOURCE_LIMITATION, None
        try:
            keep(read_report(event.event_information))
        except CommitmentReportError:
            return _INVALID_ARGUMENT, None
        except Exception:
            logger.exception("a commitment report was not kept")
            return _PROCESSING_FAILURE, None
        return _SUCCESS, None

    return answer


def _decode(text: str) -> CommitmentReport:
    content = json.loads(text)
    return CommitmentReport(
        str(content["transaction_uid"]),
        tuple(str(uid) for uid in content["committed"]),
        tuple((str(uid), str(words)) for uid, words in content["failed"]),
    )


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
