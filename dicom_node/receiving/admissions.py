"""Notes of who was let in, left in a folder for the worker's audit trail."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from dicom_node.receiving.note_folder import NoteFolder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAXIMUM_NOTES = 10_000

_NOTE_EVERY_SECONDS = 3600.0
_MAXIMUM_CALLERS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionNote:
    """A caller that was let in, once or several times.

    Attributes
    ----------
    time
        When the note was written, in UTC.
    calling_ae_title, peer_address
        Who called, and from where.
    certificate
        Hexadecimal SHA-256 of the certificate it showed; None without TLS.
    associations
        How many associations it was given since it was last noted, this one among them.
    """

    time: datetime
    calling_ae_title: str
    peer_address: str
    certificate: str | None
    associations: int


class AdmissionNotes:
    """A folder of admission notes: of each caller the first association, then one note an hour.

    No more than :data:`MAXIMUM_NOTES` wait in it.

    Parameters
    ----------
    folder
        Where the notes are.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = NoteFolder(folder, MAXIMUM_NOTES)
        self._lock = threading.Lock()
        # Of each caller: when it was last noted, and its associations since.
        self._callers: dict[tuple[str, str, str | None], tuple[float, int]] = {}

    def prepare(self) -> None:
        """Make the folder before the first note, as `NoteFolder.prepare`."""
        self._folder.prepare()

    def admit(self, calling_ae_title: str, peer_address: str, certificate: str | None) -> None:
        """Count an association, and write a note where one is due.

        Raises
        ------
        OSError
            If the note cannot be written; its associations go into the next one.
        """
        caller = (calling_ae_title, peer_address, certificate)
        now = time.monotonic()
        with self._lock:
            noted, since = self._callers.get(caller, (None, 0))
            since += 1
            due = noted is None or now - noted >= _NOTE_EVERY_SECONDS
            if noted is None and len(self._callers) >= _MAXIMUM_CALLERS:
                # Whoever admits everybody may be called by anybody: the oldest makes room.
                del self._callers[min(self._callers, key=lambda each: self._callers[each][0])]
            self._callers[caller] = (now, 0) if due or noted is None else (noted, since)
        if due:
            note = AdmissionNote(
                time=datetime.now(UTC),
                calling_ae_title=calling_ae_title,
                peer_address=peer_address,
                certificate=certificate,
                associations=since,
            )
            try:
                self._folder.write(asdict(note) | {"time": note.time.isoformat()})
            except OSError:
                with self._lock:
                    # Unless it has made room for another meanwhile.
                    if caller in self._callers:
                        last, later = self._callers[caller]
                        self._callers[caller] = (last, later + since)
                raise

    def read(self) -> Iterator[tuple[Path, AdmissionNote]]:
        """Yield the waiting notes, as `NoteFolder.read`."""
        return self._folder.read(_decode)


def _decode(text: str) -> AdmissionNote:
    content = json.loads(text)
    content["time"] = datetime.fromisoformat(content["time"])
    return AdmissionNote(**content)
