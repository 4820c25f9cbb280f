"""What has to hold, judged from outside: from files, rows and what the PACS holds."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydicom.errors import InvalidDicomError
from support.spooling import encoded_dataset

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


@dataclass(frozen=True)
class Stored:
    """What a spool holds of what was sent.

    Attributes
    ----------
    lost
        Acknowledged files whose data set is not there to the byte.
    torn
        Stored files whose data set is none of those sent.
    """

    lost: tuple[Path, ...]
    torn: tuple[Path, ...]

    @property
    def whole(self) -> bool:
        """Whether nothing is lost or torn."""
        return not self.lost and not self.torn


def compare(spool: Path, sent: Iterable[Path], acknowledged: Iterable[Path]) -> Stored:
    """Compare a spool with the files sent to it, by the SHA-256 of their data sets.

    A file under a temporary name is neither lost nor torn: it was not acknowledged, and the
    listener removes it when it starts.
    """
    wanted = {path: _digest(path) for path in sent}
    stored = {path: _digest(path) for path in spool.rglob("*.dcm")}
    held, known = set(stored.values()), set(wanted.values())
    return Stored(
        tuple(path for path in acknowledged if wanted[path] not in held),
        tuple(path for path, digest in stored.items() if digest not in known),
    )


def orphans(spool: Path) -> list[Path]:
    """List the files a spool's writers left under temporary names."""
    return sorted((spool / "incoming").iterdir())


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(encoded_dataset(path)).hexdigest()
    except (InvalidDicomError, AttributeError, EOFError, ValueError):
        return f"unreadable {path.name}"
