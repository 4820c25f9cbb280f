"""The node with its database away: it receives, and catches up when the database is back."""

import socket

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs
from support.system import wait_until

from worker.db import schema
from worker.db.engine import Database
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
    monkeypatch.setattr("worker.services.node._START_PAUSE_SECONDS", 0.2)
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
