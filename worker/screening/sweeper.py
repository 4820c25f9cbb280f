"""What a lost message or a dead worker left behind: expired leases, forgotten screenings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from sqlalchemy.exc import InterfaceError, OperationalError

from worker.audit import trail
from worker.db import screenings
from worker.lifecycle import Progress

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.db.engine import Database

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Broker:
    """What the sweeper needs of the broker; each may raise an error of the connection.

    Attributes
    ----------
    publish
        Sends a message with a screening's id.
    forgot
        Tells whether it has lost all that it was given, or was never given anything.
    mark
        Lets `forgot` say no from now on, until it loses everything.
    messages
        Tells how many messages lie in it that no worker has taken.
    """

    publish: Callable[[int], None]
    forgot: Callable[[], bool]
    mark: Callable[[], None]
    messages: Callable[[], int]


class Sweeper:
    """Queues lost screenings again and sends the broker a message for each queued one.

    Also the first message for a screening goes this way, after the commit that queued it: there
    is one path from the database to the broker, and it is walked again until it worked. A broker
    that has lost everything gets a message for each of them at once.

    Parameters
    ----------
    database
        Where screenings are.
    broker
        The way to the broker.
    maximum_attempts
        Attempts after which a screening fails for good.
    republish_seconds
        Time after which a queued screening gets another message.
    """

    def __init__(
        self,
        database: Database,
        broker: Broker,
        *,
        maximum_attempts: int,
        republish_seconds: float,
    ) -> None:
        self._database = database
        self._broker = broker
        self._maximum_attempts = maximum_attempts
        self._republish_seconds = republish_seconds
        self._database_was_away = False

    def run_once(self) -> int:
        """Sweep once; return the number of screenings touched."""
        try:
            released = self._release_expired()
        except (InterfaceError, OperationalError):
            self._database_was_away = True
            raise
        self._database_was_away = False
        return released + self._publish_queued()

    def _release_expired(self) -> int:
        with self._database.reading() as session:
            lost = screenings.expired(session)
        for screening_id in lost:
            with self._database.transaction() as session:
                screening = screenings.lock_expired(session, screening_id)
                if screening is not None:
                    detail = f"attempt {screening.attempts} on {screening.claimed_by} was lost"
                    # No worker could renew its lease while the database was away.
                    excused = self._database_was_away
                    screenings.release(
                        session, screening, detail, self._maximum_attempts, excused=excused
                    )
                    actor = trail.process("node")
                    trail.screening_failed(session, screening, actor, Progress.WORKER_LOST.value)
        return len(lost)

    def _publish_queued(self) -> int:
        if self._broker.forgot():
            with self._database.transaction() as session:
                forgotten = screenings.forget_messages(session)
            # Only now: a node that dies before does it again.
            self._broker.mark()
            log.info("broker_has_nothing", screenings=forgotten)
        messages = self._broker.messages()
        with self._database.reading() as session:
            waiting = screenings.unpublished(session, self._republish_seconds, messages)
        for screening_id in waiting:
            self._broker.publish(screening_id)
            with self._database.transaction() as session:
                screenings.mark_published(session, screening_id)
        return len(waiting)
