"""What the sweeper gives a real broker: a message each, and all again where it lost them."""

from contextlib import closing
from datetime import timedelta

import pytest
import redis
from sqlalchemy import update
from sqlalchemy.exc import OperationalError
from support.study_rows import queued_screening

from worker import bootstrap
from worker.app import SCREENING_QUEUE
from worker.db import schema, screenings
from worker.db.engine import Database, now
from worker.db.tables import Screening
from worker.settings import load_settings

WAITING = 120


@pytest.fixture
def broker(redis_url):
    with redis.Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def swept(sqlite_database, redis_url, tmp_path):
    """A sweeper with the ordinary settings, which has sent a message for each that waits."""
    with sqlite_database.transaction() as session:
        for number in range(WAITING):
            queued_screening(session, f"1.2.{number}")
    settings = load_settings(data_dir=tmp_path, broker_url=redis_url)
    sweeper = bootstrap.sweeper(settings, sqlite_database)
    while sweeper.run_once():
        pass
    return sweeper


def test_a_broker_that_has_its_messages_gets_no_second_ones(swept, broker):
    assert broker.llen(SCREENING_QUEUE) == WAITING
    assert swept.run_once() == 0
    assert broker.llen(SCREENING_QUEUE) == WAITING


def test_without_workers_a_broker_gets_no_more_messages_however_long_it_takes(
    swept, broker, sqlite_database
):
    with sqlite_database.transaction() as session:
        session.execute(update(Screening).values(published_at=now(session) - timedelta(days=1)))
    assert swept.run_once() == 0
    # One was lost, whichever: the next in turn get another.
    broker.rpop(SCREENING_QUEUE)
    assert 0 < swept.run_once() < WAITING
    assert swept.run_once() == 0


def test_leases_that_ended_while_the_database_was_away_count_for_no_study(
    redis_url, tmp_path, postgresql_server, postgresql_url
):
    with closing(Database(postgresql_url)) as database:
        schema.upgrade(database.engine)
        with database.transaction() as session:
            queued_screening(session, "1.2")
        settings = load_settings(data_dir=tmp_path, broker_url=redis_url)
        sweeper = bootstrap.sweeper(settings, database)

        def lose() -> Screening:
            with database.transaction() as session:
                screening = session.query(Screening).one()
                screening.not_before = None
                screenings.claim(session, screening.id, "worker", -1)
            sweeper.run_once()
            with database.reading() as session:
                return session.query(Screening).one()

        postgresql_server.stop()
        try:
            with pytest.raises(OperationalError):
                sweeper.run_once()
        finally:
            postgresql_server.start()
        screening = lose()
        assert (screening.attempts, screening.excused_attempts) == (1, 1)
        screening = lose()
        assert (screening.attempts, screening.excused_attempts) == (2, 1)


def test_a_broker_that_lost_everything_gets_all_of_it_at_once(swept, broker):
    broker.flushdb()
    while swept.run_once():
        pass
    assert broker.llen(SCREENING_QUEUE) == WAITING


def test_a_broker_that_was_just_given_a_new_message_is_told_the_old_ones_too(
    swept, broker, sqlite_database
):
    broker.flushdb()
    with sqlite_database.transaction() as session:
        queued_screening(session, "1.3")
    assert swept.run_once() > 1
    while swept.run_once():
        pass
    assert broker.llen(SCREENING_QUEUE) == WAITING + 1
