"""Removes from the results folder what no result names: the leavings of attempts that were lost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from worker.db import results

if TYPE_CHECKING:
    from worker.db.engine import Database

log = structlog.get_logger(__name__)


class ResultJanitor:
    """Keeps the results folder to what the database knows of.

    A worker that is killed between writing an object and recording the result leaves the object,
    or half of it under a temporary name. The next attempt writes the same bytes to the same
    names; what is left over goes when the screening has ended, and never before: until then the
    folder belongs to whoever holds its lease.

    Parameters
    ----------
    database
        Knows which files belong to results.
    results_dir
        One folder for each screening, named by its id.
    """

    def __init__(self, database: Database, results_dir: Path) -> None:
        self._database = database
        self._results_dir = results_dir
        self._clean: set[int] = set()

    def run_once(self) -> int:
        """Look through the folders of screenings that ended since the last time.

        Returns
        -------
        int
            Number of files removed.
        """
        if not self._results_dir.is_dir():
            return 0
        found = {int(f.name) for f in self._results_dir.iterdir() if f.name.isdecimal()}
        self._clean &= found
        count = 0
        for screening_id in sorted(found - self._clean):
            removed = self.tidy(screening_id)
            if removed is not None:
                self._clean.add(screening_id)
                count += removed
        return count

    def tidy(self, screening_id: int) -> int | None:
        """Remove what the result of an ended screening does not name.

        Returns
        -------
        int or None
            Number of files removed; None where the screening has not ended, or is not known.
        """
        with self._database.reading() as session:
            kept = results.files_of_ended(session, screening_id)
        if kept is None:
            return None
        folder, removed = self._results_dir / str(screening_id), 0
        for path in folder.iterdir() if folder.is_dir() else ():
            if str(Path(str(screening_id)) / path.name) not in kept:
                path.unlink(missing_ok=True)
                removed += 1
        if removed:
            log.info("results_tidied", screening=screening_id, files=removed)
        return removed
