"""Storage commitment reports of a PACS, taken durably and left in a folder for the worker.

A report may come on an association of its own, minutes or days after the request (PS3.4 section
J.3.3). The listener needs no database for it: as with instances, it answers success once the
report would survive a power cut.
"""

from __future__ import annotations

import json
import logging
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
from dicom_node.receiving.note_folder import NoteFolder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from pynetdicom.dimse_primitives import N_EVENT_REPORT
    from pynetdicom.events import Event
    from pynetdicom.presentation import PresentationContext

logger = logging.getLogger(__name__)

FOLDER = "commitments"
MAXIMUM_WAITING = 10_000

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
    minimum_free_bytes
        What a report must leave free of the spool's file system, as of `NoteFolder`.
    """

    def __init__(self, spool_dir: Path, minimum_free_bytes: int | None = None) -> None:
        self._folder = NoteFolder(
            spool_dir / FOLDER,
            MAXIMUM_WAITING,
            minimum_free_bytes=minimum_free_bytes,
            durable=True,
        )

    def write(self, report: CommitmentReport) -> None:
        """Keep a report; returns when it would survive a power cut.

        Raises
        ------
        OSError
            If it is not durable, too many wait, or too little would be left free.
        """
        self._folder.prepare()
        self._folder.write(asdict(report))

    def waiting(self) -> Iterator[tuple[Path, CommitmentReport]]:
        """Yield the reports that wait, each with the path that :meth:`drop` takes.

        One that cannot be read is dropped: the destination is asked again when its time is over.
        """
        return self._folder.read(_decode)

    def drop(self, path: Path) -> None:
        """Remove a report that is recorded; one that is gone already is fine."""
        self._folder.drop(path)


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
