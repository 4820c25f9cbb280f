"""Settings: what is wrong is named in one sentence, and no secret is shown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.config import CommitmentMethod, DicomWebDestination, DimseDestination
from worker import bootstrap
from worker.delivery.destinations import parse_destinations
from worker.errors import SettingsError
from worker.services.fleet import worker_environments
from worker.settings import load_settings


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("LUNGWATCH_LISTEN_PORT", "70000"),
        ("LUNGWATCH_AE_TITLE", "LONGER_THAN_SIXTEEN"),
        ("LUNGWATCH_SETTLE_SECONDS", "soon"),
        ("LUNGWATCH_OPERATING_POINT", "1.5"),
        ("LUNGWATCH_UID_ROOT", "1.2.3"),
        ("LUNGWATCH_LOG_FORMAT", "xml"),
        ("LUNGWATCH_TIMEZONE", "Middle/Earth"),
        ("LUNGWATCH_INSTITUTION_NAME", "One\\Two"),
    ],
)
def test_a_wrong_setting_is_named_in_one_sentence(monkeypatch, variable, value):
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as error:
        load_settings()
    assert str(error.value).startswith(f"{variable} is wrong")
    assert "\n" not in str(error.value)


def test_an_empty_variable_counts_as_unset(monkeypatch):
    monkeypatch.setenv("LUNGWATCH_LISTEN_PORT", "")
    assert load_settings().listen_port == 11112


def test_a_missing_broker_is_named_with_the_way_out():
    with pytest.raises(SettingsError, match=r"LUNGWATCH_BROKER_URL.*lungwatch up"):
        _ = load_settings().required_broker_url


def test_nobody_allowed_to_send_stops_the_start():
    with pytest.raises(SettingsError, match="LUNGWATCH_ALLOWED_CALLING_AE_TITLES"):
        bootstrap.listener_config(load_settings())


def test_a_sender_that_cannot_be_read_is_told_with_its_variable():
    settings = load_settings(allowed_calling_ae_titles="CT@nowhere at all")
    with pytest.raises(SettingsError, match="LUNGWATCH_ALLOWED_CALLING_AE_TITLES has 'CT@nowhere"):
        bootstrap.listener_config(settings)


def test_destinations_of_both_kinds():
    settings = load_settings(
        ae_title="NODE",
        destinations="dimse://MAIN%20PACS@pacs:104, stow+https://me:s%40fe@web:8443/dicom-web#cloud",
    )
    dimse, web = parse_destinations(settings)
    assert isinstance(dimse, DimseDestination)
    assert (dimse.name, dimse.ae_title, dimse.host, dimse.port) == (
        "MAIN PACS",
        "MAIN PACS",
        "pacs",
        104,
    )
    assert dimse.calling_ae_title == "NODE"
    assert isinstance(web, DicomWebDestination)
    assert (web.name, web.url) == ("cloud", "https://web:8443/dicom-web")
    assert (web.username, web.password) == ("me", "s@fe")


@pytest.mark.parametrize(
    ("entry", "method"),
    [
        ("dimse://PACS@pacs:104", CommitmentMethod.QUERY),
        ("dimse://PACS@pacs:104?commitment=storage_commitment#a", "storage_commitment"),
        ("stow+https://web/dicom-web", CommitmentMethod.QUERY),
        ("stow+https://web/dicom-web?commitment=none", CommitmentMethod.NONE),
    ],
)
def test_how_a_destination_tells_that_it_keeps_a_result(entry, method):
    (destination,) = parse_destinations(load_settings(destinations=entry))
    assert destination.commitment == method


def test_a_dicomweb_destination_with_token_and_own_authority(tmp_path):
    bundle = tmp_path / "ca.pem"
    bundle.touch()
    (web,) = parse_destinations(
        load_settings(destinations=f"stow+https://web/dicom?token=T&ca_bundle={bundle}")
    )
    assert (web.token, web.ca_bundle, web.url) == ("T", bundle, "https://web/dicom")


@pytest.mark.parametrize(
    "entry",
    [
        "pacs:104",
        "dimse://pacs:104",
        "dimse://PACS@pacs",
        "dimse://PACS@pacs:port",
        "dimse://A_TITLE_FAR_TOO_LONG@pacs:104",
        "ftp://PACS@pacs:104",
        "stow+https://user@web/dicom-web",
        "stow+https://user:pa#ss@web/dicom-web",
        "stow+https://user:pa/ss@web/dicom-web",
        "stow+https://web/dicom-web?verify=no",
        "dimse://PACS@one:104,dimse://PACS@two:104",
        "dimse://PACS@pacs:104?commitment=maybe",
        "dimse://PACS@pacs:104?commitment",
        "stow+https://web/dicom-web?commitment=storage_commitment",
    ],
)
def test_a_wrong_destination_is_named(entry):
    with pytest.raises(SettingsError, match="LUNGWATCH_DESTINATIONS"):
        parse_destinations(load_settings(destinations=entry))


@given(st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126), max_size=40))
def test_no_destination_crashes_the_parser(entry):
    try:
        found = parse_destinations(load_settings(destinations=(entry,)))
    except SettingsError:
        return
    assert len(found) == 1


def test_a_password_is_in_no_message():
    for entry in ("stow+https://user:S3CR3T@/nowhere", "stow+https://user:pa#S3CR3T@web/x"):
        settings = load_settings(destinations=entry)
        with pytest.raises(SettingsError) as error:
            parse_destinations(settings)
        assert "S3CR3T" not in str(error.value)
        assert "S3CR3T" not in repr(settings)
    assert "S3CR3T" not in repr(load_settings(database_url="postgresql://u:S3CR3T@h/d"))


def test_each_gpu_gets_a_process_that_sees_it_alone():
    assert worker_environments(load_settings(gpus="0,2")) == [
        {"CUDA_VISIBLE_DEVICES": "0"},
        {"CUDA_VISIBLE_DEVICES": "2"},
    ]


def test_processes_on_a_cpu_share_its_cores():
    environments = worker_environments(load_settings(worker_processes=2))
    assert len(environments) == 2
    assert all(int(own["OMP_NUM_THREADS"]) >= 1 for own in environments)
    assert worker_environments(load_settings()) == [{}]
