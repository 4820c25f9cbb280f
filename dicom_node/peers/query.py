"""C-FIND SCU: whether a PACS finds objects it was sent (PS3.4 annex C)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom.presentation import build_context
from pynetdicom.status import STATUS_PENDING, STATUS_SUCCESS, code_to_category

from dicom_node.errors import PeerNotReadyError, PeerRefusedError, PeerUnavailableError
from dicom_node.peers.association import associate, describe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pynetdicom.association import Association

    from dicom_node.commitment import StoredReference
    from dicom_node.config import DimseDestination

# All three keys are unique, so one answer is right. A PACS that heeds none of them may send those
# of a whole study.
MOST_ANSWERS = 10_000
LONGEST_SECONDS = 300.0

STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"


def find_stored(destination: DimseDestination, objects: Sequence[StoredReference]) -> list[bool]:
    """Ask for each object whether the PACS finds it.

    Parameters
    ----------
    destination
        The PACS.
    objects
        What to look for.

    Returns
    -------
    list of bool
        One for each object, in the same order.

    Raises
    ------
    PeerUnavailableError
        If it did not answer for all of them.
    PeerNotReadyError
        If it answers no queries.
    """
    contexts = [build_context(STUDY_ROOT_FIND, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])]
    try:
        with associate(destination, contexts) as link:
            return [_is_found(destination, link, each) for each in objects]
    except PeerRefusedError as error:
        raise PeerNotReadyError(
            describe(
                destination,
                "answers no query (C-FIND, Study Root), so nobody knows whether it keeps what it "
                "was sent; let it, or set ?commitment=storage_commitment or none",
            )
        ) from error


def _is_found(destination: DimseDestination, link: Association, wanted: StoredReference) -> bool:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = "IMAGE"
    identifier.StudyInstanceUID = wanted.study_instance_uid
    identifier.SeriesInstanceUID = wanted.series_instance_uid
    identifier.SOPInstanceUID = wanted.sop_instance_uid
    found = False
    deadline = time.monotonic() + LONGEST_SECONDS
    try:
        answers = link.send_c_find(identifier, STUDY_ROOT_FIND)
        for number, (status, match) in enumerate(answers, start=1):
            category = code_to_category(status.Status) if "Status" in status else None
            if category == STATUS_PENDING:
                if number > MOST_ANSWERS or time.monotonic() > deadline:
                    # Not released: the peer would go on with its answers.
                    link.abort()
                    what = f"did not come to an end of its C-FIND after {number} answers"
                    raise PeerUnavailableError(describe(destination, what))
                found |= (
                    match is not None and match.get("SOPInstanceUID") == wanted.sop_instance_uid
                )
            elif category == STATUS_SUCCESS:
                return found
            elif category is not None:
                what = f"answered the C-FIND with status 0x{status.Status:04X}"
                raise PeerUnavailableError(describe(destination, what))
    except RuntimeError as error:
        what = "ended the association before the C-FIND"
        raise PeerUnavailableError(describe(destination, what)) from error
    raise PeerUnavailableError(describe(destination, "did not answer the C-FIND"))
