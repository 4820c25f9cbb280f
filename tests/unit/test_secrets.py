"""Secrets come from files, are never placeholders, and no message shows them."""

import tempfile
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from worker.errors import SettingsError
from worker.setting_groups.secrets import exposed_secret_files
from worker.settings import load_settings, secret_variables

_DATABASE = "postgresql+psycopg://lungwatch@db:5432/lungwatch"
_REAL = "kj3h4@/#:;%k"


def _file(folder: Path, content: bytes = b"s3cr3t-9") -> str:
    path = folder / "secret.txt"
    path.write_bytes(content)
    path.chmod(0o600)
    return str(path)


def test_every_secret_can_come_from_a_file(monkeypatch, tmp_path):
    assert set(secret_variables()) >= {
        "database_url",
        "database_password",
        "broker_url",
        "broker_password",
        "destinations",
    }
    values = {
        "destinations": "dimse://PACS@pacs:104,stow+https://me:s3cr3t-9@web/dicom-web",
        "database_url": "postgresql+psycopg://lungwatch:s3cr3t-9@db/lungwatch",
        "broker_url": "redis://:s3cr3t-9@broker:6379/0",
    }
    for name, value in values.items():
        path = tmp_path / name
        path.write_text(f"{value}\n")
        monkeypatch.setenv(f"LUNGWATCH_{name.upper()}_FILE", str(path))
    settings = load_settings()
    assert settings.destinations == tuple(values["destinations"].split(","))
    assert settings.resolved_database_url == values["database_url"]
    assert settings.required_broker_url == values["broker_url"]
    assert "s3cr3t-9" not in repr(settings)
    assert "s3cr3t-9" not in str(settings.model_dump(exclude={"destinations"}))


def test_a_password_of_its_own_is_put_into_its_url(monkeypatch, tmp_path):
    monkeypatch.setenv("LUNGWATCH_DATABASE_PASSWORD_FILE", _file(tmp_path, _REAL.encode()))
    settings = load_settings(
        database_url=_DATABASE, broker_url="rediss://broker:6379/0?a=b", broker_password=_REAL
    )
    database = make_url(settings.resolved_database_url)
    assert (database.password, database.username, database.host) == (_REAL, "lungwatch", "db")
    assert settings.required_broker_url.endswith("@broker:6379/0?a=b")
    assert settings.required_broker_url.startswith("rediss://:kj3h4%40%2F")


def test_what_is_set_for_a_command_wins_over_a_file_of_the_service(monkeypatch, tmp_path):
    monkeypatch.setenv("LUNGWATCH_DATABASE_URL_FILE", str(tmp_path / "not there"))
    assert load_settings(database_url=_DATABASE).resolved_database_url == _DATABASE


@pytest.mark.parametrize("content", [None, b"", b"\n", b"\xff\xfe", b"a\0b", b"x" * 70_000])
def test_a_file_without_a_secret_is_named(monkeypatch, tmp_path, content):
    path = tmp_path / "absent" if content is None else Path(_file(tmp_path, content))
    monkeypatch.setenv("LUNGWATCH_BROKER_PASSWORD_FILE", str(path))
    with pytest.raises(SettingsError) as error:
        load_settings(broker_url="redis://broker/0")
    assert str(error.value).startswith(f"LUNGWATCH_BROKER_PASSWORD_FILE names {path}")


def test_a_secret_given_twice_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("LUNGWATCH_DESTINATIONS_FILE", _file(tmp_path))
    monkeypatch.setenv("LUNGWATCH_DESTINATIONS", "dimse://PACS@pacs:104")
    with pytest.raises(SettingsError, match=r"LUNGWATCH_DESTINATIONS_FILE are both set"):
        load_settings()
    monkeypatch.delenv("LUNGWATCH_DESTINATIONS_FILE")
    with pytest.raises(SettingsError, match=r"BROKER_URL and LUNGWATCH_BROKER_PASSWORD both"):
        load_settings(broker_url="redis://:s3cr3t-9@broker", broker_password=_REAL)
    with pytest.raises(SettingsError, match=r"DATABASE_PASSWORD is set without"):
        load_settings(database_password=_REAL)


@pytest.mark.parametrize(
    "password",
    [
        "changeme",
        "Change-Me",
        "PASSWORD",
        "password",
        "secret",
        "example",
        "<password>",
        "${POSTGRES_PASSWORD}",
        "$PASSWORD",
        "****",
        "xxx",
        "your_password",
        "",
    ],
)
def test_a_placeholder_stops_the_start(password):
    quoted = password.translate({ord(c): f"%{ord(c):02X}" for c in "<>{}$*"})
    for variable, settings in (
        ("DATABASE_URL", {"database_url": f"postgresql+psycopg://u:{quoted}@db/lungwatch"}),
        ("DATABASE_PASSWORD", {"database_url": _DATABASE, "database_password": password}),
        ("BROKER_URL", {"broker_url": f"redis://:{quoted}@broker:6379/0"}),
        ("DESTINATIONS", {"destinations": f"stow+https://user:{quoted}@web/dicom-web"}),
        ("DESTINATIONS", {"destinations": f"stow+https://web/dicom-web?token={quoted}"}),
    ):
        with pytest.raises(SettingsError) as error:
            load_settings(**settings)
        message = str(error.value)
        assert message.startswith(f"LUNGWATCH_{variable} holds "), message
        assert f"LUNGWATCH_{variable}_FILE" in message


@pytest.mark.parametrize(
    "settings",
    [
        {"database_url": "postgresql+psycopg://u:s3cr/3t-9@db/lungwatch"},
        {"database_url": "s3cr3t-9"},
        {"broker_url": "redis://:s3cr/3t-9@broker:6379/0"},
        {"broker_url": "redis://:s3cr3t-9@[broker"},
        {"destinations": "stow+https://me:s3cr/3t-9@web/dicom-web"},
        {"destinations": 17},
    ],
)
def test_a_url_that_is_none_is_refused_without_being_shown(settings):
    from worker.delivery.destinations import parse_destinations

    with pytest.raises(SettingsError) as error:
        parse_destinations(load_settings(**settings))
    assert "s3cr" not in str(error.value)
    assert "3t-9" not in str(error.value)
    assert "17" not in str(error.value)


def test_brokers_behind_sentinels_are_urls():
    url = "sentinel://:s3cr3t-9@one:26379;sentinel://:s3cr3t-9@two:26379"
    assert load_settings(broker_url=url).required_broker_url == url


def test_only_a_file_that_others_can_reach_is_exposed(monkeypatch):
    # pytest's own folders are closed to others.
    with tempfile.TemporaryDirectory(prefix="lungwatch-secrets-") as name:
        folder = Path(name)
        path = Path(_file(folder))
        monkeypatch.setenv("LUNGWATCH_DATABASE_PASSWORD_FILE", str(path))
        for file_mode, folder_mode, exposed in (
            (0o600, 0o755, []),
            (0o640, 0o755, []),
            (0o644, 0o700, []),
            (0o644, 0o755, [("LUNGWATCH_DATABASE_PASSWORD_FILE", path)]),
        ):
            path.chmod(file_mode)
            folder.chmod(folder_mode)
            assert list(exposed_secret_files(["LUNGWATCH_DATABASE_PASSWORD"])) == exposed
