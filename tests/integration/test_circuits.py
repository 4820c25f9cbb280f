"""The circuit breaker of a destination: one probe at a time, growing pauses, all at the end."""

from __future__ import annotations

import hashlib
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING

import pydicom
import pytest
from support.small_ct import write_small_ct
from support.study_rows import screened_study

from dicom_node.config import DimseDestination
from worker.db import circuits, commitments, deliveries
from worker.db.engine import now
from worker.db.tables import Circuit, Delivery, Event
from worker.delivery.outbox import Deliverer, RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Callable

LEASE = 60
# Where the rows and locks are those of other tests here.
on_sqlite = pytest.mark.parametrize("database", ["sqlite"], indirect=True)
PAUSES = {1: 30.0, 2: 60.0, 3: 120.0}


def time_passes(session) -> None:
    """Let every pause be over."""
    earlier = now(session) - timedelta(seconds=1)
    for row in session.query(Circuit):
        row.probe_at = earlier
    for delivery in session.query(Delivery):
        delivery.next_attempt_at = earlier
    session.flush()


def taken(session) -> list[tuple[str, str]]:
    return [
        (d.screening.study.study_instance_uid, d.kind)
        for d in deliveries.take_due(session, "pacs", LEASE)
    ]


def closed(session) -> int:
    return circuits.close(session, circuits.lock(session, "pacs"))


@on_sqlite
def test_a_destination_that_is_away_holds_up_all_that_waits_for_it_and_no_other(database):
    with database.transaction() as session:
        first = screened_study(session)
        second = screened_study(session, "1.9")
        screened_study(session, "1.10", destination="other")
        deliveries.postpone(session, first.id, "pacs", "connection refused", 60)
        circuits.open_(session, "pacs", PAUSES.__getitem__, "connection refused")
        session.expire_all()
        assert taken(session) == []
        assert len(deliveries.take_due(session, "other", LEASE)) == 2
        assert first.study.reason == "destination_unavailable"
        assert second.study.reason == "waiting_for_destination"


def test_one_object_is_the_probe_and_nothing_else_goes_meanwhile(database):
    with database.transaction() as session:
        screened_study(session)
        screened_study(session, "1.9")
        circuits.open_(session, "pacs", PAUSES.__getitem__, "away")
        time_passes(session)
        assert taken(session) == [("1.2.3", "seg")]
        assert taken(session) == []


def test_a_probe_whose_sender_died_is_given_out_again_after_the_lease(database):
    with database.transaction() as session:
        screened_study(session)
        circuits.open_(session, "pacs", PAUSES.__getitem__, "away")
        time_passes(session)
        assert taken(session) == [("1.2.3", "seg")]
        time_passes(session)
        assert taken(session) == [("1.2.3", "seg")]


@on_sqlite
def test_each_failed_probe_makes_the_pause_longer(database):
    with database.transaction() as session:
        pauses = []
        for _ in range(3):
            circuits.open_(session, "pacs", PAUSES.__getitem__, "away")
            row = session.get_one(Circuit, "pacs")
            pauses.append(round((row.probe_at - now(session)).total_seconds()))
        assert pauses == [30, 60, 120]


@on_sqlite
def test_an_object_that_makes_it_hang_up_does_not_keep_the_others_back(database):
    with database.transaction() as session:
        poison = screened_study(session)
        screened_study(session, "1.9")
        deliveries.postpone(session, poison.id, "pacs", "hung up", 60)
        circuits.open_(session, "pacs", PAUSES.__getitem__, "hung up")
        session.get_one(Circuit, "pacs").probe_at = now(session)
        session.flush()
        (probe,) = deliveries.take_due(session, "pacs", LEASE)
        assert probe.screening.study.study_instance_uid == "1.9"
        deliveries.mark_delivered(session, probe.id)
        assert closed(session) == 1
        assert taken(session) == [("1.9", "sr")]


@on_sqlite
def test_an_answer_lets_everything_go(database):
    with database.transaction() as session:
        first = screened_study(session)
        screened_study(session, "1.9")
        deliveries.postpone(session, first.id, "pacs", "away", 3600)
        for _ in range(2):
            circuits.open_(session, "pacs", PAUSES.__getitem__, "away")
        assert closed(session) == 2
        assert closed(session) == 0
        deliveries.let_go(session, "pacs")
        assert sorted(taken(session) + taken(session)) == [
            ("1.2.3", "seg"),
            ("1.2.3", "sr"),
            ("1.9", "seg"),
            ("1.9", "sr"),
        ]
        names = [event.event for event in session.query(Event).filter(Event.study_id.is_(None))]
        assert names == ["destination_away", "destination_back"]


