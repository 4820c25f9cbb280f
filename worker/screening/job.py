"""One screening job in a worker: claim, keep the lease alive, screen, record the end."""

from __future__ import annotations

import faulthandler
import os
import socket
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from sqlalchemy.exc import OperationalError

from dicom_node.errors import DicomNodeError, RefusedError
from dicom_node.objects.provenance import ResultContext
from dicom_node.reading.reader import read_ct_series
from model.errors import ModelError
from model.files import write_bytes
from worker.audit import trail
from worker.db import results, screenings, studies
from worker.errors import LeaseLostError, WorkerError
from worker.screening.janitor import ResultJanitor
from worker.screening.result import result_document
from worker.screening.screening import screen

if TYPE_CHECKING:
    from collections.abc import Callable
    from zoneinfo import ZoneInfo

    from dicom_node.objects.provenance import Equipment, ResultIdentity
    from dicom_node.objects.results import EncodedObject
    from model.inference import Predictor
    from model.prediction import ModelVersion
    from worker.db.engine import Database
    from worker.db.screenings import Claim
    from worker.screening.screening import Outcome

EXIT_DEADLINE = 75
# For the thread that knows the reason to be first.
_WATCHDOG_GRACE_SECONDS = 10.0
_STDERR = 2

_FIRST_PAUSE_SECONDS = 5.0
_LONGEST_PAUSE_SECONDS = 3600.0
_RELEASE_PAUSE_SECONDS = 1.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class JobConfig:
    """What a job needs to know of the installation.

    Attributes
    ----------
    spool_dir, results_dir
        Where received instances lie and encoded results go.
    destinations
        Names of the destinations results are put into the outbox for.
    equipment, uid_root, timezone
        For the result objects; workers that share a database must share these.
    lease_seconds, deadline_seconds, maximum_attempts
        Lease of a claim, the longest a screening may take, and when to give up.
    """

    spool_dir: Path
    results_dir: Path
    destinations: tuple[str, ...]
    equipment: Equipment
    uid_root: str
    timezone: ZoneInfo
    lease_seconds: float
    deadline_seconds: float
    maximum_attempts: int


class ScreeningJob:
    """Runs queued screenings, one for each call.

    Parameters
    ----------
    database
        The truth.
    network
        Gives the loaded network; asked once for each job, before its claim.
    config
        The installation.
    """

    def __init__(
        self, database: Database, network: Callable[[], Predictor], config: JobConfig
    ) -> None:
        self._database = database
        self._network = network
        self._config = config
        self._janitor = ResultJanitor(database, config.results_dir)
        self._name = worker_name()

    def run(self, named: int) -> None:
        """Screen what waits longest; every end is recorded in the database.

        Parameters
        ----------
        named
            The screening the message was sent for. A message says that there is work, the
            database which: a screening whose worker was lost does not wait for all the messages
            that were sent meanwhile.
        """
        # Loading another network takes seconds, which must not come out of a lease.
        predictor = self._network()
        claim = self._claim_next()
        if claim is None:
            log.info("screening_not_claimed", screening=named)
            return
        screening_id = claim.screening_id
        try:
            with _Heartbeat(self._database, claim, self._config):
                self._screen(claim, predictor)
        except LeaseLostError as error:
            log.warning("lease_lost", screening=screening_id, detail=str(error))
        except RefusedError as error:
            self._refuse(claim, error)
        except (OSError, OperationalError) as error:
            # The machine is in trouble, not the study: patience, not a verdict. Not for want of
            # memory, which may be the study's own doing.
            log.exception("screening_interrupted", screening=screening_id)
            self._release(claim, error, excused=True)
        except Exception as error:
            # Whatever it was, it belongs to this study alone: the worker goes on.
            log.exception("screening_failed", screening=screening_id)
            self._release(claim, error)
        # Also where the lease was lost: the janitor may have been here before our files were.
        self._tidy(screening_id)

    def _claim_next(self) -> Claim | None:
        """Claim the screening that waits longest, None where none waits."""
        while True:
            with self._database.reading() as session:
                screening_id = screenings.next_in_turn(session)
            if screening_id is None:
                return None
            claim = self._claim(screening_id)
            if claim is not None:
                return claim
            # Another worker was faster.

    def _claim(self, screening_id: int) -> Claim | None:
        lease = self._config.lease_seconds
        with self._database.transaction() as session:
            claim = screenings.claim(session, screening_id, self._name, lease)
            if claim is not None:
                screening = screenings.get(session, screening_id)
                trail.study_screened(session, screening, self._name)
        return claim

    def _screen(self, claim: Claim, predictor: Predictor) -> None:
        with self._database.reading() as session:
            screening = screenings.get(session, claim.screening_id)
            series_uid = screening.series_instance_uid
            digests = {
                self._config.spool_dir / instance.path: instance.content_digest
                for instance in studies.series_instances(session, screening.study_id, series_uid)
            }
        outcome = screen(
            lambda progress: read_ct_series(
                list(digests), series_uid, progress=progress, digests=digests
            ),
            predictor,
            lambda identity: self._context(claim, predictor.model_version, identity),
        )
        self._record(claim, outcome)

    def _context(
        self, claim: Claim, model: ModelVersion, identity: ResultIdentity
    ) -> ResultContext:
        with self._database.reading() as session:
            screening = screenings.get(session, claim.screening_id)
            origin = results.origin(session, screening, self._identity_digest(identity))
            return ResultContext(
                identity=identity,
                model=model,
                # The clock on the wall of the department, as in every other object of the study.
                created_at=origin.created_at.astimezone(self._config.timezone),
                equipment=self._config.equipment,
                revision=origin.revision,
                predecessor=results.predecessor_report(origin, session),
                uid_root=self._config.uid_root,
            )

    def _identity_digest(self, identity: ResultIdentity) -> str:
        return results.identity_digest(
            identity, self._config.equipment, self._config.uid_root, self._config.timezone
        )

    def _record(self, claim: Claim, outcome: Outcome) -> None:
        begun = time.perf_counter()
        document = result_document(outcome)
        for encoded, entry in zip(outcome.objects, document["objects"], strict=True):
            entry["path"] = self._store(claim, encoded, entry["sha256"])
        document["timings"]["store"] = round(time.perf_counter() - begun, 4)
        with self._database.transaction() as session:
            results.record_success(
                session,
                claim,
                model=outcome.prediction.model,
                identity=self._identity_digest(outcome.context.identity),
                document=document,
                destinations=self._config.destinations,
            )

    def _store(self, claim: Claim, encoded: EncodedObject, sha256: str) -> str:
        """Store an object under a name no other content can have; return its relative path."""
        path = Path(str(claim.screening_id)) / f"{encoded.kind}-{sha256[:16]}.dcm"
        write_bytes(self._config.results_dir / path, encoded.data)
        return str(path)

    def _tidy(self, screening_id: int) -> None:
        try:
            self._janitor.tidy(screening_id)
        except (OSError, OperationalError):
            # The end is recorded; the node's janitor comes by again.
            log.warning("results_not_tidied", screening=screening_id)

    def _refuse(self, claim: Claim, error: RefusedError) -> None:
        try:
            with self._database.transaction() as session:
                screenings.refuse(session, claim, error.reason, error.detail)
        except LeaseLostError:
            log.warning("lease_lost", screening=claim.screening_id)

    def _release(self, claim: Claim, error: Exception, *, excused: bool = False) -> None:
        # The database may be what is in trouble. Until the lease is over this attempt is ours.
        patience = time.monotonic() + self._config.lease_seconds
        while True:
            try:
                self._release_once(claim, error, excused=excused)
            except OperationalError:
                if time.monotonic() > patience:
                    raise
                time.sleep(_RELEASE_PAUSE_SECONDS)
            else:
                return

    def _release_once(self, claim: Claim, error: Exception, *, excused: bool) -> None:
        limit = self._config.maximum_attempts
        pause = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2.0 ** (claim.token - 1))
        try:
            with self._database.transaction() as session:
                screening = screenings.held(session, claim)
                screenings.release(
                    session, screening, _describe(error), limit, pause, excused=excused
                )
                actor = trail.process(f"worker {self._name}")
                trail.screening_failed(session, screening, actor, type(error).__name__)
        except LeaseLostError:
            log.warning("lease_lost", screening=claim.screening_id)


