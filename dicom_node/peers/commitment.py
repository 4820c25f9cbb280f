"""Storage Commitment SCU: asks a PACS to promise that it keeps objects (PS3.4 annex J)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, cast

from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import evt
from pynetdicom.presentation import build_context

from dicom_node.commitment import (
    REQUEST_ACTION,
    STORAGE_COMMITMENT,
    STORAGE_COMMITMENT_INSTANCE,
    CommitmentReport,
    read_report,
    request_information,
)
from dicom_node.errors import (
    CommitmentReportError,
    PeerNotReadyError,
    PeerRefusedError,
    PeerUnavailableError,
)
from dicom_node.peers.association import associate, describe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pynetdicom.events import Event

    from dicom_node.commitment import StoredReference
    from dicom_node.config import DimseDestination

# A PACS that reports at once uses the association of the request; the others come to the listener.
WAIT_SECONDS = 1.0
_POLL_SECONDS = 0.02

_SUCCESS = 0x0000
_INVALID_ARGUMENT = 0x0115


def request_commitment(
    destination: DimseDestination, transaction_uid: str, objects: Sequence[StoredReference]
) -> list[CommitmentReport]:
    """Ask for the commitment of objects by an N-ACTION (PS3.4 section J.3.2).

    Parameters
    ----------
    destination
        The PACS; it has to know our AE title's address, for reports that come later.
    transaction_uid
        A new one for each request, on record before it is sent.
    objects
        What to commit.

    Returns
    -------
    list of CommitmentReport
        What it reported within a second on the same association; mostly nothing.

    Raises
    ------
    PeerUnavailableError
        If it could not be reached, or did not answer.
    PeerNotReadyError
        If it has no storage commitment, or not for us.
    """
    reports: list[CommitmentReport] = []

    def on_report(event: Event) -> tuple[int, None]:
        try:
            reports.append(read_report(event.event_information))
        except CommitmentReportError:
            return _INVALID_ARGUMENT, None
        return _SUCCESS, None

    contexts = [build_context(STORAGE_COMMITMENT, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])]
    try:
        with associate(destination, contexts, [(evt.EVT_N_EVENT_REPORT, on_report)]) as link:
            status, _ = link.send_n_action(
                request_information(transaction_uid, objects),
                REQUEST_ACTION,
                STORAGE_COMMITMENT,
                STORAGE_COMMITMENT_INSTANCE,
            )
            _check(destination, cast("Any", status))
            deadline = time.monotonic() + WAIT_SECONDS
            while not reports and link.is_established and time.monotonic() < deadline:
                time.sleep(_POLL_SECONDS)
    except PeerRefusedError as error:
        raise PeerNotReadyError(
            describe(destination, "has no storage commitment; set ?commitment=query or none")
        ) from error
    return reports


def _check(destination: DimseDestination, status: Any) -> None:  # noqa: ANN401 - a data set
    if "Status" not in status:
        what = "did not answer the N-ACTION; it has to know our AE title and address"
        raise PeerUnavailableError(describe(destination, what))
    if status.Status != _SUCCESS:
        raise PeerNotReadyError(
            describe(
                destination,
                f"answered the N-ACTION with status 0x{status.Status:04X}; it has to know our AE "
                "title and address, and commit for us",
            )
        )
