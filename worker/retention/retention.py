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
    from collections.abc import Iterator
    from pathlib import Path

    from worker.audit_entry import Actor
    from worker.db.engine import Database
    from worker.db.retention import StudyFiles

log = structlog.get_logger(__name__)

_AT_ONCE = 50


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
        done = [
            cleaned
            for why, study_id in self._by_age()
            if (cleaned := self._clean(study_id, why, actor))
        ]
        done += self._until_there_is_room(actor)
        if done:
            log.info("studies_cleaned", studies=len(done))
        return done

    def finish(self) -> None:
        """Remove what was given up and, by an interruption, is still there."""
        while True:
            with self._database.reading() as session:
                left = retention.unfinished(session)
            if not left:
                return
            for study_id in left:
                self._remove_files(study_id)

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
            cleaned = self._clean(oldest[0], Why.PRESSED, actor)
            if cleaned is not None:
                done.append(cleaned)
        return done

    def _missing_bytes(self) -> int:
        if not self._policy.free_bytes:
            return 0
        figures = os.statvfs(self._spool_dir)
        return self._policy.free_bytes - figures.f_bavail * figures.f_frsize

    def _clean(self, study_id: int, why: Why, actor: Actor | None) -> Cleaned | None:
        with self._database.transaction() as session:
            if not retention.mark(session, study_id, why):
                return None
            # With the mark, from which the removal always follows: nothing goes without a line.
            acted(
                session,
                AuditAction.STUDIES_CLEANED,
                session.get_one(Study, study_id),
                actor=actor,
                why=why.value,
                bytes=self._size(retention.files(session, study_id)),
            )
        return Cleaned(study_id, why, self._remove_files(study_id))

    def _remove_files(self, study_id: int) -> int:
        """Remove the files of a marked study; return how many bytes they had.

        Under the study's lock: an instance that comes again meanwhile is either still marked and
        recorded after this, or not marked any more and left alone.
        """
        with self._database.transaction() as session:
            screenings.lock_study(session, study_id)
            files = retention.files(session, study_id, marked=True)
            size = self._size(files)
            for path in files.instances:
                file = self._spool_dir / path
                file.unlink(missing_ok=True)
                # Only quarantined instances have one: the note of the reason.
                file.with_suffix(".json").unlink(missing_ok=True)
            for folder in {(self._spool_dir / path).parent for path in files.instances}:
                _remove_if_empty(folder, keep=self._spool_dir / "quarantine")
            for screening_id in files.screenings:
                shutil.rmtree(self._results_dir / str(screening_id), ignore_errors=True)
            retention.removed(session, study_id)
        return size

    def _size(self, files: StudyFiles) -> int:
        paths = [self._spool_dir / path for path in files.instances]
        for screening_id in files.screenings:
            folder = self._results_dir / str(screening_id)
            paths += [path for path in folder.glob("*") if path.is_file()]
        return sum(path.stat().st_size for path in paths if path.is_file())


def _remove_if_empty(folder: Path, keep: Path) -> None:
    if folder == keep:
        return
    try:
        folder.rmdir()
    except OSError:
        # Something came again, or it is gone already.
        return
