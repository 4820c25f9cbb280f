"""Files of the inbox that could not be recorded: what is to blame, and what a person is told."""

from __future__ import annotations

import errno
import os
import time
from typing import TYPE_CHECKING

import structlog

from dicom_node.receiving.spool import uid_hash

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

_SECONDS_BETWEEN_COMPLAINTS = 600.0
# What a disk says of one file, whatever there is of memory, descriptors, space and processes.
_OF_THE_FILE = frozenset(
    {
        errno.EACCES,
        errno.EBADMSG,
        errno.EIO,
        errno.EISDIR,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.ENODATA,
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EPERM,
        errno.ESTALE,
        errno.EUCLEAN,
    }
)

log = structlog.get_logger(__name__)


class WaitingFiles:
    """What waits in the inbox since it could not be recorded, from round to round."""

    def __init__(self) -> None:
        self._errors: dict[Path, Exception] = {}
        self._errors_before: dict[Path, Exception] = {}
        self._missed: Mapping[Path, int] = {}
        self._rounds_that_ended_the_decoder: dict[Path, int] = {}
        self._complained_at = -_SECONDS_BETWEEN_COMPLAINTS

    def begin_round(self) -> None:
        """Forget which files failed in the round before the last one."""
        self._errors_before, self._errors = self._errors, {}

    def add(self, path: Path, error: Exception) -> None:
        """Note that a file could not be recorded in this round."""
        self._errors[path] = error

    def count_end_of_decoder(self, path: Path) -> int:
        """Count a round in which the decoder ended over a file, and tell how many there were."""
        rounds = self._rounds_that_ended_the_decoder.get(path, 0) + 1
        self._rounds_that_ended_the_decoder[path] = rounds
        return rounds

    def end_round(self, missed: Mapping[Path, int]) -> None:
        """Log the files that wait, once for each that is new among them and then now and then.

        Parameters
        ----------
        missed
            Those of them that are recorded, each with the id of the study that misses it.
        """
        self._missed = missed
        ended = self._rounds_that_ended_the_decoder
        self._rounds_that_ended_the_decoder = {p: ended[p] for p in ended.keys() & self._errors}
        if not self._errors:
            return
        new = self._errors.keys() - self._errors_before.keys()
        if not new and time.monotonic() < self._complained_at + _SECONDS_BETWEEN_COMPLAINTS:
            return
        self._complained_at = time.monotonic()
        path = min(new or self._errors)
        # A name that somebody gave by hand may be a patient's, and error texts tell it.
        log.error(
            "instances_not_taken",
            files=len(self._errors),
            name_sha256=uid_hash(path.name),
            error=_kind_of(self._errors[path]),
            studies_held_up=sorted(self.studies_held_up),
            detail="they wait in the inbox and are tried again",
        )

    @property
    def hold_up_studies(self) -> bool:
        """Whether one of them may be a slice that any study would miss.

        A file that could not be read in two rounds, one after the other, no longer does, if that
        is of the file: a machine short of memory fails with all of them. Of what is recorded its
        study is known, one of the `studies_held_up`.
        """
        return not all(
            path in self._missed or (path in self._errors_before and _is_of_the_file(error))
            for path, error in self._errors.items()
        )

    @property
    def studies_held_up(self) -> frozenset[int]:
        """Ids of the studies that miss one of them."""
        return frozenset(self._missed.values())

    @property
    def paths(self) -> Collection[Path]:
        """All of this round."""
        return self._errors.keys()


def _is_of_the_file(error: Exception) -> bool:
    cause = _system_error(error)
    return cause is not None and cause.errno in _OF_THE_FILE


def _kind_of(error: Exception) -> str:
    """Tell what kind of error it is, without its text."""
    cause = _system_error(error)
    if cause is not None and cause.errno is not None:
        return f"{type(error).__name__}: {os.strerror(cause.errno)}"
    return type(error).__name__


def _system_error(error: BaseException | None) -> OSError | None:
    """Find what the system said, below what we made of it."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__
    return error
