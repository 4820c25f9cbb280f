"""A second result of a study is impossible: the database refuses it, and no lease ends at work."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy.exc import IntegrityError
from support.installation import Installation
from support.small_ct import write_small_ct
from support.stated import SMALL, StatedPredictor
from support.study_rows import queued_screening, screened_study

from worker import bootstrap
from worker.db.tables import Screening
from worker.lifecycle import StudyState

LEASE_SECONDS = 3.0


def add_copy(session, row, **changes):
    """Add a row that is another one's but for its id and what is given."""
    names = {column.name for column in type(row).__table__.columns} - {"id"}
    session.add(type(row)(**{name: getattr(row, name) for name in names} | changes))
    session.flush()


def second_screening_in_force(session):
    screening = queued_screening(session)
    add_copy(session, screening, revision=screening.revision + 1)


def same_object_again(session):
    add_copy(session, screened_study(session).deliveries[0], kind="summary")


def second_seg(session):
    add_copy(session, screened_study(session).deliveries[0], sop_instance_uid="1.2.3.999")


@pytest.mark.parametrize("act", [second_screening_in_force, same_object_again, second_seg])
def test_the_database_refuses_a_second_result(database, act):
    with pytest.raises(IntegrityError, match=r"(?i)unique"), database.transaction() as session:
        act(session)


def test_a_screening_longer_than_its_lease_is_nobody_elses(tmp_path, redis_url):
    installation = Installation(
        tmp_path / "data", lease_seconds=LEASE_SECONDS, broker_url=redis_url, **SMALL
    )
    installation.receive(write_small_ct(tmp_path / "ct"))
    sweeper = bootstrap.sweeper(installation.settings, installation.database)
    predictor, done = StatedPredictor(), threading.Event()

    class Long:
        """A predictor that works for longer than two leases."""

        model_version = predictor.model_version
        pipeline_digest = staticmethod(predictor.pipeline_digest)

        def predict(self, volume, progress):
            done.wait(2.2 * LEASE_SECONDS)
            return predictor.predict(volume, progress)

    def sweep() -> None:
        while not done.wait(0.2):
            sweeper.run_once()

    sweeping = threading.Thread(target=sweep)
    sweeping.start()
    try:
        installation.screen(Long())
    finally:
        done.set()
        sweeping.join()
    with installation.database.reading() as session:
        assert session.query(Screening).one().attempts == 1
    assert installation.study().state is StudyState.COMPLETED
