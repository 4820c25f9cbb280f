"""Deliveries that are interrupted, by death or by a new screening: the study ends all the same."""

import pytest
from support.installation import Installation
from support.quick_screening import QuickPredictor
from support.small_ct import write_small_ct
from support.study_rows import screened_study

from dicom_node.config import DimseDestination
from worker import dispatch
from worker.db import deliveries, lost_files, studies
from worker.db.tables import Delivery, Study
from worker.delivery.outbox import Deliverer, RetryPolicy
from worker.embedded.process import free_ports
from worker.lifecycle import DeliveryState, StudyState


class Killed(BaseException):
    """The end of the process at this point."""


def test_what_a_node_died_of_recording_is_recorded_by_the_next(database, tmp_path, monkeypatch):
    with database.transaction() as session:
        screening = screened_study(session)
        for delivery in screening.deliveries:
            delivery.path = f"{delivery.kind}.dcm"
            (tmp_path / delivery.path).write_bytes(b"not what was recorded")

    def deliverer() -> Deliverer:
        destination = DimseDestination(
            name="pacs", ae_title="PACS", host="127.0.0.1", port=1, calling_ae_title="NODE"
        )
        return Deliverer(database, tmp_path, [destination], RetryPolicy(1, 1, 600))

    def die(*_):
        raise Killed

    ((_, round_),) = deliverer().rounds()
    with monkeypatch.context() as patch:
        patch.setattr(deliveries, "settle", die)
        with pytest.raises(Killed):
            round_()
    with database.reading() as session:
        assert {d.state for d in session.query(Delivery)} == {DeliveryState.PENDING}
    successor = deliverer()
    successor.take_over()
    ((_, round_),) = successor.rounds()
    assert round_() == 2
    with database.reading() as session:
        study = session.query(Study).one()
        assert (study.state, study.reason) == (StudyState.FAILED, "delivery_refused")


def test_a_study_screened_again_while_its_result_is_sent_is_completed(tmp_path, start_pacs):
    """The new screening gives the very same result and takes its deliveries over."""

    def screen_again(_event) -> int:
        if len(site.study().screenings) == 1:
            with site.database.transaction() as session:
                studies.requeue(session, studies.find(session, "1"), ["PACS"], rescreen=True)
            site.assembler.run_once()
            site.screen(QuickPredictor())
        return 0x0000

    site = screened_for(tmp_path, start_pacs(screen_again))
    site.deliver()
    study = site.study()
    assert [len(screening.deliveries) for screening in study.screenings] == [0, 3]
    assert (study.state, study.reason) == (StudyState.COMPLETED, "delivered")


def screened_for(folder, port) -> Installation:
    """An installation with a result that waits to be sent to a PACS at a port."""
    site = Installation(
        folder / "data",
        destinations=f"dimse://PACS@127.0.0.1:{port}?commitment=none",
        minimum_slices=3,
        minimum_coverage_mm=1,
    )
    site.receive(write_small_ct(folder / "ct"))
    site.screen(QuickPredictor())
    return site


@pytest.fixture
def screened(tmp_path):
    """An installation with a result for a PACS that is away."""
    (port,) = free_ports(1)
    return screened_for(tmp_path, port)


def result_file(site: Installation):
    return next(site.settings.results_dir.rglob("*.dcm"))


def test_a_result_whose_file_is_gone_is_made_again(screened):
    before = sorted(d.sha256 for d in screened.study().screenings[0].deliveries)
    result_file(screened).unlink()
    screened.deliver()
    study = screened.study()
    assert (study.state, study.reason) == (StudyState.RECEIVING, "requeued")
    assert study.detail == "its results were lost"
    screened.assembler.run_once()
    screened.screen(QuickPredictor())
    study = screened.study()
    assert study.state is StudyState.DELIVERING
    assert sorted(d.sha256 for d in study.screenings[-1].deliveries) == before


def test_a_result_whose_file_and_images_are_gone_is_a_persons_matter(screened):
    with screened.database.transaction() as session:
        study = session.query(Study).one()
        lost_files.give_up_images(session, study.id, [study.instances[0].path])
    result_file(screened).unlink()
    screened.deliver()
    study = screened.study()
    assert (study.state, study.reason) == (StudyState.FAILED, "files_lost")


def test_a_results_folder_that_is_away_is_waited_for(screened):
    folder = screened.settings.results_dir
    folder.rename(folder.with_name("away"))
    screened.deliver()
    study = screened.study()
    assert study.state is StudyState.DELIVERING
    assert "a result cannot be read" in study.detail


def test_a_study_that_waits_for_nothing_is_completed_when_the_node_starts(database, tmp_path):
    with database.transaction() as session:
        waits = screened_study(session).study_id
        for delivery in screened_study(session, "1.9").deliveries:
            deliveries.mark_delivered(session, delivery.id)
    settings = Installation(tmp_path, destinations="dimse://pacs@127.0.0.1:9").settings
    deliverer = dispatch.deliverer(settings, database)
    deliverer.take_over()
    with database.reading() as session:
        states = {study.id: study.state for study in session.query(Study)}
    assert states.pop(waits) is StudyState.DELIVERING
    assert set(states.values()) == {StudyState.COMPLETED}
