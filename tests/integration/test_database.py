"""Studies, leases and outbox on both databases."""

import threading
from datetime import timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError
from support.study_rows import (
    ct_header,
    queued_screening,
    receiving_study,
    screened_study,
)

from worker.db import deliveries, events, schema, screenings, studies
from worker.db.engine import now
from worker.db.tables import Delivery, Event, Screening, Series, Study
from worker.errors import LeaseLostError, NotFoundError, TransitionError
from worker.lifecycle import DeliveryState, ScreeningState, StudyEvent, StudyState


def test_the_migrations_make_exactly_the_tables(database):
    assert schema.check(database.engine).up_to_date
    assert schema.check(database.engine).drift == ()


def test_a_schema_changed_by_hand_is_noticed(database):
    with database.transaction() as session:
        session.execute(text("ALTER TABLE studies ADD COLUMN surprise INTEGER"))
    assert any("surprise" in line for line in schema.check(database.engine).drift)


@pytest.mark.parametrize("change", ["UPDATE events SET event = 'x'", "DELETE FROM events"])
def test_the_event_log_cannot_be_changed(database, change):
    with database.transaction() as session:
        receiving_study(session)
    with pytest.raises(DatabaseError, match="append-only"), database.transaction() as session:
        session.execute(text(change))
    with database.reading() as session:
        assert session.query(Event).count() >= 2


def test_an_exception_rolls_the_transaction_back(database):
    def fail_after_a_change() -> None:
        with database.transaction() as session:
            receiving_study(session)
            studies.find(session, "9.9")

    with pytest.raises(NotFoundError):
        fail_after_a_change()
    with database.reading() as session:
        assert session.query(Study).count() == 0


