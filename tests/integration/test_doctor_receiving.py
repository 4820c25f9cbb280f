"""The doctor on who may send, TLS and the listener; and the settings of TLS."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.certificates import Authority

from dicom_node.receiving.listener import Listener
from dicom_node.receiving.spool import Spool
from worker import bootstrap
from worker.doctor.check import Level
from worker.doctor.receiving import examine_listener, examine_senders, examine_tls
from worker.embedded.process import free_ports
from worker.errors import SettingsError
from worker.settings import load_settings

if TYPE_CHECKING:
    from pathlib import Path

    from dicom_node.tls import TlsFiles


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    return Authority(tmp_path_factory.mktemp("authority")).issue("node", days=400)


def tls_settings(files: TlsFiles) -> dict[str, Path]:
    return {
        "tls_certificate": files.certificate,
        "tls_key": files.key,
        "tls_authorities": files.authorities,
    }


@pytest.mark.parametrize(
    ("entries", "level", "words"),
    [
        ("", Level.FAIL, "nobody"),
        ("CT1@pacs", Level.FAIL, "no address"),
        ("*", Level.WARN, "everybody"),
        ("CT1@10.0.0.1,CT2", Level.WARN, "any address: CT2"),
        ("CT1@10.0.0.1,*@10.1.0.0/16", Level.OK, "CT1 at 10.0.0.1/32, * at 10.1.0.0/16"),
    ],
)
def test_senders(entries: str, level: Level, words: str) -> None:
    (check,) = examine_senders(load_settings(allowed_calling_ae_titles=entries))
    assert check.level is level
    assert words in check.message
    assert bool(check.remedy) == (level is not Level.OK)


def test_tls(files: TlsFiles, tmp_path: Path) -> None:
    def levels(**settings: object) -> list[Level]:
        return [check.level for check in examine_tls(load_settings(**settings))]

    ours = tls_settings(files)
    assert levels() == [Level.WARN]
    bound = {"allowed_calling_ae_titles": "CT1@10.0.0.1#ct1"}
    assert levels(**ours, **bound) == [Level.OK]
    assert levels(**ours, allowed_calling_ae_titles="CT1@10.0.0.1") == [Level.OK, Level.WARN]
    assert levels(**ours, **bound, listen_unencrypted=True) == [Level.OK, Level.WARN]
    expired = Authority(tmp_path / "old").issue("node", days=-1)
    assert levels(**tls_settings(expired), **bound) == [Level.FAIL]


@pytest.mark.parametrize(
    ("senders", "words"),
    [
        ("CT1@192.0.2.1,CT2@127.0.0.1", "LUNGWATCH answers C-ECHO"),
        ("*@127.0.0.0/8", "LUNGWATCH answers C-ECHO"),
        ("CT1@192.0.2.1", "lets nobody call from this machine"),
    ],
)
def test_the_listener_is_asked_as_one_who_may_send(
    senders: str, words: str, tmp_path: Path
) -> None:
    settings = load_settings(
        allowed_calling_ae_titles=senders,
        listen_host="127.0.0.1",
        listen_port=free_ports(1)[0],
        data_dir=tmp_path,
    )
    listener = Listener(bootstrap.listener_config(settings), Spool(settings.spool_dir))
    listener.start()
    try:
        (check,) = examine_listener(settings)
    finally:
        listener.stop(timeout=1)
    assert check.level is Level.OK
    assert words in check.message


def test_the_three_files_belong_together(files: TlsFiles) -> None:
    settings = {"allowed_calling_ae_titles": "CT1#ct1"} | tls_settings(files)
    assert bootstrap.listener_config(load_settings(**settings)).tls == files
    for name in tls_settings(files):
        with pytest.raises(SettingsError, match=f"LUNGWATCH_{name.upper()} is not set"):
            bootstrap.listener_config(load_settings(**settings | {name: None}))


def test_destinations_with_tls(files: TlsFiles) -> None:
    entry = "dimse+tls://PACS@10.0.0.9:2762?server_name=pacs.example#archive"
    settings = load_settings(destinations=entry, **tls_settings(files))
    (destination,) = bootstrap.destinations(settings)
    assert destination.tls == files
    assert (destination.name, destination.server_name) == ("archive", "pacs.example")
    with pytest.raises(SettingsError, match="LUNGWATCH_TLS_CERTIFICATE"):
        bootstrap.destinations(load_settings(destinations=entry))
    with pytest.raises(SettingsError, match="server_name is no option"):
        bootstrap.destinations(
            load_settings(destinations="dimse://PACS@10.0.0.9:104?server_name=x")
        )


def test_a_listener_without_tls_beside_destinations_with_it(files: TlsFiles) -> None:
    settings = load_settings(
        allowed_calling_ae_titles="CT1", listen_unencrypted=True, **tls_settings(files)
    )
    assert bootstrap.listener_config(settings).tls is None
