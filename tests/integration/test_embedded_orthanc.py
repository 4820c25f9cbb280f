"""The throw-away Orthanc takes, keeps and routes instances as a PACS does."""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING

import pytest
from pydicom import dcmread
from pydicom.uid import generate_uid
from support.services import require

from worker.embedded.errors import EmbeddedServiceError
from worker.embedded.orthanc import ThrowAwayOrthanc, route_stable_studies_lua
from worker.embedded.process import ServiceProcess, free_ports

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.storescu import Storescu

_SERIES = "series/lung_dx-A0001-s3"


def test_answers_echo(orthanc: ThrowAwayOrthanc) -> None:
    command = [require("echoscu", "dcmtk"), "-aec", orthanc.ae_title, "127.0.0.1"]
    subprocess.run([*command, str(orthanc.dicom_port)], check=True, timeout=30)


def test_returns_an_uploaded_instance_byte_for_byte(
    orthanc: ThrowAwayOrthanc, data_dir: Path
) -> None:
    path = data_dir / _SERIES / "1-01.dcm"
    instance = orthanc.upload(path)
    assert orthanc.download(instance) == path.read_bytes()
    assert orthanc.studies() == [str(dcmread(path, stop_before_pixels=True).StudyInstanceUID)]


def test_finds_instances_by_modality_and_study(orthanc: ThrowAwayOrthanc, data_dir: Path) -> None:
    ct = orthanc.upload(data_dir / _SERIES / "1-01.dcm")
    seg = orthanc.upload(data_dir / "odd/seg-sr-refs/seg.dcm")
    study = dcmread(data_dir / "odd/seg-sr-refs/seg.dcm", stop_before_pixels=True).StudyInstanceUID
    assert orthanc.instances() == sorted([ct, seg])
    assert orthanc.instances(modality="CT") == [ct]
    assert orthanc.instances(modality="SEG") == [seg]
    assert orthanc.instances(study_instance_uid=study) == [seg]
    assert orthanc.instances(modality="CT", study_instance_uid=study) == []


def test_serves_dicomweb(orthanc: ThrowAwayOrthanc, data_dir: Path) -> None:
    orthanc.upload(data_dir / _SERIES / "1-01.dcm")
    (study,) = orthanc.get("/dicom-web/studies")
    assert study["0020000D"]["Value"] == orthanc.studies()
    # Were "Host" configured, the port would be missing here.
    assert study["00081190"]["Value"][0].startswith(orthanc.dicomweb_url)


def test_receives_without_stalling(
    orthanc: ThrowAwayOrthanc, storescu: Storescu, data_dir: Path
) -> None:
    start = time.monotonic()
    storescu.send(data_dir / _SERIES, port=orthanc.dicom_port, called=orthanc.ae_title)
    seconds = time.monotonic() - start
    assert len(orthanc.instances()) == 64
    # 64 stalls of 40 ms alone would be 2.6 s.
    assert seconds < 2.5, f"64 instances took {seconds:.1f} s"


def test_routes_a_stable_study_to_a_node(
    start_orthanc: Callable[..., ThrowAwayOrthanc],
    storescu: Storescu,
    data_dir: Path,
    tmp_path: Path,
) -> None:
    (port,) = free_ports(1)
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    command = [require("storescp", "dcmtk"), "-aet", "NODE", "-od", inbox, "-v", str(port)]
    node = ServiceProcess("storescp", tmp_path / "storescp.log")
    with node:
        node.start(command, ready=lambda: True)
        orthanc = start_orthanc(
            modalities={"node": ("NODE", "127.0.0.1", port)},
            lua_script=route_stable_studies_lua("node"),
            settings={"StableAge": 1},
        )
        sent = sorted((data_dir / _SERIES).glob("1-0[1-3].dcm"))
        storescu.send(*sent, port=orthanc.dicom_port, called=orthanc.ae_title)
        deadline = time.monotonic() + 30
        while len(list(inbox.iterdir())) < len(sent):
            assert time.monotonic() < deadline, "nothing was routed"
            time.sleep(0.1)
    received = {dcmread(path, stop_before_pixels=True).SOPInstanceUID for path in inbox.iterdir()}
    assert received == {dcmread(path, stop_before_pixels=True).SOPInstanceUID for path in sent}


def test_keeps_its_storage_through_a_restart(orthanc: ThrowAwayOrthanc, data_dir: Path) -> None:
    instance = orthanc.upload(data_dir / _SERIES / "1-01.dcm")
    orthanc.stop()
    assert not orthanc.running
    orthanc.start()
    assert orthanc.instances() == [instance]


def test_refused_upload_says_why(orthanc: ThrowAwayOrthanc, tmp_path: Path) -> None:
    path = tmp_path / "text.dcm"
    path.write_text("not DICOM")
    with pytest.raises(EmbeddedServiceError, match="400"):
        orthanc.upload(path)
    with pytest.raises(EmbeddedServiceError, match="404"):
        orthanc.download(generate_uid())


def test_taken_port_is_reported_with_the_log(
    orthanc: ThrowAwayOrthanc, start_orthanc: Callable[..., ThrowAwayOrthanc]
) -> None:
    with pytest.raises(EmbeddedServiceError, match="Orthanc"):
        start_orthanc(dicom_port=orthanc.dicom_port)
