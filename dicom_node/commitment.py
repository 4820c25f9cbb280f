"""Storage commitment as data: who is asked to keep what, and what was answered (PS3.4 annex J)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydicom import Dataset
from pydicom.uid import UID

from dicom_node.errors import CommitmentReportError

if TYPE_CHECKING:
    from collections.abc import Iterable

STORAGE_COMMITMENT = UID("1.2.840.10008.1.20.1")
# The well-known SOP instance that every request and report is about (PS3.4 section J.3.5).
STORAGE_COMMITMENT_INSTANCE = UID("1.2.840.10008.1.20.1.1")
REQUEST_ACTION = 1
LARGEST_REPORT_BYTES = 1 << 20

_UID = re.compile(r"[0-9.]{1,64}")
_FAILURE_REASONS = {
    0x0110: "processing failure",
    0x0112: "no such object instance",
    0x0213: "resource limitation",
    0x0122: "SOP class not supported",
    0x0119: "class and instance conflict",
    0x0131: "duplicate transaction UID",
}


@dataclass(frozen=True, slots=True)
class StoredReference:
    """An object that a peer is said to hold.

    Attributes
    ----------
    sop_class_uid, sop_instance_uid
        What it is.
    series_instance_uid, study_instance_uid
        Where it belongs.
    """

    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    study_instance_uid: str


@dataclass(frozen=True, slots=True)
class CommitmentReport:
    """What a peer reported on one request.

    Attributes
    ----------
    transaction_uid
        The request's.
    committed
        SOP Instance UIDs of the objects it will keep.
    failed
        Those it does not answer for, each with the reason in words.
    """

    transaction_uid: str
    committed: tuple[str, ...]
    failed: tuple[tuple[str, str], ...]


def request_information(transaction_uid: str, objects: Iterable[StoredReference]) -> Dataset:
    """Encode the Action Information of a request (PS3.4 table J.3-1)."""
    request = Dataset()
    request.TransactionUID = transaction_uid
    request.ReferencedSOPSequence = [_reference(each) for each in objects]
    return request


def read_report(information: Dataset) -> CommitmentReport:
    """Read the Event Information of an N-EVENT-REPORT (PS3.4 table J.3-3).

    Raises
    ------
    CommitmentReportError
        If it names no transaction or an object without its UID, or what is no UID.
    """
    try:
        return CommitmentReport(
            _checked(information.TransactionUID),
            tuple(_uid(item) for item in information.get("ReferencedSOPSequence") or ()),
            tuple(
                (_uid(item), failure_words(int(item.get("FailureReason", 0x0110))))
                for item in information.get("FailedSOPSequence") or ()
            ),
        )
    except (AttributeError, TypeError, ValueError, RecursionError) as error:
        raise CommitmentReportError("the storage commitment report cannot be read") from error


def failure_words(reason: int) -> str:
    """Put a Failure Reason (0008,1197) into words (PS3.3 section C.14.1.1)."""
    return f"0x{reason:04X} {_FAILURE_REASONS.get(reason, '')}".strip()


def _reference(each: StoredReference) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = each.sop_class_uid
    item.ReferencedSOPInstanceUID = each.sop_instance_uid
    return item


def _uid(item: Dataset) -> str:
    return _checked(item.ReferencedSOPInstanceUID)


def _checked(uid: object) -> str:
    """Take only what may be one of our UIDs: nothing else a peer wrote goes any further."""
    if not _UID.fullmatch(str(uid)):
        raise ValueError("no UID")
    return str(uid)
