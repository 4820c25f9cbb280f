"""What the outbox asks of a peer, and what it is told about each object."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Protocol

from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from dicom_node.errors import SpoolError, is_from_system
from dicom_node.status import StoreVerdict, verdict_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pydicom import FileDataset

    from dicom_node.commitment import StoredReference


@dataclass(frozen=True, slots=True)
class OutgoingObject:
    """One object to be stored.

    Attributes
    ----------
    sop_class_uid, sop_instance_uid
        What it is.
    content
        A DICOM file (PS3.10) with its file meta information, as a path or as bytes.
    """

    sop_class_uid: str
    sop_instance_uid: str
    content: Path | bytes

    def read(self) -> FileDataset:
        """Read the object.

        Raises
        ------
        SpoolError
            If it is no DICOM file: another try would end the same way.
        OSError
            If the file cannot be read now, as while its file system is away: worth another try.
        """
        source = BytesIO(self.content) if isinstance(self.content, bytes) else self.content
        try:
            return _parse(source)
        except Exception as error:
            if is_from_system(error):
                raise
            msg = f"outgoing object {self.sop_instance_uid} is no DICOM file: {error}"
            raise SpoolError(msg) from error


@dataclass(frozen=True, slots=True)
class StoreOutcome:
    """What became of one object.

    Attributes
    ----------
    sop_instance_uid
        The object.
    verdict
        Stored in one way or another, or not.
    status
        The peer's status or failure reason (PS3.4 table B.2-1), None where it gave none.
    detail
        For a person: what we saw; empty for a plain success. Nothing of what the peer said in
        words, which may name the patient: it goes into logs and pages that do not.
    """

    sop_instance_uid: str
    verdict: StoreVerdict
    status: int | None = None
    detail: str = ""

    @property
    def stored(self) -> bool:
        """Whether the peer has the object now."""
        return self.verdict in {
            StoreVerdict.STORED,
            StoreVerdict.STORED_WITH_WARNING,
            StoreVerdict.ALREADY_STORED,
        }

    @property
    def answered(self) -> bool:
        """Whether the peer said anything about it, be it that it is out of resources."""
        return self.status is not None or self.verdict is not StoreVerdict.UNAVAILABLE


def _parse(source: Path | BytesIO) -> FileDataset:
    """Read a file with all that the network libraries ask of it."""
    dataset = dcmread(source)
    if "TransferSyntaxUID" not in dataset.file_meta or "SOPClassUID" not in dataset:
        raise InvalidDicomError("no transfer syntax or SOP class")
    return dataset


def outcome_of(sop_instance_uid: str, status: int) -> StoreOutcome:
    """Judge a peer's answer to one object by its status alone.

    The words beside it, as in (0000,0902) Error Comment, are for the peer's own log.

    Parameters
    ----------
    sop_instance_uid
        The object.
    status
        The peer's status, warning reason or failure reason.
    """
    verdict = verdict_of(status)
    detail = "" if verdict is StoreVerdict.STORED else f"status 0x{status:04X}"
    return StoreOutcome(sop_instance_uid, verdict, status, detail)


class Peer(Protocol):
    """A destination that can be reached.

    Retrying has two layers. Here, a peer that could not be reached at all is tried again within
    seconds, which rides out a restarting service. Everything longer is the outbox's: minutes to
    hours, object by object, on record.
    """

    def echo(self) -> None:
        """Ask whether the peer answers.

        Raises
        ------
        PeerUnavailableError, PeerRefusedError
            If it does not, or answers with a refusal.
        """

    def store(self, objects: Sequence[OutgoingObject]) -> list[StoreOutcome]:
        """Store objects in their order.

        When the peer goes away between two objects, the rest is reported unavailable.

        Parameters
        ----------
        objects
            What to send.

        Returns
        -------
        list of StoreOutcome
            One for each object, in the same order.

        Raises
        ------
        PeerUnavailableError, PeerRefusedError
            If the peer answered to none of them.
        SpoolError, OSError
            As `OutgoingObject.read`; nothing is sent then.
        """

    def find(self, objects: Sequence[StoredReference]) -> list[bool]:
        """Look which objects the peer finds when it is queried.

        Parameters
        ----------
        objects
            What to look for.

        Returns
        -------
        list of bool
            One for each object, in the same order.

        Raises
        ------
        PeerUnavailableError, PeerRefusedError
            If it answers no query, or not now.
        """
