"""The node: listener, intake, assembly, sweeping and delivery in one process."""

from __future__ import annotations

import signal
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING

import structlog
from sqlalchemy.exc import OperationalError

from dicom_node.errors import ConfigurationError
from dicom_node.receiving.listener import Listener
from dicom_node.receiving.spool import Spool
from worker import bootstrap, dispatch
from worker.audit import trail
from worker.db.node_lock import node_lock
from worker.errors import AlreadyRunningError, SettingsError
from worker.intake.intake import Intake
from worker.retention.reconciliation import take_back_forgotten
from worker.screening.janitor import ResultJanitor
from worker.services.alone import another_node, without_another_node
from worker.services.loops import Loop
from worker.settings import PREFIX
from worker.supervisor import end_with_supervisor
from worker.telemetry import configure_logging

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from worker.db.engine import Database
    from worker.db.node_lock import NodeLock
    from worker.settings import Settings

# Between two tries to begin the work, and then between two looks at the lock.
_WORK_PAUSE_SECONDS = 5.0
_INTAKE_PAUSE_SECONDS = 2.0
_DELIVERY_PAUSE_SECONDS = 1.0
_COMMITMENT_PAUSE_SECONDS = 5.0
_RETENTION_PAUSE_SECONDS = 60.0
_JANITOR_PAUSE_SECONDS = 600.0
# What it looks for is left behind by a killed node alone: the first round is the one that counts.
_QUARANTINE_PAUSE_SECONDS = 86_400.0
_WAY_OUT = (
    "stop it first, or give this one a data folder and a database of its own "
    f"({PREFIX}DATA_DIR, {PREFIX}DATABASE_URL)"
)

log = structlog.get_logger(__name__)


