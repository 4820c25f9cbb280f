"""Training runs in the database: asked for, claimed with a lease, renewed, ended.

As with screenings, the database is the truth and a message only a wake-up call: one that is lost
or comes twice neither loses a run nor starts it twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import or_, select

from worker.db.engine import now
from worker.db.tables import TrainingRun
from worker.errors import LeaseLostError, TransitionError
from worker.lifecycle import TrainingState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.orm import Session

_LONGEST_DETAIL = 2000
_ENDED = (TrainingState.SUCCEEDED, TrainingState.FAILED)


@dataclass(frozen=True, slots=True)
class TrainingClaim:
    """The right to work on a run until the lease ends.

    Attributes
    ----------
    run_id
        The run.
    token
        Fencing token: the number of the attempt this claim began.
    """

    run_id: int
    token: int


def add(session: Session, folder: str, request: dict[str, Any]) -> TrainingRun:
    """Ask for a training; one that failed in the same folder is asked for again and goes on.

    Raises
    ------
    TransitionError
        If a run of that folder waits, is in work or is done.
    """
    run = session.scalar(select(TrainingRun).where(TrainingRun.folder == folder).with_for_update())
    if run is None:
        run = TrainingRun(folder=folder, created_at=now(session))
        session.add(run)
    elif run.state is not TrainingState.FAILED:
        raise TransitionError(
            f"training {run.id} in {folder} is {run.state.value}: choose another run folder"
        )
    run.request, run.state, run.stage, run.detail = request, TrainingState.QUEUED, "", ""
    run.attempts, run.claimed_by = 0, ""
    run.lease_expires_at = run.finished_at = None
    session.flush()
    return run


def due(session: Session, maximum_attempts: int) -> Sequence[int]:
    """List the runs a trainer may claim: those that wait, and those whose trainer was lost.

    A run that was lost too often fails instead.
    """
    waiting = []
    for run in session.scalars(
        select(TrainingRun)
        .where(
            or_(
                TrainingRun.state == TrainingState.QUEUED,
                (TrainingRun.state == TrainingState.RUNNING)
                & (TrainingRun.lease_expires_at <= now(session)),
            )
        )
        .order_by(TrainingRun.id)
        .with_for_update()
    ):
        if run.attempts >= maximum_attempts:
            _end(session, run, TrainingState.FAILED, run.detail or "its trainers were lost")
        else:
            waiting.append(run.id)
    return waiting


def claim(
    session: Session, run_id: int, trainer: str, lease_seconds: float
) -> TrainingClaim | None:
    """Claim a run; None if it has ended or a living trainer holds it. The attempt counts now."""
    run = _locked(session, run_id)
    moment = now(session)
    held = run is not None and run.lease_expires_at is not None and run.lease_expires_at > moment
    if run is None or run.state in _ENDED or (run.state is TrainingState.RUNNING and held):
        return None
    run.state, run.claimed_by = TrainingState.RUNNING, trainer
    run.attempts += 1
    run.started_at = run.started_at or moment
    run.lease_expires_at = moment + timedelta(seconds=lease_seconds)
    return TrainingClaim(run.id, run.attempts)


def renew(session: Session, claim: TrainingClaim, lease_seconds: float, stage: str) -> None:
    """Extend a lease and tell the stage.

    Raises
    ------
    LeaseLostError
        If another claim holds the run.
    """
    run = held(session, claim)
    run.lease_expires_at = now(session) + timedelta(seconds=lease_seconds)
    run.stage = stage[:_LONGEST_DETAIL]


def release(session: Session, claim: TrainingClaim, detail: str, maximum_attempts: int) -> None:
    """Give a run back after a failure that another try may not meet; at last it fails."""
    run = held(session, claim)
    run.detail = detail[:_LONGEST_DETAIL]
    if run.attempts >= maximum_attempts:
        _end(session, run, TrainingState.FAILED, detail)
    else:
        run.state, run.lease_expires_at, run.claimed_by = TrainingState.QUEUED, None, ""


def give_back(session: Session, claim: TrainingClaim, detail: str) -> None:
    """Give a run back because its trainer ends in good order: no attempt was lost."""
    run = held(session, claim)
    run.state, run.lease_expires_at, run.claimed_by = TrainingState.QUEUED, None, ""
    run.attempts -= 1
    run.detail = detail


def succeed(session: Session, claim: TrainingClaim, sha256: str, detail: str) -> None:
    """Record the candidate that came out."""
    run = held(session, claim)
    run.candidate_sha256 = sha256
    _end(session, run, TrainingState.SUCCEEDED, detail)


def fail(session: Session, claim: TrainingClaim, detail: str) -> None:
    """Record a failure that every further try would meet as well."""
    _end(session, held(session, claim), TrainingState.FAILED, detail)


def held(session: Session, claim: TrainingClaim) -> TrainingRun:
    """Return the run of a claim, locked.

    Raises
    ------
    LeaseLostError
        If the claim is not the run's last one, or the run has ended.
    """
    run = _locked(session, claim.run_id)
    if run is None or run.attempts != claim.token or run.state is not TrainingState.RUNNING:
        raise LeaseLostError(f"training {claim.run_id}: another trainer holds it")
    return run


def get(session: Session, run_id: int) -> TrainingRun:
    """Return a run that is known to exist."""
    return session.get_one(TrainingRun, run_id)


def every(session: Session, limit: int = 100) -> Sequence[TrainingRun]:
    """List the runs, the latest first."""
    return session.scalars(select(TrainingRun).order_by(TrainingRun.id.desc()).limit(limit)).all()


def document(run: TrainingRun) -> dict[str, Any]:
    """Describe a run in JSON types."""
    moments = ("created_at", "started_at", "finished_at")
    return {
        "id": run.id,
        "state": run.state.value,
        "stage": run.stage,
        "detail": run.detail,
        "attempts": run.attempts,
        "out": run.folder,
        "candidate_sha256": run.candidate_sha256,
        **{
            name: moment.isoformat(timespec="milliseconds") if moment else None
            for name in moments
            for moment in (getattr(run, name),)
        },
    }


def _end(session: Session, run: TrainingRun, state: TrainingState, detail: str) -> None:
    run.state, run.detail, run.finished_at = state, detail[:_LONGEST_DETAIL], now(session)
    run.lease_expires_at = None


def _locked(session: Session, run_id: int) -> TrainingRun | None:
    return session.scalar(
        select(TrainingRun)
        .where(TrainingRun.id == run_id)
        .with_for_update()
        .execution_options(populate_existing=True)
    )
