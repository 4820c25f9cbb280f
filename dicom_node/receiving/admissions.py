"""Notes of who was let in, left in a folder for the worker's audit trail."""

from __future__ import annotations

import json
import logging
import threading
import time
import uuid
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

logger = logging.getLogger(__name__)

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

    Parameters
    ----------
    folder
        Where the notes are; it must exist before the first is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        # Of each caller: when it was last noted, and its associations since.
        self._callers: dict[tuple[str, str, str | None], tuple[float, int]] = {}

    def admit(self, calling_ae_title: str, peer_address: str, certificate: str | None) -> None:
        """Count an association, and write a note where one is due.

        Raises
        ------
        OSError
            If the note cannot be written.
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
            self._write(note)

    def _write(self, note: AdmissionNote) -> None:
        name = f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}"
        temporary = self.folder / f"{name}.part"
        content = asdict(note) | {"time": note.time.isoformat()}
        temporary.write_text(json.dumps(content), encoding="utf-8")
        temporary.rename(self.folder / f"{name}.json")

    def read(self) -> Iterator[tuple[Path, AdmissionNote]]:
        """Yield the waiting notes, oldest first, each with its file.

        A note that cannot be read, as after a power cut, is removed.
        """
        for path in sorted(self.folder.glob("*.json")):
            try:
                content = json.loads(path.read_text(encoding="utf-8"))
                content["time"] = datetime.fromisoformat(content["time"])
                note = AdmissionNote(**content)
            except FileNotFoundError:
                continue
            except (ValueError, TypeError, KeyError):
                logger.warning("dropped an admission note that cannot be read: %s", path.name)
                path.unlink(missing_ok=True)
                continue
            yield path, note
