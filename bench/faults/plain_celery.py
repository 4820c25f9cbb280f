"""The control: the same queue without a database, as Celery's manual has it for tasks to keep.

``task_acks_late``, one message prefetched, ``task_reject_on_worker_lost``, a visibility timeout
longer than any task. A task's effect is its number on a line of a file.
"""

from __future__ import annotations

import logging
import os
import time
from typing import TYPE_CHECKING

from celery import Celery

if TYPE_CHECKING:
    from pathlib import Path

EFFECTS = "plain-effects"
TASK = "plain.work"
VISIBILITY_SECONDS = 5
_WORK_SECONDS = 0.01


def make_app(broker_url: str) -> Celery:
    """Configure Celery."""
    app = Celery("plain", broker=broker_url)
    app.conf.update(
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_ignore_result=True,
        worker_prefetch_multiplier=1,
        broker_connection_retry_on_startup=True,
        broker_transport_options={"visibility_timeout": VISIBILITY_SECONDS},
    )
    return app


def run(broker_url: str, folder: Path) -> None:
    """Be a worker."""
    # Lungwatch's own set-up of logging keeps Celery's away, whose line tells that it is ready.
    logging.basicConfig(level=logging.INFO)
    app = make_app(broker_url)

    @app.task(name=TASK)
    def work(number: int) -> None:
        time.sleep(_WORK_SECONDS)
        handle = os.open(folder / EFFECTS, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(handle, f"{number}\n".encode())
        os.close(handle)

    app.Worker(
        pool="solo", concurrency=1, loglevel="INFO", without_gossip=True, without_mingle=True
    ).start()
