"""The Celery worker: one process, one loaded network, one thin task."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from worker import bootstrap
from worker.app import SCREENING_QUEUE, SCREENING_TASK, make_app
from worker.audit import trail
from worker.supervisor import end_with_supervisor

if TYPE_CHECKING:
    from celery import Celery

    from worker.settings import Settings


def run_worker(settings: Settings) -> int:
    """Take screenings from the queue until told to stop.

    The pool is solo: TensorFlow must not be forked after its import, and one process drives one
    GPU. More processes are more workers (`worker.services.fleet`).

    Returns
    -------
    int
        Exit code.
    """
    end_with_supervisor()
    app = make_app(settings)
    job = bootstrap.screening_job(settings)

    @app.task(name=SCREENING_TASK)  # type: ignore[untyped-decorator]
    def screen_series(screening_id: int) -> None:
        job.run(screening_id)

    with closing(bootstrap.open_database(settings)) as database:
        trail.started(database, "worker")
        try:
            return consume(app, SCREENING_QUEUE, settings)
        finally:
            trail.stopped(database, "worker")


def consume(app: Celery, queue: str, settings: Settings) -> int:
    """Take the messages of one queue, and of no other, until told to stop; return the exit code."""
    worker = app.Worker(
        pool="solo",
        concurrency=1,
        queues=[queue],
        loglevel=settings.log_level.upper(),
        without_gossip=True,
        without_mingle=True,
    )
    worker.start()
    return int(worker.exitcode or 0)
