"""One training job: claim, keep the lease alive, retrain, record the end; a lost one goes on."""

from __future__ import annotations

import os
import socket
import threading
from typing import TYPE_CHECKING, Self

import structlog

from dicom_node.errors import DicomNodeError
from model.errors import ModelError
from worker.db import training_runs
from worker.errors import LeaseLostError, WorkerError
from worker.retraining.request import RetrainingRequest
from worker.retraining.run import Retraining

if TYPE_CHECKING:
    from worker.db.engine import Database
    from worker.db.training_runs import TrainingClaim
    from worker.retraining.run import Retrained, Site

log = structlog.get_logger(__name__)


class _InterruptedError(Exception):
    """The trainer has to stop: it was told to, or lost its lease."""


class TrainingJob:
    """Runs trainings by their row's id.

    Parameters
    ----------
    database
        The truth.
    site
        What the installation brings.
    lease_seconds, maximum_attempts
        Lease of a claim, and how often a training may be lost before it fails.
    """

    def __init__(
        self, database: Database, site: Site, lease_seconds: float, maximum_attempts: int
    ) -> None:
        self._database, self._site = database, site
        self._lease_seconds, self._maximum_attempts = lease_seconds, maximum_attempts
        self._name = f"{socket.gethostname()}:{os.getpid()}"
        self._stop = threading.Event()
        self.busy = threading.Event()

    def stop(self) -> None:
        """Let the training in work end at its next step; the next trainer goes on with it."""
        self._stop.set()

    def due(self) -> list[int]:
        """List the trainings that wait, or whose trainer was lost."""
        with self._database.transaction() as session:
            return list(training_runs.due(session, self._maximum_attempts))

    def run(self, run_id: int) -> None:
        """Train if it is still to be done; every end is recorded in the database."""
        with self._database.transaction() as session:
            claim = training_runs.claim(session, run_id, self._name, self._lease_seconds)
        if claim is None:
            log.info("training_not_claimed", training=run_id)
            return
        self.busy.set()
        try:
            self._run(claim)
        finally:
            self.busy.clear()

    def _run(self, claim: TrainingClaim) -> None:
        try:
            with _Heartbeat(self._database, claim, self._lease_seconds, self._stop) as heartbeat:
                retrained = self._retrain(claim, heartbeat)
            with self._database.transaction() as session:
                sha256 = retrained.candidate.manifest.sha256
                training_runs.succeed(session, claim, sha256, _outcome(retrained))
        except _InterruptedError:
            log.warning("training_interrupted", training=claim.run_id)
            self._end(claim, "its trainer was stopped", count=False)
        except LeaseLostError as error:
            log.warning("training_lease_lost", training=claim.run_id, detail=str(error))
        except (ModelError, WorkerError, DicomNodeError) as error:
            # Another try would meet the same; asked for again, it goes on where it stopped.
            log.exception("training_refused", training=claim.run_id)
            with self._database.transaction() as session:
                training_runs.fail(session, claim, f"{type(error).__name__}: {error}")
        except Exception as error:
            log.exception("training_failed", training=claim.run_id)
            self._end(claim, type(error).__name__, count=True)

    def _retrain(self, claim: TrainingClaim, heartbeat: _Heartbeat) -> Retrained:
        with self._database.reading() as session:
            request = RetrainingRequest.from_json(training_runs.get(session, claim.run_id).request)
        return Retraining(request, self._site, heartbeat.report).run(resume=True)

    def _end(self, claim: TrainingClaim, detail: str, *, count: bool) -> None:
        try:
            with self._database.transaction() as session:
                if count:
                    training_runs.release(session, claim, detail, self._maximum_attempts)
                else:
                    training_runs.give_back(session, claim, detail)
        except LeaseLostError:
            log.warning("training_lease_lost", training=claim.run_id)


class _Heartbeat:
    """Renews a lease while its training runs, writes its stage, and stops it when it has to."""

    def __init__(
        self,
        database: Database,
        claim: TrainingClaim,
        lease_seconds: float,
        stop: threading.Event,
    ) -> None:
        self._database, self._claim, self._lease_seconds = database, claim, lease_seconds
        self._told_to_stop, self._lost = stop, threading.Event()
        self._ended = threading.Event()
        self._stage = ""
        self._thread = threading.Thread(target=self._run, name="training lease", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def report(self, stage: str, done: float | None) -> None:
        """Take note of the stage; called by the training, which ends here if it has to."""
        if self._told_to_stop.is_set() or self._lost.is_set():
            raise _InterruptedError
        self._stage = stage if done is None else f"{stage} ({done:.0%})"

    def _run(self) -> None:
        while not self._ended.wait(self._lease_seconds / 3):
            try:
                with self._database.transaction() as session:
                    training_runs.renew(session, self._claim, self._lease_seconds, self._stage)
            except LeaseLostError:
                self._lost.set()
                return
            except Exception:
                # The database may be back before the lease ends.
                log.exception("training_lease_not_renewed", training=self._claim.run_id)


def _outcome(retrained: Retrained) -> str:
    comparison = retrained.comparison
    verdict = "passes the gate" if comparison.passed else "; ".join(comparison.reasons)
    measured = "locked test set" if retrained.locked else "validation data, no test set is locked"
    return f"{retrained.candidate.title}, on the {measured}: {verdict}"
