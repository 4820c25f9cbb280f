"""Fixtures of the integration tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian
from pynetdicom import AE, AllStoragePresentationContexts, _config, evt
from support.listening import AE_TITLE

from dicom_node.config import ListenerConfig
from dicom_node.receiving.listener import Listener
from dicom_node.receiving.spool import Spool
from worker.db import schema
from worker.db.engine import Database

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """Give an empty database of each kind, of the newest schema."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'lungwatch.db'}"
    else:
        url = request.getfixturevalue("postgresql_url")
    database = Database(url)
    schema.upgrade(database.engine)
    yield database
    database.close()


@pytest.fixture
def sqlite_database(tmp_path: Path) -> Iterator[Database]:
    """Give an empty SQLite database of the newest schema."""
    database = Database(f"sqlite:///{tmp_path / 'lungwatch.db'}")
    schema.upgrade(database.engine)
    yield database
    database.close()


@pytest.fixture(scope="session")
def series_files(data_dir: Path) -> list[Path]:
    """Give the files of a real series that is screened."""
    return sorted((data_dir / "series" / "lung_dx-A0001-s3").glob("*.dcm"))


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    spool = Spool(tmp_path / "spool")
    spool.prepare()
    return spool


@pytest.fixture
def start_listener(spool: Spool) -> Iterator[Callable[..., Listener]]:
    """Start a listener on a free port: call it with `ListenerConfig`'s keyword arguments."""
    started: list[Listener] = []

    def start(on_received: Callable[[], None] | None = None, **changes: object) -> Listener:
        settings = {
            "ae_title": AE_TITLE,
            "host": "127.0.0.1",
            "port": 0,
            "spool_dir": spool.root,
            "allowed_calling_ae_titles": frozenset({"STORESCU", "ORTHANC", "ECHOSCU"}),
            "minimum_free_bytes": 0,
        }
        listener = Listener(ListenerConfig(**settings | changes), spool, on_received)
        listener.start()
        started.append(listener)
        return listener

    yield start
    for listener in started:
        listener.stop(timeout=2)


@pytest.fixture
def listener(start_listener: Callable[..., Listener]) -> Listener:
    return start_listener()


@pytest.fixture
def raw_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Make a file whose data set part is any bytes; pynetdicom sends it without a look."""
    monkeypatch.setattr(_config, "STORE_SEND_CHUNKED_DATASET", True)

    def make(content: bytes, uid: str = "1.2.3.4") -> Path:
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.MediaStorageSOPClassUID = CTImageStorage
        dataset.file_meta.MediaStorageSOPInstanceUID = uid
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        path = tmp_path / f"{uid}.dcm"
        dataset.save_as(path, enforce_file_format=True)
        with path.open("ab") as file:
            file.write(content)
        return path

    return make


@pytest.fixture(scope="module")
def start_pacs() -> Iterator[Callable[[Callable[[evt.Event], int]], int]]:
    """Start a PACS named PACS: give what answers each C-STORE, get its port."""
    servers = []

    def start(on_store: Callable[[evt.Event], int]) -> int:
        ae = AE(ae_title="PACS")
        ae.supported_contexts = AllStoragePresentationContexts
        handlers = [(evt.EVT_C_STORE, on_store)]
        server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
        servers.append(server)
        return server.server_address[1]

    yield start
    for server in servers:
        server.shutdown()


@pytest.fixture(scope="module")
def storing_pacs(start_pacs: Callable[[Callable[[evt.Event], int]], int]) -> int:
    """Run a PACS that stores everything and keeps nothing; give its port."""
    return start_pacs(lambda _event: 0x0000)
