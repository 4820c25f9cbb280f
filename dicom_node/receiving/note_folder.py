"""A folder of small JSON files that the listener leaves for the worker, and that cannot fill up."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import threading
import time
import uuid
from typing import TYPE_CHECKING, TypeVar

from dicom_node.receiving.folder_sync import fsync_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

logger = logging.getLogger(__name__)

# Below the watermark of objects, whose refusal has to be noted, and enough for the database to
# record what waits.
RESERVED_BYTES = 64 * 1024 * 1024

_ORPHAN_AFTER_SECONDS = 60.0

Note = TypeVar("Note")


class NoteFolder:
    """Notes that wait in a folder, bounded in number and by what is left of the disk.

    Parameters
    ----------
    path
        The folder.
    maximum
        How many may wait.
    minimum_free_bytes
        What a note must leave free of the file system; None is :data:`RESERVED_BYTES`.
    durable
        Whether a note is written once it would survive a power cut.
    """

    def __init__(
        self,
        path: Path,
        maximum: int,
        *,
        minimum_free_bytes: int | None = None,
        durable: bool = False,
    ) -> None:
        self.path = path
        self._maximum = maximum
        self._minimum_free_bytes = minimum_free_bytes
        self._durable = durable
        # Of several threads that count, only one may find the last place.
        self._lock = threading.Lock()

    def prepare(self) -> None:
        """Make the folder, and remove what a killed process left half-written.

        Raises
        ------
        OSError
            If the folder cannot be made or read.
        """
        self.path.mkdir(mode=0o700, exist_ok=True)
        self._remove_orphans()

    def is_full(self) -> bool:
        """Tell whether as many notes wait as may."""
        with os.scandir(self.path) as entries:
            return sum(1 for _ in entries) >= self._maximum

    def write(self, content: Mapping[str, object]) -> Path:
        """Write a note, under a name that sorts by time.

        Raises
        ------
        OSError
            If it cannot be written: among others EDQUOT where too many wait, ENOSPC where too
            little would be left free. Nothing is left of it then.
        """
        text = json.dumps(content).encode()
        name = f"{time.time_ns():020d}-{uuid.uuid4().hex[:8]}"
        temporary, path = self.path / f"{name}.part", self.path / f"{name}.json"
        with self._lock:
            if self.is_full():
                raise OSError(errno.EDQUOT, f"{self._maximum} notes wait already", str(self.path))
            self._leave_free(len(text))
            temporary.touch(exist_ok=False)
        try:
            with temporary.open("wb") as file:
                file.write(text)
                if self._durable:
                    file.flush()
                    os.fsync(file.fileno())
            temporary.rename(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        if self._durable:
            for folder in (self.path, self.path.parent):
                fsync_folder(folder)
        return path

    def read(self, decode: Callable[[str], Note]) -> Iterator[tuple[Path, Note]]:
        """Yield the waiting notes, oldest first, each with the path that :meth:`drop` takes.

        A note that cannot be read, as after a power cut, is dropped; what is no file is left alone.

        Parameters
        ----------
        decode
            Makes a note of its text; ValueError, TypeError, KeyError and RecursionError say that
            it is none.
        """
        self._remove_orphans()
        for path in sorted(self.path.glob("*.json")):
            try:
                note = decode(path.read_text(encoding="utf-8"))
            except (FileNotFoundError, IsADirectoryError):
                continue
            except (ValueError, TypeError, KeyError, RecursionError):
                logger.warning("dropped what cannot be read of %s: %s", self.path.name, path.name)
                self.drop(path)
                continue
            yield path, note

    def drop(self, path: Path) -> None:
        """Remove a note that is recorded elsewhere; one that is gone already is fine."""
        path.unlink(missing_ok=True)

    def _leave_free(self, size: int) -> None:
        minimum = self._minimum_free_bytes
        if minimum is None:
            minimum = RESERVED_BYTES
        figures = os.statvfs(self.path)
        if figures.f_bavail * figures.f_frsize - size < minimum:
            raise OSError(errno.ENOSPC, f"less than {minimum} bytes would be free", str(self.path))

    def _remove_orphans(self) -> None:
        """Remove what nobody writes any more; a living writer takes no minute."""
        for path in self.path.glob("*.part"):
            with contextlib.suppress(FileNotFoundError, IsADirectoryError):
                if time.time() - path.stat().st_mtime > _ORPHAN_AFTER_SECONDS:
                    path.unlink()
