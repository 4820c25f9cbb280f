"""The node with its database away: it receives, and catches up when the database is back."""

import pytest
from support.system import wait_until

from worker.db import schema
from worker.db.engine import Database
from worker.db.tables import Instance, Study
from worker.embedded.process import free_ports
from worker.errors import SchemaOutdatedError
from worker.lifecycle import StudyState
from worker.node import Node
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


def test_it_does_not_start_on_an_outdated_schema(tmp_path, valkey):
    settings = settings_for(tmp_path, f"sqlite:///{tmp_path / 'empty.db'}", valkey.url)
    with pytest.raises(SchemaOutdatedError, match="lungwatch db upgrade"):
        Node(settings)
