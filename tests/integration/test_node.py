"""The node with its database away, or beside another one on the same database."""

import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from threading import Event

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs
from support.command import environment
from support.system import wait_until

from worker.cli.exit_codes import ExitCode
from worker.db import schema
from worker.db.engine import Database
from worker.db.node_lock import _LOCK, node_lock
from worker.db.tables import AuditEvent, Instance, Study
from worker.embedded.process import free_ports
from worker.errors import AlreadyRunningError, SchemaOutdatedError, SettingsError
from worker.lifecycle import StudyState
from worker.services.node import Node
from worker.settings import load_settings


@pytest.fixture
def files(data_dir):
    return sorted((data_dir / "series" / "lung_dx-A0001-s3").glob("*.dcm"))[:8]


def settings_for(tmp_path, database_url, broker_url):
    (port,) = free_ports(1)
    return load_settings(
        data_dir=tmp_path,
        database_url=database_url,
        broker_url=broker_url,
        listen_host="127.0.0.1",
        listen_port=port,
        allowed_calling_ae_titles="STORESCU",
        minimum_free_mb=1,
        settle_seconds=1,
        sweep_seconds=0.2,
    )


@pytest.fixture
def stopped_database(postgresql_server):
    """A database that is up to date and away; gives its URL and the server to start again."""
    url = postgresql_server.create_database()
    database = Database(url)
    schema.upgrade(database.engine)
    database.close()
    postgresql_server.stop()
    yield url, postgresql_server
    if not postgresql_server.running:
        postgresql_server.start()


def test_it_receives_without_a_database_and_catches_up(
    tmp_path, stopped_database, valkey, storescu, files
):
    url, server = stopped_database
    settings = settings_for(tmp_path, url, valkey.url)
    node = Node(settings)
    node.start()
    try:
        storescu.send(*files, port=settings.listen_port, called="LUNGWATCH")
        assert len(list((settings.spool_dir / "inbox").iterdir())) == len(files)
        server.start()
        database = Database(url)

        def judged() -> bool:
            with database.reading() as session:
                study = session.query(Study).one_or_none()
                return study is not None and study.state is StudyState.REFUSED

        wait_until("the study is judged", judged, 60)
        with database.reading() as session:
            assert session.query(Instance).count() == len(files)
        database.close()
    finally:
        node.stop()


def test_a_second_node_does_not_start_beside_the_first(tmp_path, sqlite_database, valkey):
    settings = settings_for(tmp_path, f"sqlite:///{tmp_path / 'lungwatch.db'}", valkey.url)
    first = Node(settings)
    with pytest.raises(AlreadyRunningError, match=r"stop it first.*LUNGWATCH_DATA_DIR"):
        Node(settings)
    first.stop()
    Node(settings).stop()


def test_a_port_that_is_taken_is_told_with_its_variable(tmp_path, sqlite_database, valkey):
    settings = settings_for(tmp_path, f"sqlite:///{tmp_path / 'lungwatch.db'}", valkey.url)
    node = Node(settings)
    try:
        with (
            socket.create_server(("127.0.0.1", settings.listen_port)),
            pytest.raises(SettingsError, match=r"LUNGWATCH_LISTEN_PORT: .* End the program"),
        ):
            node.start()
    finally:
        node.stop()


def test_it_receives_and_stops_while_the_database_can_only_be_read(
    tmp_path, postgresql_url, valkey, storescu, files, monkeypatch
):
    monkeypatch.setattr("worker.services.node._WORK_PAUSE_SECONDS", 0.2)
    database = Database(postgresql_url)
    schema.upgrade(database.engine)
    settings = settings_for(tmp_path, postgresql_url, valkey.url)
    let_write(database, may=False)
    node = Node(settings)
    try:
        with capture_logs() as logs:
            node.start()
            storescu.send(*files, port=settings.listen_port, called="LUNGWATCH")
            wait_until("two starts have failed", lambda: str(logs).count("InternalError") > 1, 30)
        let_write(database, may=True)

        def recorded() -> bool:
            with database.reading() as session:
                return session.query(Instance).count() == len(files)

        wait_until("all instances are recorded", recorded, 30)
        with database.reading() as session:
            assert session.query(AuditEvent).filter_by(action="application_started").count() == 1
        let_write(database, may=False)
    finally:
        node.stop()
        database.close()


def let_write(database: Database, *, may: bool) -> None:
    """Let all who connect from now on write or only read, as on a standby; the others go."""
    read_only = "off" if may else "on"
    with database.engine.connect() as connection:
        connection.execute(text("SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE"))
        connection.commit()
        name = connection.execute(text("SELECT current_database()")).scalar()
        connection.execute(
            text(f"ALTER DATABASE {name} SET default_transaction_read_only = {read_only}")
        )
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )
        connection.commit()


def test_it_stops_before_any_loop_was_started(tmp_path, valkey):
    (port,) = free_ports(1)
    nobody = f"postgresql+psycopg://lungwatch@127.0.0.1:{port}/lungwatch"
    Node(settings_for(tmp_path, nobody, valkey.url)).stop()


def test_it_does_not_start_on_an_outdated_schema(tmp_path, valkey):
    settings = settings_for(tmp_path, f"sqlite:///{tmp_path / 'empty.db'}", valkey.url)
    with pytest.raises(SchemaOutdatedError, match="lungwatch db upgrade"):
        Node(settings)


# ---- two nodes on one database ------------------------------------------------------------------


@pytest.fixture
def shared_database(postgresql_url):
    with closing(Database(postgresql_url)) as database:
        schema.upgrade(database.engine)
        yield database


