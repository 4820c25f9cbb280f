"""A small installation in one process: spool, database, intake, assembly, job and delivery."""

from __future__ import annotations

from typing import TYPE_CHECKING

from support.spooling import spool_file

from dicom_node.receiving.spool import Spool
from worker import bootstrap, dispatch
from worker.db import schema
from worker.db.engine import Database
from worker.db.tables import Screening, Study
from worker.intake.intake import Intake
from worker.lifecycle import ScreeningState
from worker.screening.job import ScreeningJob
from worker.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from model.inference import Predictor


class Installation:
    """Every part of the product but Celery and the listener, driven step by step."""

    def __init__(self, folder: Path, **settings: object) -> None:
        self.settings = load_settings(
            data_dir=folder,
            settle_seconds=0.001,
            allowed_calling_ae_titles="*",
            delivery_retry_seconds=0.001,
            **settings,
        )
        self.spool = Spool(self.settings.spool_dir)
        self.spool.prepare()
        url = self.settings.resolved_database_url
        upgraded = Database(url)
        schema.upgrade(upgraded.engine)
        upgraded.close()
        self.database = bootstrap.open_database(self.settings)
        self.intake = Intake(self.database, self.spool, self.settings.settle_seconds)
        self.assembler = bootstrap.assembler(self.settings, self.database)

    def receive(self, paths: Iterable[Path]) -> None:
        """Spool, record and assemble."""
        for path in paths:
            spool_file(self.spool, path)
        self.intake.run_once()
        self.assembler.run_once()

    def screen(self, predictor: Predictor) -> None:
        """Run every queued screening once, as if pauses between attempts were over."""
        job = ScreeningJob(self.database, lambda: predictor, bootstrap.job_config(self.settings))
        with self.database.transaction() as session:
            rows = session.query(Screening).filter_by(state=ScreeningState.QUEUED).all()
            queued = [row.id for row in rows]
            for row in rows:
                row.not_before = None
        for screening_id in queued:
            job.run(screening_id)

    def deliver(self) -> None:
        """Send what is due, to every destination."""
        for _, round_ in dispatch.deliverer(self.settings, self.database).rounds():
            while round_():
                pass

    def study(self) -> Study:
        """The only study, with all that belongs to it."""
        with self.database.reading() as session:
            study = session.query(Study).one()
            for screening in study.screenings:
                _ = screening.deliveries, screening.findings
            _ = study.series
            return study
