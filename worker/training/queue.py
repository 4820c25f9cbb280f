"""The training queue: asking for a training, and the devices a trainer may use."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import structlog
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from worker.app import make_app, publish_training
from worker.db import training_runs
from worker.errors import SettingsError
from worker.settings import PREFIX

if TYPE_CHECKING:
    from celery import Celery

    from worker.db.engine import Database
    from worker.retraining.request import RetrainingRequest
    from worker.settings import Settings
    from worker.training.job import TrainingJob

log = structlog.get_logger(__name__)


def enqueue(settings: Settings, database: Database, request: RetrainingRequest) -> dict[str, Any]:
    """Record that a training is asked for, then wake a trainer up.

    Returns
    -------
    dict
        As `worker.db.training_runs.document`.

    Raises
    ------
    SettingsError
        If no broker is set.
    TransitionError
        If the run folder has a training that waits, is in work or is done.
    """
    app = make_app(settings)
    with database.transaction() as session:
        run = training_runs.add(session, request.out, request.to_json())
        document = training_runs.document(run)
    _publish(app, document["id"])
    return document


def training_environment(settings: Settings) -> dict[str, str]:
    """Give what the environment of a training process has to say of GPUs.

    A training never shares a GPU with screening unless told: without `training_gpus` it sees
    none, and those it is given must be known not to screen.

    Raises
    ------
    SettingsError
        If a GPU would do both.
    """
    own = settings.training_gpus
    if own and not settings.training_beside_screening:
        shared = sorted(set(own) & set(settings.gpus))
        if shared or not settings.gpus:
            found = (
                f"GPU {', '.join(shared)} screens as well"
                if shared
                else f"{PREFIX}GPUS does not say which GPUs screen, so all of them may"
            )
            raise SettingsError(
                f"{PREFIX}TRAINING_GPUS is {','.join(own)}, but {found}: choose others, or set "
                f"{PREFIX}TRAINING_BESIDE_SCREENING=true to train beside screening all the same"
            )
    return {"CUDA_VISIBLE_DEVICES": ",".join(own)}


class TrainingSweep:
    """Sends messages for trainings that wait without one: it was lost, or their trainer was.

    Parameters
    ----------
    app
        The way to the broker.
    job
        Tells what is due; nothing is sent while it trains.
    seconds
        Pause between two sweeps.
    """

    def __init__(self, app: Celery, job: TrainingJob, seconds: float) -> None:
        self._app, self._job, self._seconds = app, job, seconds
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="training sweep", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(self._seconds):
            if self._job.busy.is_set():
                continue
            try:
                for run_id in self._job.due()[:1]:
                    _publish(self._app, run_id)
            except Exception:
                # The next sweep may meet a database that is back.
                log.exception("training_sweep_failed")


def _publish(app: Celery, run_id: int) -> None:
    try:
        publish_training(app, run_id)
    except (OperationalError, RedisError, OSError) as error:
        log.warning("training_not_published", training=run_id, error=type(error).__name__)
