"""What a received instance passes before its series is screened, without listener and network.

Spool, intake with its decoder, database, assembler and a worker's reading are the real ones.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from pydicom.uid import CTImageStorage

from dicom_node.errors import RefusedError
from dicom_node.reading.reader import read_ct_series
from dicom_node.reading.series import SelectionPolicy
from dicom_node.receiving.spool import Spool
from worker.db import schema, screenings, studies
from worker.db.engine import Database
from worker.db.tables import Instance, Study
from worker.intake.assembler import Assembler
from worker.intake.intake import Intake
from worker.lifecycle import StudyState

if TYPE_CHECKING:
    from typing import Self

    from dicom_node.reading.ct_series import CtSeries
    from dicom_node.reading.decoder import Decoder


@dataclass(frozen=True)
class Ending:
    """Where a study came to rest."""

    state: StudyState
    reason: str
    conflicts: int


class ReadingSite:
    """An installation in a folder, driven step by step.

    Parameters
    ----------
    folder
        An empty folder.
    decoder
        One that outlives the site, as a worker's outlives a study; it is not closed here.
    """

    def __init__(self, folder: Path, decoder: Decoder) -> None:
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
        self.decoder = decoder
        self.database = Database(f"sqlite:///{folder / 'lungwatch.db'}")
        schema.upgrade(self.database.engine)
        self.spool = Spool(folder / "spool")
        self.spool.prepare()
        self.intake = Intake(self.database, self.spool, -1, decoder)
        self._assembler = Assembler(self.database, SelectionPolicy())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.database.close()

    def store(self, dataset: bytes, transfer_syntax_uid: str, sop_instance_uid: str) -> Path:
        """Put a data set into the inbox, as the listener does."""
        return self.spool.store(
            dataset,
            sop_class_uid=CTImageStorage,
            sop_instance_uid=sop_instance_uid,
            transfer_syntax_uid=transfer_syntax_uid,
            calling_ae_title="BENCH",
            called_ae_title="LUNGWATCH",
        ).path

    def instance(self, digest: str) -> Instance | None:
        """Give the newest row of what was stored with this content."""
        with self.database.reading() as session:
            same = session.query(Instance).filter_by(content_digest=digest)
            return same.order_by(Instance.id.desc()).first()

    def judge(self) -> CtSeries | None:
        """Judge the settled studies, and read what was queued until nothing is; give the volume."""
        read = None
        while self._assembler.run_once():
            for screening_id in self._queued():
                read = self._read(screening_id) or read
        return read

    def endings(self) -> list[Ending]:
        """Tell where each study stands."""
        with self.database.reading() as session:
            return [
                Ending(study.state, study.reason or "", study.conflict_count)
                for study in session.query(Study).order_by(Study.id)
            ]

    def _queued(self) -> list[int]:
        with self.database.reading() as session:
            queued = session.query(Study).filter_by(state=StudyState.QUEUED)
            return [study.screenings[-1].id for study in queued]

    def _read(self, screening_id: int) -> CtSeries | None:
        """Do what a worker does before its network."""
        with self.database.transaction() as session:
            claim = screenings.claim(session, screening_id, "bench", 600)
            assert claim is not None
            screening = screenings.get(session, screening_id)
            digests = {
                self.spool.root / instance.path: instance.content_digest
                for instance in studies.series_instances(
                    session, screening.study_id, screening.series_instance_uid
                )
            }
            uid = screening.series_instance_uid
        try:
            return read_ct_series(list(digests), uid, decoder=self.decoder, digests=digests)
        except RefusedError as error:
            with self.database.transaction() as session:
                screenings.refuse(session, claim, error.reason, error.detail)
            return None


def own_megabytes() -> float:
    """Give the memory this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)