@pytest.fixture
def settings_of_hosts(tmp_path, shared_database, valkey, monkeypatch):
    """Settings of two hosts: a data folder for each, one database for both."""
    monkeypatch.setattr("worker.services.node._WORK_PAUSE_SECONDS", 0.2)
    url = shared_database.engine.url.render_as_string(hide_password=False)
    return [settings_for(tmp_path / host, url, valkey.url) for host in ("first", "second")]


def begun(database: Database) -> int:
    """How many nodes began their work on a database, and took over what is in flight."""
    with database.reading() as session:
        return session.query(AuditEvent).filter_by(action="application_started").count()


def holder_of_lock(database: Database) -> int | None:
    query = "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND objid = :lock"
    with database.reading() as session:
        return session.scalar(text(query), {"lock": _LOCK})


def end_holder_of_lock(database: Database) -> int:
    pid = holder_of_lock(database)
    with database.transaction() as session:
        session.execute(text("SELECT pg_terminate_backend(:pid)"), {"pid": pid})
    return pid


def test_a_node_of_another_host_waits_for_the_end_of_the_first(settings_of_hosts, shared_database):
    ours, theirs = settings_of_hosts
    first = Node(ours)
    try:
        with pytest.raises(AlreadyRunningError, match=r"lungwatch \w+ on .*stop it first"):
            Node(theirs)
        first.start()
        wait_until("the first works", lambda: begun(shared_database) == 1, 30)
        with pytest.raises(AlreadyRunningError, match="LUNGWATCH_DATABASE_URL"):
            Node(theirs)
    finally:
        first.stop()
    assert begun(shared_database) == 1
    second = Node(theirs)
    try:
        second.start()
        wait_until("the second works", lambda: begun(shared_database) == 2, 30)
    finally:
        second.stop()
    assert holder_of_lock(shared_database) is None


def test_two_data_folders_on_one_sqlite_database_are_told(tmp_path, sqlite_database, valkey):
    url = f"sqlite:///{tmp_path / 'lungwatch.db'}"
    first = Node(settings_for(tmp_path / "first", url, valkey.url))
    with pytest.raises(AlreadyRunningError, match=r"lungwatch\.db.*stop it first"):
        Node(settings_for(tmp_path / "second", url, valkey.url))
    first.stop()
    Node(settings_for(tmp_path / "second", url, valkey.url)).stop()


def test_a_node_whose_lock_was_lost_takes_it_again(settings_of_hosts, shared_database):
    ours, theirs = settings_of_hosts
    node = Node(ours)
    try:
        node.start()
        wait_until("it works", lambda: begun(shared_database) == 1, 30)
        before = end_holder_of_lock(shared_database)
        wait_until(
            "it holds the lock again",
            lambda: holder_of_lock(shared_database) not in {None, before},
            30,
        )
        with pytest.raises(AlreadyRunningError):
            Node(theirs)
        assert node.displaced is None
    finally:
        node.stop()
    assert begun(shared_database) == 1


def wait_for_lock(database: Database, release: Event) -> None:
    """Queue for the lock as nobody of ours does: whoever loses it cannot be first again."""
    with database.engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": _LOCK})
        release.wait(60)


def waits_for_lock(database: Database) -> bool:
    query = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    with database.reading() as session:
        return session.scalar(text(query)) == 1


def test_a_node_whose_database_another_one_took_stops_working(settings_of_hosts, shared_database):
    told, release = Event(), Event()
    node = Node(settings_of_hosts[0], told.set)
    with ThreadPoolExecutor(1) as others:
        try:
            node.start()
            wait_until("it works", lambda: begun(shared_database) == 1, 30)
            others.submit(wait_for_lock, shared_database, release)
            wait_until("another one waits", lambda: waits_for_lock(shared_database), 30)
            with capture_logs() as logs:
                end_holder_of_lock(shared_database)
                assert told.wait(30)
            assert "a node works with" in str(node.displaced)
            assert [line["event"] for line in logs].count("another_node") == 1
            for loop in node._loops:
                wait_until("its loops have ended", lambda loop=loop: not loop._thread.is_alive())
        finally:
            release.set()
            node.stop()


def test_its_process_ends_with_the_reason(settings_of_hosts, shared_database):
    settings = settings_of_hosts[0]
    given = {
        "data_dir": settings.data_dir,
        "database_url": settings.resolved_database_url,
        "broker_url": settings.required_broker_url,
        "listen_host": settings.listen_host,
        "listen_port": settings.listen_port,
        "allowed_calling_ae_titles": "STORESCU",
    }
    command = [sys.executable, "-m", "worker.cli.main", "node"]
    release = Event()
    process = subprocess.Popen(
        command, env=environment(given), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    with process, ThreadPoolExecutor(1) as others:
        try:
            wait_until("it works", lambda: begun(shared_database) == 1, 60)
            others.submit(wait_for_lock, shared_database, release)
            wait_until("another one waits", lambda: waits_for_lock(shared_database), 30)
            end_holder_of_lock(shared_database)
            _, said = process.communicate(timeout=90)
        finally:
            release.set()
            process.kill()
    assert process.returncode == ExitCode.STATE
    assert "lungwatch: a node works with postgresql" in said.splitlines()[-1]


def test_a_node_whose_database_comes_later_leaves_it_to_the_one_that_works(
    tmp_path, stopped_database, valkey
):
    url, server = stopped_database
    told = Event()
    node = Node(settings_for(tmp_path, url, valkey.url), told.set)
    node.start()
    try:
        server.start()
        with closing(Database(url)) as database:
            first = node_lock(database)
            # In time: a node takes no lock in the round in which it finds the database.
            assert first.take() is None
            assert told.wait(30)
            assert "stop it first" in str(node.displaced)
            assert begun(database) == 0
            first.release()
    finally:
        node.stop()
