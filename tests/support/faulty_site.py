"""An installation that can be stopped at any of its steps: real parts, PACS in memory."""

from __future__ import annotations

import json
import shutil
import threading
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING
from unittest.mock import patch

import numpy as np
from sqlalchemy import update
from support.drawn_instances import Drawn, drawn_instance, returned_result
from support.faulty_parts import Crash, FaultyDatabase, FaultySpool, Fuse, Pacs

from dicom_node.errors import RefusedError
from dicom_node.objects.provenance import UidRole
from dicom_node.objects.results import EncodedObject
from dicom_node.reading.decoder import Decoder
from dicom_node.reasons import Reason
from model.errors import NoLungError
from model.prediction import Finding, Laterality, LesionMask, ModelVersion, Prediction
from worker import bootstrap, dispatch
from worker.db import schema, studies
from worker.db.engine import Database, now
from worker.db.tables import Circuit, Delivery, Screening, Study
from worker.errors import TransitionError
from worker.intake.intake import Intake
from worker.lifecycle import CommitmentState, DeliveryState, ScreeningState
from worker.retention.reconciliation import take_back_forgotten
from worker.retention.retention import Retention, RetentionPolicy
from worker.screening.job import ScreeningJob
from worker.screening.sweeper import Broker, Sweeper
from worker.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from dicom_node.objects.provenance import ResultContext
    from dicom_node.reading.ct_series import CtSeries
    from model.volume import CtVolume

DESTINATIONS = ("PACS", "ARCHIVE")
_ROUNDS = 30
# What may be removed at all is removed at the next round, and with little disk free at once.
_AT_ONCE = RetentionPolicy(
    delivered_days=1e-12, reviewed_days=1e-12, refused_days=1e-12, free_bytes=0
)
_DISK_IS_LOW = RetentionPolicy(
    delivered_days=0, reviewed_days=0, refused_days=0, free_bytes=1 << 60
)
MODEL = ModelVersion("state-machine", "1", "5" * 64)
_ERRORS: dict[str, BaseException] = {
    "no_lung": NoLungError("no lung in it"),
    "defect": ValueError("a defect"),
    "disk": OSError(5, "Input/output error"),
    "killed": Crash(),
}
_KINDS = {
    "seg": (UidRole.SEGMENTATION, UidRole.SEGMENTATION_SERIES),
    "sr": (UidRole.REPORT, UidRole.REPORT_SERIES),
}


class Worker:
    """A screening in a thread of its own, which stands still inside the network."""

    ENDINGS = ("result", *_ERRORS)
    model_version = MODEL

    def __init__(self, site: Site, screening_id: int) -> None:
        self.screening_id = screening_id
        self._job = ScreeningJob(site.database, lambda: self, bootstrap.job_config(site.settings))
        self._stands, self._goes_on = threading.Event(), threading.Event()
        self._error: BaseException | None = None
        self._broken: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def works(self) -> bool:
        """Whether it holds a claim, as far as it knows."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Take the message and go as far as the network."""
        self._thread.start()
        self._wait(self._stands)

    def finish(self, ending: str) -> None:
        """Come back from the network, and record what came of it."""
        self._error = _ERRORS.get(ending)
        self._goes_on.set()
        self._thread.join(60)
        self._wait(self._stands)

    def pipeline_digest(self) -> str:
        """As `model.inference.Predictor`."""
        return "pipeline"

    def predict(self, volume: CtVolume, _progress: object = None) -> Prediction:
        """As `model.inference.Predictor`: one lesion on the second slice."""
        self._stands.set()
        self._wait(self._goes_on)
        if self._error is not None:
            raise self._error
        labels = np.zeros(volume.shape, np.uint8)
        labels[1, 4:8, 4:8] = 1
        lesion = Finding(1, 16, 1.0, (1,), 1, Laterality.LEFT, -300.0, 8.0)
        return Prediction(MODEL, 0.9, 0.5, (1,), (0.9,), LesionMask(labels), (lesion,), 4000.0)

    def _wait(self, event: threading.Event) -> None:
        if not event.wait(60):
            raise AssertionError("a worker and the rest of the site wait for each other")
        if self._broken is not None:
            raise AssertionError("a job let an exception out") from self._broken

    def _run(self) -> None:
        try:
            self._job.run(self.screening_id)
        except Crash:
            pass
        except BaseException as error:  # noqa: BLE001 - shown by whoever waits
            self._broken = error
        finally:
            self._stands.set()


