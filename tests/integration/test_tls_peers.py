"""DIMSE over TLS with DCMTK on the other side: its echoscu calls us, and we call its storescp."""

from __future__ import annotations

import ssl
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.certificates import Authority
from support.raw_association import connected, receive_pdu
from support.services import require

from dicom_node.config import DimseDestination, ListenerConfig
from dicom_node.errors import PeerNotReadyError, PeerUnavailableError
from dicom_node.peers import open_peer
from dicom_node.receiving.listener import Listener
from dicom_node.receiving.spool import Spool
from worker.doctor.check import Level
from worker.doctor.receiving import examine_listener, examine_senders, examine_tls
from worker.embedded.process import ServiceProcess, free_ports
from worker.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dicom_node.tls import TlsFiles


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def ours(authority: Authority) -> TlsFiles:
    return authority.issue("node", alternative="IP:127.0.0.1")


@pytest.fixture(scope="module")
def theirs(authority: Authority) -> TlsFiles:
    return authority.issue("pacs", alternative="DNS:pacs.example")


@pytest.fixture
def listener(tmp_path: Path, ours: TlsFiles) -> Iterator[Listener]:
    spool = Spool(tmp_path / "spool")
    config = ListenerConfig(
        ae_title="LUNGWATCH",
        host="127.0.0.1",
        port=0,
        spool_dir=spool.root,
        allowed_calling_ae_titles=frozenset({"PACS@127.0.0.1#pacs.example"}),
        tls=ours,
        minimum_free_bytes=0,
    )
    listener = Listener(config, spool)
    listener.start()
    yield listener
    listener.stop(timeout=1)


def echoscu(port: int, *options: str | Path) -> int:
    command = [require("echoscu", "dcmtk"), "-aet", "PACS", "-aec", "LUNGWATCH", *options]
    return subprocess.run(
        [*command, "127.0.0.1", str(port)], capture_output=True, check=False
    ).returncode


def tls_options(files: TlsFiles) -> list[str | Path]:
    return ["+tls", files.key, files.certificate, "+cf", files.authorities]


def test_dcmtk_calls_us_by_each_of_its_profiles(
    listener: Listener, theirs: TlsFiles, authority: Authority
) -> None:
    for profile in ("--profile-bcp195", "--profile-bcp195-nd", "--profile-bcp195-ex"):
        assert echoscu(listener.port, *tls_options(theirs), profile) == 0
    assert echoscu(listener.port) != 0
    assert echoscu(listener.port, *tls_options(authority.issue("impostor"))) != 0


def test_tls_1_1_is_not_negotiated(listener: Listener, theirs: TlsFiles) -> None:
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.load_verify_locations(theirs.authorities)
    old.load_cert_chain(theirs.certificate, theirs.key)
    old.set_ciphers("DEFAULT:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with (
        pytest.raises(ssl.SSLError, match=r"(?i)protocol"),
        connected(listener.port, tls=old) as connection,
    ):
        receive_pdu(connection)


@pytest.fixture
def storescp(tmp_path: Path, theirs: TlsFiles) -> Iterator[int]:
    (port,) = free_ports(1)
    command = [require("storescp", "dcmtk"), *tls_options(theirs), "-rc", "-od", tmp_path]
    listening = f":{port:04X} 00000000:0000 0A"
    sockets = Path("/proc/net/tcp")
    with ServiceProcess("storescp", tmp_path / "storescp.log") as service:
        service.start([*command, str(port)], lambda: listening in sockets.read_text())
        yield port


def test_we_call_dcmtk_and_see_who_answers(
    storescp: int, ours: TlsFiles, tmp_path_factory: pytest.TempPathFactory
) -> None:
    destination = DimseDestination(
        name="pacs",
        ae_title="PACS",
        host="127.0.0.1",
        port=storescp,
        calling_ae_title="LUNGWATCH",
        tls=ours,
        server_name="pacs.example",
    )
    open_peer(destination).echo()
    other = Authority(tmp_path_factory.mktemp("another")).issue("node")
    # Once; `echo` would try again within seconds.
    for changes in ({"server_name": "another.example"}, {"tls": other}, {"tls": None}):
        with pytest.raises(PeerUnavailableError, match="could not be reached"):
            open_peer(replace(destination, **changes))._echo()


def test_a_key_that_is_gone_is_said_and_not_tried_again(
    storescp: int, authority: Authority
) -> None:
    files = authority.issue("short-lived")
    destination = DimseDestination(
        name="pacs",
        ae_title="PACS",
        host="127.0.0.1",
        port=storescp,
        calling_ae_title="LUNGWATCH",
        tls=files,
    )
    files.key.unlink()
    with pytest.raises(PeerNotReadyError, match=r"short-lived\.key cannot be read"):
        open_peer(destination).echo()


def test_the_doctor_knows_our_listener_by_its_certificate(
    listener: Listener, ours: TlsFiles, theirs: TlsFiles, tmp_path: Path
) -> None:
    settings = {
        "data_dir": tmp_path / "data",
        "listen_host": "127.0.0.1",
        "listen_port": listener.port,
        "allowed_calling_ae_titles": "PACS@127.0.0.1#pacs.example",
        "tls_certificate": ours.certificate,
        "tls_key": ours.key,
        "tls_authorities": ours.authorities,
    }
    (senders,) = examine_senders(load_settings(**settings))
    assert senders.level is Level.OK
    (tls,) = examine_tls(load_settings(**settings))
    assert (tls.level, tls.message[:26]) == (Level.WARN, "our certificate expires on")
    (answers,) = examine_listener(load_settings(**settings))
    assert answers.message.startswith("what answers has our certificate")

    settings |= {"tls_certificate": theirs.certificate, "tls_key": theirs.key}
    (answers,) = examine_listener(load_settings(**settings))
    assert answers.level is Level.FAIL
    settings |= {"tls_key": ours.key}
    (tls,) = examine_tls(load_settings(**settings))
    assert "does not open the certificate" in tls.message
