"""A setting that cannot work stops the start with one sentence that names it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dicom_node.config import DicomWebDestination, DimseDestination, ListenerConfig
from dicom_node.errors import ConfigurationError
from dicom_node.reading.series import SelectionPolicy
from dicom_node.senders import Sender
from worker import bootstrap
from worker.settings import PREFIX, load_settings

LISTENER = {
    "ae_title": "LUNGWATCH",
    "host": "127.0.0.1",
    "port": 11112,
    "spool_dir": Path("/spool"),
    "allowed_calling_ae_titles": frozenset({"ORTHANC"}),
}
DIMSE = {
    "name": "pacs",
    "ae_title": "PACS",
    "host": "pacs",
    "port": 104,
    "calling_ae_title": "LUNGWATCH",
}
WEB = {"name": "web", "url": "https://pacs/dicom-web"}


def test_good_settings_are_taken() -> None:
    assert ListenerConfig(**LISTENER).senders == (Sender("ORTHANC"),)
    DimseDestination(**DIMSE)
    DicomWebDestination(**WEB, username="u", password="p")  # noqa: S106
    DicomWebDestination(**WEB, token="t")  # noqa: S106


def test_what_is_a_setting_has_the_settings_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in [name for name in os.environ if name.startswith(PREFIX)]:
        monkeypatch.delenv(variable)
    settings = load_settings(allowed_calling_ae_titles="ORTHANC", data_dir=Path("/data"))
    shared = LISTENER | {"host": settings.listen_host, "spool_dir": settings.spool_dir}

    assert bootstrap.listener_config(settings) == ListenerConfig(**shared)
    assert bootstrap.selection_policy(settings) == SelectionPolicy()


def test_the_star_serves_everybody() -> None:
    everybody = LISTENER | {"allowed_calling_ae_titles": frozenset({"*"})}
    (sender,) = ListenerConfig(**everybody).senders
    assert sender.is_anybody


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("ae_title", ""),
        ("ae_title", "SEVENTEEN-LETTERS"),
        ("ae_title", "BACK\\SLASH"),
        ("ae_title", "LÜNGE"),
        ("ae_title", " PADDED"),
        ("ae_title", "NEW\nLINE"),
        ("port", -1),
        ("port", 65536),
        ("allowed_calling_ae_titles", frozenset()),
        ("allowed_calling_ae_titles", frozenset({"TOO-LONG-BY-FAR-TITLE"})),
        ("minimum_free_bytes", -1),
        ("allowed_calling_ae_titles", frozenset({"CT@10.0.0.1/8"})),
        ("allowed_calling_ae_titles", frozenset({"CT@pacs"})),
        ("allowed_calling_ae_titles", frozenset({"CT#sha256:12"})),
        ("allowed_calling_ae_titles", frozenset({"CT#"})),
        ("allowed_calling_ae_titles", frozenset({"CT#ct.example"})),
        ("maximum_associations", 0),
        ("maximum_associations_per_address", 0),
        ("maximum_waiting", 0),
        ("maximum_instance_bytes", 0),
        ("maximum_pdu_size", 100),
        ("network_timeout", 0),
    ],
)
def test_listener_settings(setting: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match=setting) as caught:
        ListenerConfig(**LISTENER | {setting: value})
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("name", " "),
        ("ae_title", "SEVENTEEN-LETTERS"),
        ("calling_ae_title", ""),
        ("host", ""),
        ("port", 0),
        ("response_timeout", -1),
    ],
)
def test_dimse_settings(setting: str, value: object) -> None:
    with pytest.raises(ConfigurationError, match=setting):
        DimseDestination(**DIMSE | {setting: value})


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"url": "pacs/dicom-web"}, "url"),
        ({"url": "ftp://pacs"}, "url"),
        ({"url": "https://user:secret@pacs/dicom-web"}, "url must not hold credentials"),
        ({"username": "u"}, "username and password"),
        ({"password": "p"}, "username and password"),
        ({"username": "u", "password": "p", "token": "t"}, "not both"),
        ({"ca_bundle": Path("/no/such/file")}, "ca_bundle"),
        ({"connect_timeout": 0}, "connect_timeout"),
    ],
)
def test_dicomweb_settings(changes: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named) as caught:
        DicomWebDestination(**WEB | changes)
    assert "secret" not in str(caught.value)