class Site:
    """Everything between the listener's answer and the PACS, stepped by hand.

    Parameters
    ----------
    folder
        Of this site alone.
    template
        An empty database of the newest schema, which is copied.
    """

    def __init__(self, folder: Path, template: Path) -> None:
        self.fuse = Fuse()
        self.archives = {name: Pacs(self.fuse) for name in DESTINATIONS}
        self.settings = load_settings(
            data_dir=folder,
            settle_seconds=0.000001,
            minimum_slices=3,
            minimum_coverage_mm=100,
            lease_seconds=3600,
            commitment_report_seconds=0.000001,
            destinations=",".join(f"dimse://{name}@127.0.0.1:104" for name in DESTINATIONS),
        )
        shutil.copyfile(template, folder / "lungwatch.db")
        url = self.settings.resolved_database_url
        self.database = FaultyDatabase(url, self.fuse)
        # A second client, which no fault touches: the rules' own, and the invariants'.
        self.witness = Database(url)
        self.spool = FaultySpool(self.settings.spool_dir, self.fuse)
        self.spool.prepare()
        self.messages, self.published = list[int](), list[int]()
        self.broker_empty, self.disk_errors = True, 0
        self.acknowledged: dict[str, bytes] = {}
        self.workers: list[Worker] = []
        self.lost: set[tuple[str, str]] = set()
        self.start_node()

    def close(self) -> None:
        """Let go of threads and connections."""
        for worker in self.workers:
            if worker.works:
                worker.finish("killed")
        self.database.close()
        self.witness.close()

    def start_node(self) -> None:
        """Make the node's parts anew, as its start does: nothing is left in memory."""
        self._intake = Intake(self.database, self.spool, self.settings.settle_seconds)
        self._assembler = bootstrap.assembler(self.settings, self.database)
        self._sweeper = Sweeper(
            self.database,
            Broker(self._publish, lambda: self.broker_empty, self._mark, self.messages.__len__),
            maximum_attempts=self.settings.maximum_attempts,
            republish_seconds=0,
        )
        self._deliverer = dispatch.deliverer(self.settings, self.database)
        self._committer = dispatch.committer(self.settings, self.database)
        self._retention = Retention(
            self.database, self.spool.root, self.settings.results_dir, _AT_ONCE
        )
        self._deliverer.take_over()
        take_back_forgotten(self.database, self.spool.root)

    def receive(self, drawn: Drawn) -> None:
        """Store an instance as the listener does before it answers success."""
        self._acknowledge(drawn_instance(drawn))

    def receive_own(self, sop_instance_uid: str) -> None:
        """Store one of our own results, which the PACS routed back."""
        self._acknowledge(returned_result(sop_instance_uid))

    def _acknowledge(self, instance: tuple[str, str, bytes]) -> None:
        sop_class_uid, sop_instance_uid, dataset = instance
        stored = self.spool.store(
            dataset,
            sop_class_uid=sop_class_uid,
            sop_instance_uid=sop_instance_uid,
            transfer_syntax_uid="1.2.840.10008.1.2.1",
            calling_ae_title="SENDER",
            called_ae_title="LUNGWATCH",
        )
        self.acknowledged[stored.path.name] = dataset

    def round(self, steps: int | None = None) -> int:
        """One round of each loop of the node, which is killed after so many steps."""
        with self._node_lives_for(steps):
            taken = self._intake.run_once()
            return taken + self._assembler.run_after(self._intake) + self._sweeper.run_once()
        return 0

    def round_without_reading(self, steps: int | None = None) -> None:
        """One round in which the decoder fails at every instance."""
        refused = RefusedError(Reason.DECODER_FAILED, "took too long")
        with patch.object(Decoder, "read_header", side_effect=refused):
            self.round(steps)

    def round_with_low_disk(self, steps: int | None = None) -> None:
        """One round, and little disk free: retention comes in between wherever it can."""
        keeper = Retention(self.witness, self.spool.root, self.settings.results_dir, _DISK_IS_LOW)
        with patch.object(self.database, "after_commit", keeper.run_once):
            self.round(steps)

    def held(self) -> list[str]:
        """Give the UIDs of all that any destination holds."""
        return sorted({uid for pacs in self.archives.values() for uid in pacs.objects})

    def deliver(self, moods: Sequence[str], steps: int | None = None) -> int:
        """One round of delivery to each destination; return how many objects were due."""
        for pacs, mood in zip(self.archives.values(), moods, strict=True):
            pacs.mood = mood
        with self._node_lives_for(steps), self._reached_by("worker.delivery.outbox"):
            return sum(round_() for _, round_ in self._deliverer.rounds())
        return 0

    def ask_for_promises(self, steps: int | None = None) -> int:
        """One round of asking each destination what it keeps; return how many objects that was."""
        with self._node_lives_for(steps), self._reached_by("worker.delivery.commitment"):
            return sum(round_() for _, round_ in self._committer.rounds())
        return 0

    @contextmanager
    def _reached_by(self, module: str) -> Iterator[None]:
        with patch(f"{module}.open_peer", lambda destination: self.archives[destination.name]):
            yield

    def lose(self, number: int) -> None:
        """Let a destination lose one object that it took and has not promised to keep."""
        with self.witness.reading() as session:
            rows = session.query(Delivery).filter(
                Delivery.state == DeliveryState.DELIVERED,
                Delivery.commitment != CommitmentState.COMMITTED,
            )
            taken = sorted((row.destination, row.sop_instance_uid) for row in rows)
        if taken:
            name, uid = taken[number % len(taken)]
            self.archives[name].objects.pop(uid, None)
            self.lost.add((name, uid))

    def clean(self, steps: int | None = None) -> None:
        """One round of retention, of everything whose time is over."""
        with self._node_lives_for(steps):
            self._retention.run_once()

    @contextmanager
    def _node_lives_for(self, steps: int | None) -> Iterator[None]:
        try:
            with self.fuse.lit(steps):
                yield
        except Crash:
            self.start_node()

    def redeliver(self, number: int) -> None:
        """Put one of the messages that were ever sent into the broker again."""
        self.messages.append(self.published[number % len(self.published)])

    def take_message(self, number: int, steps: int | None = None) -> None:
        """Let a worker take one of the waiting messages."""
        worker = Worker(self, self.messages.pop(number % len(self.messages)))
        with self.fuse.lit(steps):
            worker.start()
        if worker.works:
            self.workers.append(worker)

    def finish_worker(self, number: int, ending: str, steps: int | None = None) -> None:
        """Let one of the standing workers come to its end."""
        worker = self.workers.pop(number % len(self.workers))
        if ending == "disk":
            self.disk_errors += 1
        with self.fuse.lit(steps):
            worker.finish(ending)

    def requeue(self, number: int, *, rescreen: bool) -> None:
        """`lungwatch studies requeue` for one of the studies."""
        with self.witness.transaction() as session:
            known = session.query(Study).order_by(Study.id).all()
            if not known:
                return
            try:
                studies.requeue(
                    session, known[number % len(known)], DESTINATIONS, rescreen=rescreen
                )
            except TransitionError:
                session.rollback()

    def expire_leases(self) -> None:
        """Let the time of every lease pass."""
        with self.witness.transaction() as session:
            past = now(session) - timedelta(seconds=1)
            session.execute(
                update(Screening)
                .where(Screening.state == ScreeningState.RUNNING)
                .values(lease_expires_at=past)
            )

    def let_pauses_end(self) -> None:
        """Let the time of every pause before another try pass."""
        with self.witness.transaction() as session:
            moment = now(session)
            session.execute(update(Screening).values(not_before=None))
            session.execute(
                update(Delivery)
                .where(Delivery.state == DeliveryState.PENDING)
                .values(next_attempt_at=moment)
            )
            session.execute(update(Circuit).values(probe_at=moment))
            session.execute(update(Delivery).values(commitment_due_at=moment))

    def heal(self) -> None:
        """Let everything go well until nothing is left to do."""
        for _ in range(_ROUNDS):
            self.expire_leases()
            self.let_pauses_end()
            busy = self.round() + len(self.messages)
            while self.messages:
                self.take_message(0)
            while self.workers:
                self.finish_worker(0, "result")
            while self.deliver(["stores"] * len(DESTINATIONS)):
                busy += 1
            busy += self.ask_for_promises()
            self._retention.finish()
            if not busy:
                return
        raise AssertionError(f"still at work after {_ROUNDS} rounds in which all went well")

    def forget_messages(self) -> None:
        """Let the broker lose everything."""
        self.messages.clear()
        self.broker_empty = True

    def _mark(self) -> None:
        self.fuse.burn()
        self.broker_empty = False

    def _publish(self, screening_id: int) -> None:
        self.fuse.burn()
        self.messages.append(screening_id)
        self.published.append(screening_id)


def make_template(path: Path) -> None:
    """Make the empty database that sites copy."""
    database = Database(f"sqlite:///{path}")
    schema.upgrade(database.engine)
    with database.engine.connect() as connection:
        # The copy is of one file.
        connection.exec_driver_sql("COMMIT")
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()


def encode_briefly(
    _series: CtSeries, _prediction: Prediction, context: ResultContext
) -> tuple[EncodedObject, ...]:
    """Stand in for `encode_result`: real UIDs, and content that says all they are made from.

    Encoding takes a quarter of a second, and what is in the objects is the business of others.
    """
    return tuple(
        EncodedObject(
            kind=kind,
            sop_class_uid="1.2.840.10008.5.1.4.1.1.66.4",
            sop_instance_uid=context.uid(role),
            series_instance_uid=context.uid(series_role),
            data=json.dumps(
                {"kind": kind, "identity": str(context.identity), "context": repr(context)}
            ).encode(),
        )
        for kind, (role, series_role) in _KINDS.items()
    )
