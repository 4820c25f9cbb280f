"""Retention at work: files whose time is over leave the disk, the oldest first where it is full."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from worker.audit.trail import acted, process
from worker.audit_entry import AuditAction
from worker.db import retention, screenings
from worker.db.engine import now
from worker.db.retention import Why
from worker.db.tables import Study

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from worker.audit_entry import Actor
    from worker.db.engine import Database
    from worker.db.retention import StudyFiles

log = structlog.get_logger(__name__)

_AT_ONCE = 50
# Files removed under one lock: with SQLite that of the whole database, and a disk may be slow.
_UNDER_ONE_LOCK = 20


@dataclass(frozen=True, slots=True)
class RetentionPolicy:
    """How long files are kept.

    Attributes
    ----------
    delivered_days, reviewed_days, refused_days
        By kind of study; 0 keeps them for ever.
    free_bytes
        Free space below which delivered studies go before their time; 0: never.
    """

    delivered_days: float
    reviewed_days: float
    refused_days: float
    free_bytes: int

    def ages(self) -> Iterator[tuple[Why, timedelta]]:
        """Give the kinds that have an age, with it."""
        for why, days in (
            (Why.REFUSED, self.refused_days),
            (Why.DELIVERED, self.delivered_days),
            (Why.REVIEWED, self.reviewed_days),
        ):
            if days:
                yield why, timedelta(days=days)


@dataclass(frozen=True, slots=True)
class Cleaned:
    """One study whose files went, or would go.

    Attributes
    ----------
    study_id
        The study.
    why
        Which rule it fell under.
    size
        Bytes of its files.
    """

    study_id: int
    why: Why
    size: int


class Retention:
    """Removes the files of studies that need them no more.

    Parameters
    ----------
    database
        What may go.
    spool_dir, results_dir
        Where the files lie.
    policy
        For how long.
    """

    def __init__(
        self, database: Database, spool_dir: Path, results_dir: Path, policy: RetentionPolicy
    ) -> None:
        self._database = database
        self._spool_dir = spool_dir
        self._results_dir = results_dir
        self._policy = policy
        self._stuck: set[int] = set()

    @property
    def stuck(self) -> list[int]:
        """Ids of the studies whose files the disk did not let go when it was tried last."""
        return sorted(self._stuck)

    def run_once(self) -> int:
        """Do one round; return how many studies were cleaned."""
        return len(self.clean(process("node")))

    def clean(self, actor: Actor | None = None) -> list[Cleaned]:
        """Finish what was interrupted, then clean what is due.

        Parameters
        ----------
        actor
            Who does it, for the audit trail; None for the person at this shell.
        """
        self.finish()
        done = []
        for why, study_id in self._by_age():
            if self._give_up(study_id, why, actor):
                size = self._remove(study_id)
                if size is not None:
                    done.append(Cleaned(study_id, why, size))
        done += self._until_there_is_room(actor)
        if done:
            log.info("studies_cleaned", studies=len(done))
        return done

    def finish(self) -> None:
        """Remove what was given up and, by an interruption or an error, is still there."""
        last = 0
        while True:
            with self._database.reading() as session:
                left = retention.unfinished(session, after=last)
            if not left:
                return
            for study_id in left:
                self._remove(study_id)
            last = left[-1]

    def preview(self) -> list[Cleaned]:
        """Tell what `clean` would remove now."""
        found = self._by_age()
        with self._database.reading() as session:
            cleaned = [
                Cleaned(study_id, why, self._size(retention.files(session, study_id)))
                for why, study_id in found
            ]
            known = {each.study_id for each in cleaned}
            missing = self._missing_bytes() - sum(each.size for each in cleaned)
            for study_id in retention.due(session, Why.PRESSED, None, _AT_ONCE):
                if missing <= 0:
                    break
                if study_id not in known:
                    size = self._size(retention.files(session, study_id))
                    cleaned.append(Cleaned(study_id, Why.PRESSED, size))
                    missing -= size
        return cleaned

    def _by_age(self) -> list[tuple[Why, int]]:
        with self._database.reading() as session:
            moment = now(session)
            return [
                (why, study_id)
                for why, age in self._policy.ages()
                for study_id in retention.due(session, why, moment - age, _AT_ONCE)
            ]

    def _until_there_is_room(self, actor: Actor | None) -> list[Cleaned]:
        done: list[Cleaned] = []
        while self._missing_bytes() > 0:
            with self._database.reading() as session:
                oldest = retention.due(session, Why.PRESSED, None, 1)
            if not oldest:
                log.warning("disk_low", detail="nothing that is delivered and committed is left")
                break
            if not self._give_up(oldest[0], Why.PRESSED, actor):
                continue
            size = self._remove(oldest[0])
            if size is None:
                # A disk that lets nothing go gets no room by giving up everything on it.
                break
            done.append(Cleaned(oldest[0], Why.PRESSED, size))
        return done

    def _missing_bytes(self) -> int:
        if not self._policy.free_bytes:
            return 0
        figures = os.statvfs(self._spool_dir)
        return self._policy.free_bytes - figures.f_bavail * figures.f_frsize

    def _give_up(self, study_id: int, why: Why, actor: Actor | None) -> bool:
        """Mark a study; False if it has become work again meanwhile."""
        with self._database.transaction() as session:
            if not retention.mark(session, study_id, why):
                return False
            # With the mark, from which the removal always follows: nothing goes without a line.
            acted(
                session,
                AuditAction.STUDIES_CLEANED,
                session.get_one(Study, study_id),
                actor=actor,
                why=why.value,
                bytes=self._size(retention.files(session, study_id)),
            )
        return True

    def _remove(self, study_id: int) -> int | None:
        """Remove the files of a marked study; return how many bytes they had.

        None where some cannot be removed: the study stays marked, so that each round tries again,
        and the log has a line when that begins.
        """
        try:
            size = self._remove_files(study_id)
        except OSError as error:
            self._note_stuck(study_id, error)
            return None
        self._stuck.discard(study_id)
        return size

    def _note_stuck(self, study_id: int, error: OSError) -> None:
        if study_id not in self._stuck:
            log.error(
                "files_not_removed",
                study=study_id,
                error=f"{type(error).__name__}: {error.strerror}",
                detail="their time is over; tried again in each round",
            )
        self._stuck.add(study_id)

    def _remove_files(self, study_id: int) -> int:
        with self._database.reading() as session:
            files = retention.files(session, study_id, marked=True)
        size = self._size(files)
        errors: list[OSError] = []
        for start in range(0, len(files.instances), _UNDER_ONE_LOCK):
            paths = files.instances[start : start + _UNDER_ONE_LOCK]
            errors += self._remove_instances(study_id, paths)
        for folder in {(self._spool_dir / path).parent for path in files.instances}:
            _remove_if_empty(folder, keep=self._spool_dir / "quarantine")
        for screening_id in files.screenings:
            try:
                shutil.rmtree(self._results_dir / str(screening_id))
            except FileNotFoundError:
                continue
            except OSError as error:
                errors.append(error)
        if errors:
            raise errors[0]
        self._note_removed(study_id)
        return size

    def _remove_instances(self, study_id: int, paths: Sequence[str]) -> list[OSError]:
        """Remove what can be removed; return the errors of the others.

        Under the study's lock: an instance that comes again meanwhile is either still marked and
        recorded after this, or not marked any more and left alone.
        """
        errors = []
        with self._database.transaction() as session:
            for path in retention.still_given_up(session, study_id, paths):
                file = self._spool_dir / path
                try:
                    file.unlink(missing_ok=True)
                    # Only quarantined instances have one: the note of the reason.
                    file.with_suffix(".json").unlink(missing_ok=True)
                except OSError as error:
                    errors.append(error)
        return errors

    def _note_removed(self, study_id: int) -> None:
        """Take the mark off, unless a file is there that was marked since its others went."""
        with self._database.transaction() as session:
            screenings.lock_study(session, study_id)
            files = retention.files(session, study_id, marked=True)
            paths = [self._spool_dir / path for path in files.instances]
            paths += [self._results_dir / str(screening_id) for screening_id in files.screenings]
            if not any(path.exists() for path in paths):
                retention.removed(session, study_id)

    def _size(self, files: StudyFiles) -> int:
        paths = [self._spool_dir / path for path in files.instances]
        paths += [self._results_dir / str(screening_id) for screening_id in files.screenings]
        return sum(map(_size_of, paths))


def _size_of(path: Path) -> int:
    """Give the bytes of a file or a folder; what a disk does not tell must hold up nothing."""
    try:
        if path.is_dir():
            return sum(map(_size_of, path.iterdir()))
        return path.stat().st_size
    except OSError:
        return 0


def _remove_if_empty(folder: Path, keep: Path) -> None:
    if folder == keep:
        return
    try:
        folder.rmdir()
    except OSError:
        # Something came again, or it is gone already.
        return
