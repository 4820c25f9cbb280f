"""The node: listener, intake, assembly, sweeping and delivery in one process."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING

import structlog

from dicom_node.listener import Listener
from dicom_node.spool import Spool
from worker import bootstrap
from worker.intake import Intake
from worker.loops import Loop
from worker.supervisor import end_with_supervisor
from worker.telemetry import configure_logging

if TYPE_CHECKING:
    from types import FrameType

    from worker.settings import Settings

_INTAKE_PAUSE_SECONDS = 2.0
_DELIVERY_PAUSE_SECONDS = 1.0

log = structlog.get_logger(__name__)


class Node:
    """Everything but the network: what talks to the PACS and to the database.

    The listener needs neither database nor broker to accept; the loops catch up when these are
    back.

    Parameters
    ----------
    settings
        The installation.
    """

    def __init__(self, settings: Settings) -> None:
        spool = Spool(settings.spool_dir)
        config = bootstrap.listener_config(settings)
        spool.prepare()
        database = bootstrap.open_database(settings)
        intake = Intake(database, spool, settings.settle_seconds)
        assembler = bootstrap.assembler(settings, database)
        sweeper = bootstrap.sweeper(settings, database)
        deliverer = bootstrap.deliverer(settings, database)
        sweep_pause = min(settings.sweep_seconds, settings.settle_seconds)
        self._database = database
        self._intake_loop = Loop("intake", intake.run_once, _INTAKE_PAUSE_SECONDS)
        self._loops = (
            self._intake_loop,
            Loop("assembly", assembler.run_once, sweep_pause),
            Loop("sweep", sweeper.run_once, sweep_pause),
            *(
                Loop(f"delivery-{name}", round_, _DELIVERY_PAUSE_SECONDS)
                for name, round_ in deliverer.rounds()
            ),
        )
        self._listener = Listener(config, spool, self._intake_loop.wake)

    def start(self) -> None:
        """Start listening and working."""
        for loop in self._loops:
            loop.start()
        self._listener.start()
        log.info("node_started")

    def stop(self) -> None:
        """Stop listening, finish the round each loop is in, close the database."""
        self._listener.stop()
        for loop in self._loops:
            loop.stop(timeout=30)
        self._database.close()
        log.info("node_stopped")


def run_node(settings: Settings) -> None:
    """Run a node until SIGTERM or SIGINT."""
    configure_logging(settings)
    end_with_supervisor()
    stopping = threading.Event()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        stopping.set()

    node = Node(settings)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    node.start()
    stopping.wait()
    node.stop()
