"""Which screening a worker takes: the one that waits longest, whatever its message names."""

import pytest
from support.study_rows import queued_screening

from worker import bootstrap
from worker.db import screenings
from worker.db.tables import Screening
from worker.lifecycle import ScreeningState
from worker.screening.job import ScreeningJob
from worker.settings import load_settings


class Stop(BaseException):
    """The end of the worker, once it has claimed."""


class NoNetwork:
    """Is asked for nothing: the worker ends before."""


@pytest.fixture
def job(database, tmp_path, monkeypatch):
    monkeypatch.setattr("worker.screening.job.read_ct_series", _stop)
    config = bootstrap.job_config(load_settings(data_dir=tmp_path))
    return ScreeningJob(database, NoNetwork, config)


def _stop(*_, **__):
    raise Stop


def running(database):
    with database.reading() as session:
        rows = (
            session.query(Screening).filter_by(state=ScreeningState.RUNNING).order_by(Screening.id)
        )
        return [screening.id for screening in rows]


def test_a_screening_whose_worker_was_lost_has_kept_its_place(database, job):
    with database.transaction() as session:
        first, second, third = (queued_screening(session, f"1.2.{n}").id for n in range(3))
        for screening_id in (first, second, third):
            screenings.mark_published(session, screening_id)
    for expected in (first, second):
        with pytest.raises(Stop):
            job.run(third)
        assert running(database)[-1] == expected
    with database.transaction() as session:
        screenings.release(session, screenings.get(session, first), "lost", 3)
    assert running(database) == [second]
    with pytest.raises(Stop):
        job.run(third)
    assert running(database) == [first, second]


def test_a_screening_that_is_to_wait_is_passed_over(database, job):
    with database.transaction() as session:
        paused, next_one = (queued_screening(session, f"1.2.{n}").id for n in range(2))
        screenings.claim(session, paused, "here", 60)
        screenings.release(session, screenings.get(session, paused), "disk full", 3, 3600)
    with pytest.raises(Stop):
        job.run(paused)
    assert running(database) == [next_one]


def test_a_pause_is_kept_though_a_message_names_the_screening(database, job):
    """Messages of a long queue may be left over: three of them must not use up its attempts."""
    with database.transaction() as session:
        paused = queued_screening(session).id
        screenings.claim(session, paused, "here", 60)
        screenings.release(session, screenings.get(session, paused), "MemoryError", 3, 3600)
    job.run(paused)
    assert running(database) == []


def test_a_message_for_which_nothing_is_left_does_no_harm(database, job):
    job.run(4711)
    assert running(database) == []
