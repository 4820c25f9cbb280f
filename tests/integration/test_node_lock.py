"""The lock of the one node of a database: held by one at a time, and never lost unnoticed."""

from contextlib import closing

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from worker.db.engine import Database
from worker.db.node_lock import node_lock

HOLDERS = text("SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted")


@pytest.fixture
def of_another_host(database):
    """The same database, as a node of another host opens it."""
    with closing(Database(database.engine.url.render_as_string(hide_password=False))) as other:
        yield other


@pytest.fixture
def postgresql(postgresql_url):
    with closing(Database(postgresql_url)) as database:
        yield database


def holders(database):
    with database.engine.connect() as connection:
        return connection.scalars(HOLDERS).all()


def end_session(database, pid):
    with database.engine.connect() as connection:
        connection.execute(text("SELECT pg_terminate_backend(:pid, 10000)"), {"pid": pid})


def test_one_holds_it_at_a_time(database, of_another_host):
    first, second = node_lock(database), node_lock(of_another_host)
    assert first.take() is None
    assert first.take() is None
    assert second.take()
    first.release()
    first.release()
    assert second.take() is None
    assert first.take()
    second.release()


def test_the_work_of_the_database_goes_on_beside_it(database):
    lock = node_lock(database)
    assert lock.take() is None
    with database.transaction() as session:
        assert session.scalar(text("SELECT count(*) FROM studies")) == 0
    lock.release()


def test_databases_of_one_server_have_locks_of_their_own(postgresql, postgresql_server):
    with closing(Database(postgresql_server.create_database())) as other:
        locks = [node_lock(postgresql), node_lock(other)]
        assert [lock.take() for lock in locks] == [None, None]
        for lock in locks:
            lock.release()


def test_who_holds_it_is_told_with_its_host(postgresql, monkeypatch):
    monkeypatch.setattr("socket.gethostname", lambda: "radiology-1")
    first = node_lock(postgresql)
    assert first.take() is None
    assert node_lock(postgresql).take().endswith(" on radiology-1")
    first.release()


def test_it_is_taken_again_when_its_session_ended(postgresql):
    lock = node_lock(postgresql)
    assert lock.take() is None
    (before,) = holders(postgresql)
    end_session(postgresql, before)
    assert holders(postgresql) == []
    assert lock.take() is None
    (after,) = holders(postgresql)
    assert after != before
    lock.release()
    assert holders(postgresql) == []


def test_who_took_it_meanwhile_is_told(postgresql):
    first, second = node_lock(postgresql), node_lock(postgresql)
    assert first.take() is None
    end_session(postgresql, *holders(postgresql))
    assert second.take() is None
    assert first.take()
    second.release()


def test_a_session_that_lost_it_without_ending_takes_it_again(postgresql):
    lock = node_lock(postgresql)
    assert lock.take() is None
    # As a pooler does before it gives the session to somebody else.
    lock._connection.execute(text("SELECT pg_advisory_unlock_all()"))
    assert lock.take() is None
    assert len(holders(postgresql)) == 1
    lock.release()


def test_a_session_of_its_own_that_the_server_still_keeps_is_no_other_node(postgresql):
    lock = node_lock(postgresql)
    assert lock.take() is None
    (before,) = holders(postgresql)
    # The network between the two broke, and only this side was told.
    unknown_to_it, lock._connection = lock._connection, None
    assert lock.take() is None
    (after,) = holders(postgresql)
    assert after != before
    unknown_to_it.close()
    lock.release()


def test_it_is_taken_again_when_the_database_is_back(postgresql, postgresql_server):
    lock = node_lock(postgresql)
    assert lock.take() is None
    postgresql_server.stop()
    try:
        for _ in range(2):
            with pytest.raises(OperationalError):
                lock.take()
    finally:
        postgresql_server.start()
    assert lock.take() is None
    assert len(holders(postgresql)) == 1
    lock.release()


def test_it_is_released_without_a_word_where_the_session_is_gone(postgresql):
    lock = node_lock(postgresql)
    assert lock.take() is None
    end_session(postgresql, *holders(postgresql))
    lock.release()
    assert lock.take() is None
    lock.release()


def test_the_server_soon_notices_that_a_holder_is_gone(postgresql):
    lock = node_lock(postgresql)
    assert lock.take() is None
    shown = lock._connection.execute(
        text(
            "SELECT current_setting('tcp_keepalives_idle'),"
            " current_setting('tcp_keepalives_interval'), current_setting('tcp_keepalives_count')"
        )
    ).one()
    assert tuple(shown) == ("10", "5", "3")
    lock.release()
