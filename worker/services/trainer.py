"""The trainer: the one process that takes trainings from their queue, and never screens."""

from __future__ import annotations

import os
from contextlib import closing
from typing import TYPE_CHECKING

from celery.signals import worker_shutting_down

from worker import bootstrap
from worker.app import TRAINING_QUEUE, TRAINING_TASK, make_app
from worker.audit import trail
from worker.supervisor import end_with_supervisor
from worker.tasks import consume
from worker.telemetry import configure_logging
from worker.training.queue import TrainingSweep, training_environment

if TYPE_CHECKING:
    from worker.settings import Settings


def run_trainer(settings: Settings) -> int:
    """Take trainings from the queue until told to stop, then leave the one in work to the next.

    Returns
    -------
    int
        Exit code.

    Raises
    ------
    SettingsError
        If broker or model folder are not set, or a GPU would screen and train.
    SchemaOutdatedError
        As `bootstrap.open_database`.
    """
    configure_logging(settings)
    end_with_supervisor()
    os.environ.update(training_environment(settings))
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.nice(settings.training_niceness)
    app = make_app(settings)
    with closing(bootstrap.open_database(settings)) as database:
        from worker import learning

        site = learning.site(settings, database)
        from model.devices import configure_devices
        from worker.training.job import TrainingJob

        configure_devices()
        job = TrainingJob(database, site, settings.lease_seconds, settings.maximum_attempts)

        @app.task(name=TRAINING_TASK)  # type: ignore[untyped-decorator]
        def retrain(run_id: int) -> None:
            job.run(run_id)

        def stop(**_: object) -> None:
            job.stop()

        worker_shutting_down.connect(stop)
        trail.started(database, "trainer")
        with TrainingSweep(app, job, settings.sweep_seconds):
            code = consume(app, TRAINING_QUEUE, settings)
        trail.stopped(database, "trainer")
        return code