def test_of_two_claims_at_the_same_time_one_wins(database):
    with database.transaction() as session:
        screening_id = queued_screening(session).id
    barrier, claims = threading.Barrier(8), []

    def claim() -> None:
        barrier.wait()
        with database.transaction() as session:
            claims.append(screenings.claim(session, screening_id, "here", 60))

    threads = [threading.Thread(target=claim) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([claim for claim in claims if claim is not None]) == 1
    with database.reading() as session:
        assert session.get_one(Screening, screening_id).attempts == 1


def test_a_slice_that_comes_while_its_study_is_judged_is_not_forgotten(database):
    with database.transaction() as session:
        study_id = receiving_study(session).id
    judging, received = threading.Event(), threading.Event()

    def receive() -> None:
        judging.wait(10)
        with database.transaction() as session:
            study = studies.find_or_add(session, ct_header())
            studies.ct_received(session, study, settle_seconds=60)
        received.set()

    thread = threading.Thread(target=receive)
    thread.start()
    with database.transaction() as session:
        study = screenings.lock_study(session, study_id)
        judging.set()
        received.wait(0.5)
        screenings.add(session, study, "1.2.3.4", "digest")
        events.move(session, study, StudyEvent.SERIES_CHOSEN, "waiting_for_worker")
    thread.join(40)
    with database.reading() as session:
        assert session.get_one(Study, study_id).state is StudyState.RECEIVING


def test_an_expired_lease_is_released_and_its_holder_fenced_off(database):
    with database.transaction() as session:
        screening_id = queued_screening(session).id
        late = screenings.claim(session, screening_id, "first", lease_seconds=-1)
    with database.transaction() as session:
        (expired,) = screenings.expired(session)
        screening = screenings.lock_expired(session, expired)
        screenings.release(session, screening, "lost", maximum_attempts=3)
        assert screening.study.state is StudyState.QUEUED
    with database.transaction() as session:
        current = screenings.claim(session, screening_id, "second", 60)
    with pytest.raises(LeaseLostError), database.transaction() as session:
        screenings.finish(session, late)
    with pytest.raises(LeaseLostError), database.transaction() as session:
        screenings.renew(session, late, 60)
    with database.transaction() as session:
        screenings.renew(session, current, 60)
        assert screenings.finish(session, current).state is ScreeningState.SUCCEEDED


def test_a_screening_that_kills_its_workers_fails_after_the_last_attempt(database):
    with database.transaction() as session:
        screening = queued_screening(session)
        for attempt in (1, 2, 3):
            assert screenings.claim(session, screening.id, "here", -1).token == attempt
            screenings.release(session, screening, "killed", maximum_attempts=3)
        assert screening.state is ScreeningState.FAILED
        assert screening.study.state is StudyState.FAILED
        assert screening.study.reason == "attempts_exhausted"


def test_attempts_the_machine_cut_short_do_not_count_but_have_a_limit(database):
    def lose(*, excused=False) -> str:
        with database.transaction() as session:
            screenings.claim(session, screening_id, "here", 60)
            screening = screenings.get(session, screening_id)
            screenings.release(session, screening, "disk full", 2, excused=excused)
            return screening.study.state

    with database.transaction() as session:
        screening_id = queued_screening(session).id
    assert [lose(excused=True), lose(excused=True), lose()] == [StudyState.QUEUED] * 3
    assert lose() is StudyState.FAILED
    with database.transaction() as session:
        screening_id = queued_screening(session, "1.9").id
    assert [lose(excused=True) for _ in range(8)] == [StudyState.QUEUED] * 7 + [StudyState.FAILED]


def test_newer_instances_hold_a_queued_screening_back(database):
    with database.transaction() as session:
        screening = queued_screening(session)
        studies.ct_received(session, screening.study, settle_seconds=60)
        assert screenings.claim(session, screening.id, "here", 60) is None
        assert screenings.unpublished(session, 0) == []
        studies.resume_unchanged(session, screening.study, screening)
        assert screening.study.state is StudyState.QUEUED
        assert screenings.unpublished(session, 0) == [screening.id]


def test_a_result_that_meets_newer_instances_waits_for_their_judgement(database):
    with database.transaction() as session:
        screening = queued_screening(session)
        claim = screenings.claim(session, screening.id, "here", 60)
        studies.ct_received(session, screening.study, settle_seconds=60)
        screenings.refuse(session, claim, "no_lung", "no lung in it")
        assert screening.study.state is StudyState.RECEIVING
        studies.resume_unchanged(session, screening.study, screening)
        assert (screening.study.state, screening.study.reason) == (StudyState.REFUSED, "no_lung")


def test_a_new_revision_supersedes_and_names_the_delivered_report(database):
    with database.transaction() as session:
        first = screened_study(session)
        _, report = deliveries.take_due(session, "pacs", lease_seconds=60)
        deliveries.mark_delivered(session, report.id)
        second = screenings.add(session, first.study, "1.2.3.4", "other digest")
        assert (first.state, second.revision) == (ScreeningState.SUPERSEDED, 2)
        assert second.predecessor_id == first.id
        assert {d.kind: d.state for d in first.deliveries} == {
            "seg": DeliveryState.CANCELLED,
            "sr": DeliveryState.DELIVERED,
        }


def test_a_report_nobody_received_is_no_predecessor(database):
    with database.transaction() as session:
        first = screened_study(session)
        second = screenings.add(session, first.study, "1.2.3.4", "other digest")
        assert second.predecessor_id is None


def test_a_report_whose_answer_was_lost_is_a_predecessor(database):
    with database.transaction() as session:
        first = screened_study(session)
        deliveries.take_due(session, "pacs", lease_seconds=60)
        second = screenings.add(session, first.study, "1.2.3.4", "other digest")
        assert second.predecessor_id == first.id


def test_a_superseded_delivery_that_ends_late_completes_nothing(database):
    with database.transaction() as session:
        first = screened_study(session)
        study = first.study
        taken = deliveries.take_due(session, "pacs", lease_seconds=60)
        studies.ct_received(session, study, settle_seconds=-1)
        second = screenings.add(session, study, "1.2.3.4", "other digest")
        events.move(session, study, StudyEvent.SERIES_CHOSEN, "waiting_for_worker")
        claim = screenings.claim(session, second.id, "here", 60)
        screenings.finish(session, claim)
        entry = {
            "kind": "sr",
            "sop_class_uid": "1.2",
            "sop_instance_uid": "1.2.3.9",
            "series_instance_uid": "1.5",
            "path": "2/sr.dcm",
            "sha256": "0" * 64,
        }
        deliveries.put(session, second, "pacs", entry)
        session.flush()
        events.follow(session, second, StudyEvent.SCREENED, "waiting_for_destination")
        for delivery in taken:
            deliveries.mark_delivered(session, delivery.id)
        deliveries.settle(session, first.id)
        assert study.state is StudyState.DELIVERING
        assert [d.kind for d in deliveries.take_due(session, "pacs", 60)] == ["sr"]


def test_a_failed_study_does_not_stop_the_sweeping_of_its_screening(database):
    with database.transaction() as session:
        screening = queued_screening(session)
        screenings.claim(session, screening.id, "here", -1)
        events.move(session, screening.study, StudyEvent.FAILED, "processing_error")
    with database.transaction() as session:
        (expired,) = screenings.expired(session)
        screenings.release(session, screenings.lock_expired(session, expired), "lost", 3)
    with database.reading() as session:
        assert session.query(Study).one().state is StudyState.FAILED


def test_a_failed_attempt_waits_before_the_next(database):
    with database.transaction() as session:
        screening = queued_screening(session)
        screenings.claim(session, screening.id, "here", 60)
        screenings.release(session, screening, "disk full", 3, pause_seconds=60)
        assert screenings.unpublished(session, 0) == []
        screening.not_before = screening.created_at
        session.flush()
        assert screenings.unpublished(session, 0) == [screening.id]


def test_a_long_queue_does_not_fill_the_broker(database):
    with database.transaction() as session:
        ids = [queued_screening(session, f"1.2.{n}").id for n in range(30)]
        assert screenings.unpublished(session, 60) == ids
        for screening_id in ids:
            screenings.mark_published(session, screening_id)
        assert screenings.unpublished(session, 60) == []
        assert screenings.unpublished(session, -1) == ids[:10]
        # However long the queue takes: who is not next gets no second message.
        for number, screening_id in enumerate(ids):
            screening = session.get_one(Screening, screening_id)
            screening.published_at = now(session) - timedelta(seconds=60 if number >= 10 else 0)
        session.flush()
        assert screenings.unpublished(session, 30) == []
        # A lost message is found when its screening is among the next.
        for screening_id in ids[:10]:
            screenings.claim(session, screening_id, "here", 60)
        assert screenings.unpublished(session, 30) == ids[10:20]


def test_a_refused_series_makes_room_for_another_that_qualified(database):
    with database.transaction() as session:
        screening = queued_screening(session)
        session.add(
            Series(
                study_id=screening.study_id,
                series_instance_uid="1.2.3.5",
                instance_count=64,
                chosen=False,
                reason="not_preferred",
            )
        )
        claim = screenings.claim(session, screening.id, "here", 60)
        screenings.refuse(session, claim, "no_lung", "no lung in it")
        assert screening.study.state is StudyState.RECEIVING
        assert studies.settled(session) == [screening.study_id]


def test_what_waits_for_a_destination_that_is_gone_becomes_visible(database):
    with database.transaction() as session:
        screening = screened_study(session, destination="old")
        deliveries.end_unknown(session, ["pacs"])
        study = screening.study
        assert (study.state, study.reason) == (StudyState.FAILED, "delivery_refused")
        assert "old is not among the destinations" in study.detail
        screening.result = {
            "objects": [
                {
                    "kind": d.kind,
                    "sop_class_uid": d.sop_class_uid,
                    "sop_instance_uid": d.sop_instance_uid,
                    "series_instance_uid": d.series_instance_uid,
                    "path": d.path,
                    "sha256": d.sha256,
                }
                for d in screening.deliveries
            ]
        }
        studies.requeue(session, study, ["pacs"])
        session.flush()
        session.refresh(screening, ["deliveries"])
        assert {(d.destination, d.state) for d in screening.deliveries} == {
            ("old", DeliveryState.CANCELLED),
            ("pacs", DeliveryState.PENDING),
        }


def test_due_objects_are_taken_once_and_again_after_the_lease(database):
    with database.transaction() as session:
        screened_study(session)
    with database.transaction() as session:
        taken = deliveries.take_due(session, "pacs", lease_seconds=60)
        assert [d.kind for d in taken] == ["seg", "sr"]
        assert all(d.attempts == 1 for d in taken)
    with database.transaction() as session:
        assert deliveries.take_due(session, "pacs", lease_seconds=60) == ()
        for delivery in session.query(Delivery):
            delivery.next_attempt_at = delivery.screening.created_at
    with database.transaction() as session:
        assert len(deliveries.take_due(session, "pacs", lease_seconds=60)) == 2
        assert deliveries.take_due(session, "other", lease_seconds=60) == ()


def test_a_study_completes_with_its_last_delivery(database):
    with database.transaction() as session:
        screening = screened_study(session)
        seg, sr = screening.deliveries
        deliveries.mark_delivered(session, seg.id)
        deliveries.settle(session, screening.id)
        assert screening.study.state is StudyState.DELIVERING
        deliveries.mark_delivered(session, sr.id)
        deliveries.settle(session, screening.id)
        assert screening.study.state is StudyState.COMPLETED


def test_a_refused_object_fails_the_study_until_it_is_requeued(database):
    with database.transaction() as session:
        screening = screened_study(session)
        seg, sr = screening.deliveries
        deliveries.mark_refused(session, seg.id, "status 0xA900")
        deliveries.mark_delivered(session, sr.id)
        deliveries.settle(session, screening.id)
        study = screening.study
        assert (study.state, study.reason) == (StudyState.FAILED, "delivery_refused")
        assert "0xA900" in study.detail
        studies.requeue(session, study, ["pacs"])
        studies.resume_unchanged(session, study, screening)
        assert study.state is StudyState.DELIVERING
        assert {d.state for d in screening.deliveries} == {DeliveryState.PENDING}


def test_requeueing_a_failed_screening_makes_a_new_one(database):
    with database.transaction() as session:
        screening = queued_screening(session)
        screenings.claim(session, screening.id, "here", -1)
        screenings.release(session, screening, "killed", maximum_attempts=1)
        studies.requeue(session, screening.study, ["pacs"])
        assert screenings.current(screening.study) is None
        assert studies.settled(session) == [screening.study_id]


def test_a_study_on_its_way_is_not_requeued(database):
    with database.transaction() as session:
        screening = queued_screening(session)
        with pytest.raises(TransitionError, match="queued"):
            studies.requeue(session, screening.study, ["pacs"])


def test_studies_are_found_by_id_and_uid_or_named_as_missing(database):
    with database.transaction() as session:
        study = receiving_study(session, "1.2.3")
        assert studies.find(session, "1.2.3") is study
        assert studies.find(session, str(study.id)) is study
        with pytest.raises(NotFoundError, match=r"9\.9"):
            studies.find(session, "9.9")


def test_every_step_is_in_the_event_log(database):
    with database.transaction() as session:
        screening = screened_study(session)
        steps = [event.event for event in events.of_study(session, screening.study)]
    assert steps == ["study_added", "ct_received", "series_chosen", "claimed", "screened"]


def test_times_come_back_with_their_zone(database):
    with database.transaction() as session:
        receiving_study(session)
    with database.reading() as session:
        study = studies.by_uid(session, ct_header().study_instance_uid)
        assert study.created_at.utcoffset().total_seconds() == 0
