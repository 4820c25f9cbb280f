"""Files written whole or not at all, whatever stops the process; their locks and SHA-256."""

from __future__ import annotations

import fcntl
import hashlib
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Give a temporary file to write, and put it in the place of `path` once it is on disk.

    Parameters
    ----------
    path
        The file to make or to replace; its folder is made if need be.

    Yields
    ------
    Path
        A file of the same folder and suffix. If the block raises, it is removed and `path` stays
        as it was. Temporary file, fsync, rename, fsync of the folder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield temporary
        _flush(temporary)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _flush(path.parent)


def write_text(path: Path, text: str) -> None:
    """Write a text file so that it is whole and on disk, or unchanged."""
    with replaced(path) as temporary:
        temporary.write_text(text)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file so that it is whole and on disk, or unchanged."""
    with replaced(path) as temporary:
        temporary.write_bytes(data)


@contextmanager
def locked(path: Path, held: Exception) -> Iterator[None]:
    """Hold the lock of a file, which is made if need be; it dies with its process.

    Parameters
    ----------
    path
        The file.
    held
        Raised if somebody holds the lock already.
    """
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise held from None
        yield


def file_sha256(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
