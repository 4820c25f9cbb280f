"""The Celery application: Redis wakes workers up, the database tells them what to do."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from celery import Celery
from celery.signals import setup_logging

from worker.acknowledgement import forgive_failed_acknowledgements

if TYPE_CHECKING:
    from collections.abc import Iterator

    from redis import Redis

    from worker.settings import Settings

SCREENING_QUEUE = "screening"
SCREENING_TASK = "lungwatch.screen_series"
TRAINING_QUEUE = "training"
TRAINING_TASK = "lungwatch.retrain"

_SOCKET_TIMEOUT_SECONDS = 5
_MARK = "lungwatch-has-published"


@setup_logging.connect  # type: ignore[untyped-decorator]
def _leave_logging_alone(**_given: object) -> None:
    """Keep Celery from setting up logging: it would let every library speak (`telemetry`)."""


def make_app(settings: Settings) -> Celery:
    """Configure Celery for this installation.

    Messages are JSON and hold a row's id only. They are acknowledged late, yet nothing relies on
    redelivery: a message may be lost or come twice, the sweeper and the claim settle both.
    """
    forgive_failed_acknowledgements()
    app = Celery("lungwatch", broker=settings.required_broker_url)
    app.conf.update(
        task_default_queue=SCREENING_QUEUE,
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=False,
        worker_prefetch_multiplier=1,
        worker_soft_shutdown_timeout=60,
        worker_redirect_stdouts=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        # A sender must not hang on a broker that hangs; the sweeper tries again.
        task_publish_retry=False,
        broker_transport_options={
            "visibility_timeout": max(3600, 3 * settings.screening_deadline_seconds),
            "socket_timeout": _SOCKET_TIMEOUT_SECONDS,
            "socket_connect_timeout": _SOCKET_TIMEOUT_SECONDS,
            "retry_on_timeout": False,
        },
    )
    return app


@contextmanager
def _redis(app: Celery) -> Iterator[Redis]:
    """Give the client of the app's own connection."""
    with app.connection_or_acquire() as connection:
        yield connection.default_channel.client


def broker_forgot(app: Celery) -> bool:
    """Tell whether the broker lacks our mark: it is another, or has lost what it was given.

    Raises
    ------
    redis.exceptions.RedisError
        If the broker cannot be reached.
    """
    with _redis(app) as client:
        return not client.exists(_MARK)


def mark_broker(app: Celery) -> None:
    """Leave our mark in the broker, which goes with all that is in it.

    Raises
    ------
    redis.exceptions.RedisError
        If the broker cannot be reached.
    """
    with _redis(app) as client:
        client.set(_MARK, 1)


def messages_in_broker(app: Celery) -> int:
    """Count the messages of screenings that no worker has taken.

    Raises
    ------
    redis.exceptions.RedisError
        If the broker cannot be reached.
    """
    with _redis(app) as client:
        return int(client.llen(SCREENING_QUEUE))


def publish_screening(app: Celery, screening_id: int) -> None:
    """Send the message that a screening is queued.

    Raises
    ------
    kombu.exceptions.OperationalError
        If the broker cannot be reached.
    """
    app.send_task(SCREENING_TASK, args=[screening_id], queue=SCREENING_QUEUE)


def publish_training(app: Celery, run_id: int) -> None:
    """Send the message that a training waits.

    Raises
    ------
    kombu.exceptions.OperationalError
        If the broker cannot be reached.
    """
    app.send_task(TRAINING_TASK, args=[run_id], queue=TRAINING_QUEUE)
