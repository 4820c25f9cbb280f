"""The circuit breaker of each destination: one that is away is asked by one object at a time.

It lives in the database, so that it holds for every node and over a restart. Whoever locks studies
or deliveries as well locks the circuit first: one order of locks keeps two transactions from
waiting for each other.
"""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from sqlalchemy import select, update

from worker.db import events
from worker.db.engine import now
from worker.db.tables import Circuit

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session


class Passage(StrEnum):
    """What may go to a destination now."""

    ALL = "all"
    PROBE = "probe"
    NOTHING = "nothing"


def lock(session: Session, destination: str) -> Circuit | None:
    """Lock a destination's circuit and return it as it is now, None where it answers."""
    return session.scalar(
        select(Circuit)
        .where(Circuit.destination == destination)
        .with_for_update()
        .execution_options(populate_existing=True)
    )


def passage(session: Session, circuit: Circuit | None, lease_seconds: float) -> Passage:
    """Tell what may go to the destination of a locked circuit now.

    A probe is given out once: the next one may go when this one failed, or after the lease if
    its sender died.
    """
    if circuit is None:
        return Passage.ALL
    moment = now(session)
    if circuit.probe_at > moment:
        return Passage.NOTHING
    circuit.probe_at = moment + timedelta(seconds=lease_seconds)
    return Passage.PROBE


def open_(session: Session, destination: str, pause: Callable[[int], float], error: str) -> None:
    """Note that a destination did not answer.

    Parameters
    ----------
    session
        A transaction.
    destination
        Its name.
    pause
        Gives the seconds until the next probe, from the number of failures in a row.
    error
        What happened, for a person.
    """
    moment = now(session)
    circuit = lock(session, destination)
    if circuit is None:
        events.record(session, "destination_away", destination=destination, error=error)
        circuit = Circuit(destination=destination, failures=0, opened_at=moment)
        session.add(circuit)
    circuit.failures += 1
    circuit.last_error = error
    circuit.probe_at = moment + timedelta(seconds=pause(circuit.failures))


def close(session: Session, circuit: Circuit | None) -> int:
    """Note that the destination of a locked circuit answers; return how often it had not."""
    if circuit is None:
        return 0
    events.record(
        session,
        "destination_back",
        destination=circuit.destination,
        failures=circuit.failures,
        away_since=circuit.opened_at.isoformat(timespec="seconds"),
    )
    session.delete(circuit)
    return circuit.failures


def probe_now(session: Session) -> None:
    """Let the next probe of every destination that was away go at once; for a node's start."""
    session.execute(update(Circuit).values(probe_at=now(session)))
