"""Notes of what the listener turned away, left in a folder for the worker's event log."""

from __future__ import annotations

import json
import threading
import time
from collections import OrderedDict
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from dicom_node.receiving.note_folder import NoteFolder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAXIMUM_NOTES = 1000
NOTES_OF_AN_ADDRESS = 100
REPEAT_AFTER_SECONDS = 3600.0


class EdgeReason(StrEnum):
    """Why an association or an object was turned away before it could be read.

    A refused transfer syntax and an oversized object carry codes of
    :class:`dicom_node.reasons.Reason`.
    """

    CALLING_AE_NOT_ALLOWED = "calling_ae_not_allowed"
    ADDRESS_NOT_ALLOWED = "address_not_allowed"
    CERTIFICATE_NOT_ALLOWED = "certificate_not_allowed"
    CALLED_AE_NOT_RECOGNISED = "called_ae_not_recognised"
    TOO_MANY_ASSOCIATIONS = "too_many_associations"
    TOO_MANY_CONNECTIONS = "too_many_connections"
    NO_ASSOCIATION_REQUEST = "no_association_request"
    TLS_HANDSHAKE_FAILED = "tls_handshake_failed"
    SOP_CLASS_NOT_SUPPORTED = "sop_class_not_supported"
    OUT_OF_RESOURCES = "out_of_resources"


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusalNote:
    """One refusal. It holds no attribute of a patient.

    Attributes
    ----------
    time
        When, in UTC.
    reason
        Value of :class:`EdgeReason` or :class:`dicom_node.reasons.Reason`.
    calling_ae_title, called_ae_title, peer_address
        Who asked for whom, and from where.
    sop_class_uid, transfer_syntax_uids
        What was proposed, where the refusal is about that.
    detail
        One sentence for a person.
    """

    time: datetime
    reason: str
    calling_ae_title: str
    called_ae_title: str
    peer_address: str
    detail: str
    sop_class_uid: str | None = None
    transfer_syntax_uids: tuple[str, ...] = ()


class RefusalNotes:
    """A folder of refusal notes, bounded in number and in repetition.

    The same refusal of the same sender is noted once an hour; of one address no more than
    :data:`NOTES_OF_AN_ADDRESS` within an hour, and of all together no more than
    :data:`MAXIMUM_NOTES`, which is also how many wait in the folder. Whoever may connect may
    fill neither the disk nor the event log that the notes go to.

    Parameters
    ----------
    folder
        Where the notes are.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = NoteFolder(folder, MAXIMUM_NOTES)
        self._lock = threading.Lock()
        # What was noted within the last hour, and when, oldest first.
        self._noted: OrderedDict[tuple[str, ...], float] = OrderedDict()

    def prepare(self) -> None:
        """Make the folder before the first note, as `NoteFolder.prepare`."""
        self._folder.prepare()

    def write(self, note: RefusalNote) -> Path | None:
        """Write a note, or nothing where it repeats one or there were too many."""
        if not self._may_note(note) or self._folder.is_full():
            return None
        return self._folder.write(asdict(note) | {"time": note.time.isoformat()})

    def read(self) -> Iterator[tuple[Path, RefusalNote]]:
        """Yield the waiting notes, as `NoteFolder.read`."""
        return self._folder.read(_decode)

    def drop(self, path: Path) -> None:
        """Remove a note that is recorded elsewhere; one that is gone already is fine."""
        self._folder.drop(path)

    def _may_note(self, note: RefusalNote) -> bool:
        key = (
            note.peer_address,
            note.reason,
            note.calling_ae_title,
            note.called_ae_title,
            note.sop_class_uid or "",
            *note.transfer_syntax_uids,
        )
        now = time.monotonic()
        with self._lock:
            while self._noted:
                oldest = next(iter(self._noted))
                if now - self._noted[oldest] < REPEAT_AFTER_SECONDS:
                    break
                del self._noted[oldest]
            if key in self._noted or len(self._noted) >= MAXIMUM_NOTES:
                return False
            if sum(each[0] == note.peer_address for each in self._noted) >= NOTES_OF_AN_ADDRESS:
                return False
            self._noted[key] = now
        return True


def _decode(text: str) -> RefusalNote:
    """Decode a note strictly: one that the event log cannot take would hold up all the others."""
    content = json.loads(text)
    content["time"] = datetime.fromisoformat(content["time"]).astimezone(UTC)
    content["transfer_syntax_uids"] = tuple(map(_word, content["transfer_syntax_uids"]))
    for name in ("reason", "calling_ae_title", "called_ae_title", "peer_address", "detail"):
        content[name] = _word(content[name])
    if content["sop_class_uid"] is not None:
        content["sop_class_uid"] = _word(content["sop_class_uid"])
    return RefusalNote(**content)


def _word(value: object) -> str:
    if not isinstance(value, str) or not value.isprintable():
        msg = "a refusal note holds what is no printable text"
        raise ValueError(msg)
    return value
