"""The archive of compose.yaml starts with its configuration and lets nobody in without password."""

from __future__ import annotations

import base64
import http.client
import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from worker.embedded.process import ServiceProcess, free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator

_CONFIGURATION = Path(__file__).resolve().parents[2] / "docker/orthanc/orthanc.json"
_PASSWORD = "f00dcafe"  # noqa: S105 - of this test alone


def _status(port: int, path: str, password: str | None = None) -> int:
    headers = {}
    if password is not None:
        token = base64.b64encode(f"lungwatch:{password}".encode()).decode()
        headers["Authorization"] = f"Basic {token}"
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path, headers=headers)
        return connection.getresponse().status
    finally:
        connection.close()


def _answers(port: int) -> bool:
    try:
        return _status(port, "/system", _PASSWORD) == http.HTTPStatus.OK
    except OSError:
        return False


@pytest.fixture
def archive_port(require_orthanc: Path, tmp_path: Path) -> Iterator[int]:
    """HTTP port of Orthanc with the shipped configuration, but for ports and folders."""
    dicom_port, http_port = free_ports(2)
    configuration = json.loads(_CONFIGURATION.read_text())
    configuration |= {
        "StorageDirectory": str(tmp_path),
        "IndexDirectory": str(tmp_path),
        "Plugins": ["/usr/share/orthanc/plugins"],
        "LuaScripts": [str(_CONFIGURATION.with_name(Path(configuration["LuaScripts"][0]).name))],
        "DicomPort": dicom_port,
        "HttpPort": http_port,
    }
    path = tmp_path / "orthanc.json"
    path.write_text(json.dumps(configuration))
    with ServiceProcess("Orthanc", tmp_path / "orthanc.log") as service:
        service.start(
            [require_orthanc, path],
            lambda: _answers(http_port),
            environment={"ORTHANC_PASSWORD": _PASSWORD},
        )
        yield http_port
        service.kill()


def test_only_the_password_opens_the_archive(archive_port: int) -> None:
    for path in ("/system", "/dicom-web/studies"):
        assert _status(archive_port, path) == http.HTTPStatus.UNAUTHORIZED
        assert _status(archive_port, path, "${ORTHANC_PASSWORD}") == http.HTTPStatus.UNAUTHORIZED
        assert _status(archive_port, path, _PASSWORD) == http.HTTPStatus.OK
