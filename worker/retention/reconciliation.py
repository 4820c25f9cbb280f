"""Database and disk brought together again, after a backup of another day was restored.

What lies in the spool and the database does not know goes back into the inbox, as if it came
again; a running node sees to quarantine itself. What the database knows and is not there is said
of its study, and made again where it can.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from dicom_node.receiving.folder_sync import fsync_folder
from worker.db import lost_files

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from worker.db.engine import Database

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What was found and done.

    Attributes
    ----------
    back_to_inbox
        Files the database did not know: they are recorded when the node runs.
    images_lost
        Instances whose files were not there.
    results_lost
        Results whose files were not there.
    screened_again
        Those of them that are made again.
    """

    back_to_inbox: int
    images_lost: int
    results_lost: int
    screened_again: int


def reconcile(database: Database, spool_dir: Path, results_dir: Path) -> Reconciled:
    """Bring the database and the files together; harmless where they agree.

    The node must not run meanwhile: what it is about to file would look lost.

    Parameters
    ----------
    database
        The database.
    spool_dir, results_dir
        The spool and the folder of encoded results.
    """
    with database.reading() as session:
        known = lost_files.kept_instances(session)
    present = {str(path.relative_to(spool_dir)): path for path in _filed(spool_dir)}
    strangers = [path for name, path in present.items() if name not in known]
    _to_inbox(spool_dir, strangers)
    waiting = {path.name for path in (spool_dir / "inbox").glob("*.dcm")}
    lost: dict[int, list[str]] = {}
    for name, study_id in known.items():
        if name not in present and name.rpartition("/")[2] not in waiting:
            lost.setdefault(study_id, []).append(name)
    for study_id, names in lost.items():
        with database.transaction() as session:
            lost_files.give_up_images(session, study_id, names)
    results, again = _give_up_results(database, results_dir)
    done = Reconciled(len(strangers), sum(map(len, lost.values())), results, again)
    log.info("reconciled", back_to_inbox=done.back_to_inbox, images_lost=done.images_lost)
    return done


def take_back_forgotten(database: Database, spool_dir: Path) -> int:
    """Put what lies in quarantine under no record back into the inbox; return how many files.

    They are copies of what was read when it came again: a node was killed before it removed them.
    Reading them once more shows that, and loses nothing where it is not so. The node may run.
    """
    # Before the rows are read: a file comes to quarantine after its row was committed.
    present = list((spool_dir / "quarantine").glob("*.dcm"))
    if not present:
        return 0
    with database.reading() as session:
        named = lost_files.named_in_quarantine(session)
    forgotten = [path for path in present if str(path.relative_to(spool_dir)) not in named]
    if forgotten:
        _to_inbox(spool_dir, forgotten)
        log.info("quarantine_taken_back", files=len(forgotten))
    return len(forgotten)


def _give_up_results(database: Database, results_dir: Path) -> tuple[int, int]:
    with database.reading() as session:
        gone = [
            screening.id
            for screening in lost_files.kept_results(session)
            if not all(
                (results_dir / entry["path"]).is_file()
                for entry in (screening.result or {}).get("objects", ())
            )
        ]
    again = 0
    for screening_id in gone:
        with database.transaction() as session:
            again += lost_files.give_up_results(session, screening_id)
    return len(gone), again


def _filed(spool_dir: Path) -> Iterator[Path]:
    yield from (spool_dir / "studies").glob("*/*.dcm")
    yield from (spool_dir / "quarantine").glob("*.dcm")


def _to_inbox(spool_dir: Path, paths: Iterable[Path]) -> None:
    """Move files back under their own names, which are those they came with."""
    inbox = spool_dir / "inbox"
    inbox.mkdir(parents=True, exist_ok=True)
    folders = {inbox}
    for path in paths:
        # The node may have removed it from quarantine itself.
        with contextlib.suppress(FileNotFoundError):
            path.replace(inbox / path.name)
        # The note of a quarantine; there will be another if it is still unreadable.
        path.with_suffix(".json").unlink(missing_ok=True)
        folders.add(path.parent)
    for folder in folders:
        fsync_folder(folder)