def worker_name() -> str:
    """Name this worker as claims and the event log do."""
    return f"{socket.gethostname()}:{os.getpid()}"


def _describe(error: Exception) -> str:
    """Name an error; the text of one that is not ours could hold patient data."""
    name = type(error).__name__
    if isinstance(error, DicomNodeError | ModelError | WorkerError):
        return f"{name}: {error}"
    if isinstance(error, OSError) and error.strerror:
        return f"{name}: {error.strerror}"
    return name


class _Heartbeat:
    """Renews a lease while its job runs, but never beyond the deadline.

    A screening that hangs in native code cannot be interrupted from Python: at the deadline the
    process ends itself with :data:`EXIT_DEADLINE`, its supervisor starts another, and the sweeper
    counts the attempt. Where that thread does not come to it, since native code holds the
    interpreter's lock or the database hangs, a watchdog without Python ends the process a little
    later: exit code 1, and the functions of all threads on stderr. A process has one watchdog, as
    it has one job at a time.
    """

    def __init__(self, database: Database, claim: Claim, config: JobConfig) -> None:
        self._database = database
        self._claim = claim
        self._config = config
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)

    def __enter__(self) -> None:
        limit = self._config.deadline_seconds + _WATCHDOG_GRACE_SECONDS
        faulthandler.dump_traceback_later(limit, exit=True, file=_STDERR)
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        # A renewal may hang still: the watchdog stays until it is over.
        self._thread.join()
        faulthandler.cancel_dump_traceback_later()

    def _run(self) -> None:
        deadline = time.monotonic() + self._config.deadline_seconds
        pause = self._config.lease_seconds / 3
        while not self._stop.wait(max(0.0, min(pause, deadline - time.monotonic()))):
            if time.monotonic() >= deadline:
                log.error("screening_deadline_exceeded", screening=self._claim.screening_id)
                os._exit(EXIT_DEADLINE)
            try:
                with self._database.transaction() as session:
                    screenings.renew(session, self._claim, self._config.lease_seconds)
            except LeaseLostError:
                return
            except Exception:
                # The database may be back before the lease ends.
                log.exception("lease_not_renewed", screening=self._claim.screening_id)
