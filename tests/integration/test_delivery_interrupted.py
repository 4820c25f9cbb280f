"""A node that dies while it records a delivery: the study is completed by the next one."""

import pytest
from support.study_rows import screened_study

from dicom_node.config import DimseDestination
from worker.db import deliveries
from worker.db.tables import Delivery, Study
from worker.delivery import Deliverer, RetryPolicy
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