class Node:
    """Everything but the network: what talks to the PACS and to the database.

    The listener needs neither database nor broker to accept: it starts at once, and the loops
    catch up when these are there.

    Parameters
    ----------
    settings
        The installation.
    on_displaced
        Called when another node turned out to work with the database: this one has stopped
        working and is to be stopped. `displaced` then is the error to end with.

    Raises
    ------
    SettingsError
        If a setting cannot work.
    AlreadyRunningError
        If another node works with the data folder or the database: each would take the other's
        deliveries for those of a node that died.
    SchemaOutdatedError
        If the database is there, but not up to date.
    """

    def __init__(self, settings: Settings, on_displaced: Callable[[], None] = lambda: None) -> None:
        self.displaced: AlreadyRunningError | None = None
        self._settings = settings
        self._on_displaced = on_displaced
        self._spool = Spool(settings.spool_dir)
        bootstrap.check_before_start(settings, receives=True)
        self._alone = ExitStack()
        self._alone.enter_context(without_another_node(settings.data_dir, _WAY_OUT))
        self._spool.prepare()
        config = bootstrap.listener_config(settings)
        self._listener = Listener(config, self._spool, self._wake_intake)
        self._database: Database | None = None
        self._intake_loop: Loop | None = None
        self._loops: list[Loop] = []
        self._work_loop = Loop("work", self._begin_or_watch_work, _WORK_PAUSE_SECONDS)
        self._stopping = threading.Event()
        # That which is there, and may still only be readable; `_database` is the one at work.
        self._opened: Database | None = None
        self._lock: NodeLock | None = None
        try:
            self._opened = bootstrap.open_database(settings)
            another = self._another_node(self._opened)
        except OperationalError:
            log.warning("database_unreachable", detail="receiving goes on without it")
        else:
            if another is not None:
                self._let_go()
                raise another

    def start(self) -> None:
        """Start listening, and working as soon as the database can be written.

        Raises
        ------
        SettingsError
            If the address cannot be listened on.
        """
        try:
            self._listener.start()
        except ConfigurationError as error:
            raise SettingsError(
                f"{PREFIX}LISTEN_HOST, {PREFIX}LISTEN_PORT: {error} End the program that holds the "
                "port, or choose another; `lungwatch doctor` looks at it"
            ) from error
        self._work_loop.start()
        log.info("node_started")

    def stop(self) -> None:
        """Stop listening, finish the round each loop is in, close the database."""
        self._stopping.set()
        self._listener.stop()
        self._work_loop.stop(timeout=30)
        for loop in self._loops:
            loop.stop(timeout=30)
        if self._database is not None:
            trail.stopped(self._database, "node")
        self._let_go()
        log.info("node_stopped")

    def _let_go(self) -> None:
        """Let the next node have database and data folder."""
        if self._lock is not None:
            self._lock.release()
        if self._opened is not None:
            self._opened.close()
        self._alone.close()

    def _begin_or_watch_work(self) -> int:
        """Begin the work as the one node of the database; then see to it that it stays the one."""
        if self.displaced is not None:
            return 0
        if self._opened is None:
            # The lock is asked for in the next round: a node that worked before the database went
            # away holds the files of what is on its way, and takes the lock back within this one.
            self._opened = bootstrap.open_database(self._settings)
            return 0
        another = self._another_node(self._opened)
        if another is not None:
            self._stop_working(another)
        elif self._database is None:
            self._begin_work(self._opened)
        return 0

    def _another_node(self, database: Database) -> AlreadyRunningError | None:
        """Take the database's lock, or again where its session was lost; tell who else has it."""
        if self._lock is None:
            self._lock = node_lock(database)
        holder = self._lock.take()
        return another_node(database, holder, _WAY_OUT) if holder is not None else None

    def _stop_working(self, another: AlreadyRunningError) -> None:
        log.error("another_node", detail=str(another))
        self.displaced = another
        for loop in self._loops:
            loop.stop(timeout=0)
        self._on_displaced()

    def _begin_work(self, database: Database) -> None:
        """Start the loops, once the first writes have succeeded; until then it is tried again."""
        loops = self._prepare_loops(database)
        if not self._stopping.is_set():
            self._loops = loops
            for loop in loops:
                loop.start()
        self._database = database

    def _prepare_loops(self, database: Database) -> list[Loop]:
        settings = self._settings
        intake = Intake(database, self._spool, settings.settle_seconds)
        assembler = bootstrap.assembler(settings, database)
        sweeper = bootstrap.sweeper(settings, database)
        janitor = ResultJanitor(database, settings.results_dir)
        deliverer = dispatch.deliverer(settings, database)
        committer = dispatch.committer(settings, database)
        retention = dispatch.retention(settings, database)
        pause = min(settings.sweep_seconds, settings.settle_seconds)
        deliverer.take_over()
        # Last, so that a start is recorded once however often it is tried.
        trail.started(database, "node")
        self._intake_loop = Loop("intake", intake.run_once, _INTAKE_PAUSE_SECONDS)
        return [
            self._intake_loop,
            Loop("assembly", lambda: assembler.run_after(intake), pause),
            Loop("sweep", sweeper.run_once, pause),
            Loop("results", janitor.run_once, _JANITOR_PAUSE_SECONDS),
            *(
                Loop(f"delivery-{name}", round_, _DELIVERY_PAUSE_SECONDS)
                for name, round_ in deliverer.rounds()
            ),
            *(
                Loop(f"commitment-{name}", round_, _COMMITMENT_PAUSE_SECONDS)
                for name, round_ in committer.rounds()
            ),
            Loop("commitment-reports", committer.take_reports, _COMMITMENT_PAUSE_SECONDS),
            Loop("retention", retention.run_once, _RETENTION_PAUSE_SECONDS),
            Loop(
                "quarantine",
                lambda: take_back_forgotten(database, settings.spool_dir),
                _QUARANTINE_PAUSE_SECONDS,
            ),
        ]

    def _wake_intake(self) -> None:
        if self._intake_loop is not None:
            self._intake_loop.wake()


def run_node(settings: Settings) -> None:
    """Run a node until SIGTERM or SIGINT.

    Raises
    ------
    AlreadyRunningError
        As `Node`, also later, where another node has taken the database: a supervisor starts this
        one again, which begins its work once the other is gone.
    SettingsError, SchemaOutdatedError
        As `Node` and its `start`.
    """
    configure_logging(settings)
    end_with_supervisor()
    stopping = threading.Event()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        stopping.set()

    node = Node(settings, stopping.set)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    node.start()
    stopping.wait()
    node.stop()
    if node.displaced is not None:
        raise node.displaced