@on_sqlite
def test_a_node_that_starts_probes_at_once_and_with_one_object(database):
    with database.transaction() as session:
        screened_study(session)
        circuits.open_(session, "pacs", PAUSES.__getitem__, "away")
    with database.transaction() as session:
        deliveries.take_over(session)
    with database.transaction() as session:
        assert taken(session) == [("1.2.3", "seg")]
        assert session.get_one(Circuit, "pacs").failures == 1


def a_probe_is_due(session, folder) -> None:
    """A destination was away twice, and a small object is due to be sent to it."""
    probe, _ = screened_study(session).deliveries
    sent = write_small_ct(folder)[0]
    probe.path, probe.sha256 = sent.name, hashlib.sha256(sent.read_bytes()).hexdigest()
    header = pydicom.dcmread(sent, specific_tags=["SOPClassUID", "SOPInstanceUID"])
    probe.sop_class_uid, probe.sop_instance_uid = header.SOPClassUID, header.SOPInstanceUID
    for _ in range(2):
        circuits.open_(session, "pacs", PAUSES.__getitem__, "away")
    session.get_one(Circuit, "pacs").probe_at = now(session)


def deliver(database, folder, port) -> Callable[[], int]:
    """The function that does one round of deliveries to the PACS at a port."""
    there = DimseDestination(
        name="pacs", ae_title="PACS", host="127.0.0.1", port=port, calling_ae_title="NODE"
    )
    ((_, round_),) = Deliverer(database, folder, [there], RetryPolicy(1, 1, 600)).rounds()
    return round_


def test_a_destination_that_is_back_is_asked_at_once_for_what_it_could_not_be_asked(
    database, tmp_path, start_pacs
):
    """And not for what it took to report on, nor for what is being asked for."""
    with database.transaction() as session:
        for study_uid in ("1.7", "1.8", "1.9"):
            for delivery in screened_study(session, study_uid).deliveries:
                deliveries.mark_delivered(session, delivery.id, to_commit=True)
        asked = commitments.take_due(session, "pacs", LEASE)
        not_asked, reported_on, being_asked = asked[:2], asked[2:4], asked[4:]
        commitments.ask_again(session, [d.id for d in not_asked], "connection refused", 3600)
        commitments.add_request(session, "1.2.3.4", "pacs", reported_on)
        commitments.wait_for_report(session, [d.id for d in reported_on], 3600)
        assert len(being_asked) == 2
        a_probe_is_due(session, tmp_path)
    assert deliver(database, tmp_path, start_pacs(lambda _event: 0x0000))() == 1
    with database.transaction() as session:
        due = commitments.take_due(session, "pacs", LEASE)
        assert {d.screening.study.study_instance_uid for d in due} == {"1.7", "1.2.3"}
        assert {d.id for d in not_asked} <= {d.id for d in due}


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_a_node_that_records_and_one_that_takes_do_not_wait_for_each_other(
    database, tmp_path, monkeypatch, start_pacs
):
    """The first records that the destination is back while the second is about to probe it."""
    with database.transaction() as session:
        a_probe_is_due(session, tmp_path)
        screened_study(session, "1.9")
    takes, closed = threading.Event(), threading.Event()
    passage, close = circuits.passage, circuits.close

    def take() -> int:
        with database.transaction() as session:
            return len(deliveries.take_due(session, "pacs", LEASE))

    def slow_passage(*args: object) -> circuits.Passage:
        takes.set()
        closed.wait(1)
        return passage(*args)

    def told_close(*args: object) -> int:
        failures = close(*args)
        closed.set()
        return failures

    taken: list[Future[int]] = []

    def store(_event: object) -> int:
        with database.transaction() as session:
            session.get_one(Circuit, "pacs").probe_at = now(session)
        monkeypatch.setattr(circuits, "passage", slow_passage)
        taken.append(pool.submit(take))
        assert takes.wait(10)
        return 0x0000

    monkeypatch.setattr(circuits, "close", told_close)
    round_ = deliver(database, tmp_path, start_pacs(store))
    with ThreadPoolExecutor(1) as pool:
        assert round_() == 1
        assert taken[0].result(10) == 1
