"""compose.yaml, Dockerfile and the archive's configuration agree with the settings."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from worker.cli.main import app
from worker.destinations import parse_destinations
from worker.embedded.orthanc import route_stable_studies_lua
from worker.settings import PREFIX, Settings

_REPOSITORY = Path(__file__).resolve().parents[2]
_COMPOSE = _REPOSITORY / "compose.yaml"
_REFERENCE = re.compile(r"\$\{(?P<name>\w+)(?:(?P<operator>:[?-])(?P<rest>[^}]*))?\}")
_OURS = ("migrate", "node", "worker", "worker-gpu", "trainer", "trainer-gpu")
# By compose.yaml; the GPUs are those of one service alone.
_DECIDED = {
    f"{PREFIX}{name}"
    for name in (
        "DATA_DIR",
        "DATABASE_URL",
        "BROKER_URL",
        "AE_TITLE",
        "LISTEN_HOST",
        "LISTEN_PORT",
        "GPUS",
    )
}
_SECRETS = ("POSTGRES_PASSWORD", "REDIS_PASSWORD", "ORTHANC_PASSWORD")


def _interpolate(text: str) -> str:
    """As compose does with the example's secrets filled in and nothing else set."""

    def value(match: re.Match[str]) -> str:
        return "secret" if match["operator"] == ":?" else match["rest"]

    return _REFERENCE.sub(value, text)


def _load(text: str) -> dict[str, Any]:
    return yaml.safe_load(text)


@pytest.fixture(scope="module")
def text() -> str:
    return _COMPOSE.read_text()


@pytest.fixture(scope="module")
def compose(text: str) -> dict[str, Any]:
    return _load(_interpolate(text))


@pytest.fixture(scope="module")
def services(compose: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return compose["services"]


@pytest.fixture(scope="module")
def orthanc() -> dict[str, Any]:
    return json.loads((_REPOSITORY / "docker/orthanc/orthanc.json").read_text())


@pytest.fixture
def settings(services: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name, value in services["node"]["environment"].items():
        monkeypatch.setenv(name, value)
    return Settings()


def _container_ports(service: dict[str, Any]) -> list[int]:
    return [int(entry.rsplit(":", 1)[1]) for entry in service.get("ports", [])]


def _lungwatch_variables() -> set[str]:
    files = ("compose.yaml", "Dockerfile", "docker/example.env")
    text = "".join((_REPOSITORY / name).read_text() for name in files)
    return set(re.findall(rf"{PREFIX}[A-Z_]+", text)) - {f"{PREFIX}PUBLISHED_PORT"}


def test_every_variable_is_a_setting() -> None:
    known = {PREFIX + field.upper() for field in Settings.model_fields}
    assert _lungwatch_variables() <= known


def test_every_setting_reaches_the_containers(text: str) -> None:
    """Each is passed through under its own name, or decided by compose itself."""
    environment = _load(text)["services"]["node"]["environment"]
    passed = {
        name
        for name, value in environment.items()
        if re.fullmatch(rf"\$\{{{name}:-[^}}]*\}}", value)
    }
    fields = {PREFIX + field.upper() for field in Settings.model_fields}
    assert passed == fields - _DECIDED
    assert set(environment) == fields - {f"{PREFIX}GPUS"}


def test_our_services_share_one_environment(services: dict[str, Any]) -> None:
    common = services["node"]["environment"]
    for name in _OURS:
        assert common.items() <= services[name]["environment"].items()
    for name in ("worker-gpu", "trainer-gpu"):
        assert set(services[name]["environment"]) - set(common) == {f"{PREFIX}GPUS"}


def test_ports_agree(services: dict[str, Any], settings: Settings, orthanc: dict[str, Any]) -> None:
    dockerfile = (_REPOSITORY / "Dockerfile").read_text()
    assert _container_ports(services["node"]) == [settings.listen_port]
    assert f"EXPOSE {settings.listen_port}\n" in dockerfile
    assert str(settings.listen_port) in services["node"]["healthcheck"]["test"][-1]
    assert _container_ports(services["orthanc"]) == [orthanc["DicomPort"]]
    nginx = (_REPOSITORY / "docker/ohif/nginx.conf").read_text()
    (viewer_port,) = _container_ports(services["viewer"])
    assert f"listen {viewer_port};" in nginx
    assert f"EXPOSE {viewer_port}\n" in dockerfile
    assert f"http://orthanc:{orthanc['HttpPort']};" in nginx


def test_database_and_broker_are_the_services(services: dict[str, Any], settings: Settings) -> None:
    postgres = services["postgres"]["environment"]
    user, password, name = (postgres[f"POSTGRES_{key}"] for key in ("USER", "PASSWORD", "DB"))
    expected = f"postgresql+psycopg://{user}:{password}@postgres:5432/{name}"
    assert settings.resolved_database_url == expected
    password = services["redis"]["environment"]["REDISCLI_AUTH"]
    assert settings.required_broker_url == f"redis://:{password}@redis:6379/0"
    assert f"--requirepass {password}" in " ".join(services["redis"]["command"])


def test_broker_keeps_what_it_is_given(services: dict[str, Any]) -> None:
    command = " ".join(services["redis"]["command"])
    for option in ("appendonly yes", "appendfsync everysec", "maxmemory-policy noeviction"):
        assert f"--{option}" in command


def test_node_and_archive_know_each_other(settings: Settings, orthanc: dict[str, Any]) -> None:
    node = orthanc["DicomModalities"]["lungwatch"]
    assert (node["AET"], node["Host"], node["Port"]) == (
        settings.ae_title,
        "node",
        settings.listen_port,
    )
    (destination,) = parse_destinations(settings)
    assert (destination.ae_title, destination.host, destination.port) == (
        orthanc["DicomAet"],
        "orthanc",
        orthanc["DicomPort"],
    )
    assert settings.allowed_calling_ae_titles == (orthanc["DicomAet"],)


def test_archive_routes_as_the_demonstration_does(orthanc: dict[str, Any]) -> None:
    (script,) = (Path(path).name for path in orthanc["LuaScripts"])
    lua = (_REPOSITORY / "docker/orthanc" / script).read_text()
    assert lua.endswith(route_stable_studies_lua("lungwatch"))


def test_no_secret_has_a_default(text: str, orthanc: dict[str, Any]) -> None:
    references = [match for match in _REFERENCE.finditer(text) if "PASSWORD" in match["name"]]
    assert {match["name"] for match in references} == set(_SECRETS)
    assert all(match["operator"] == ":?" for match in references)
    example = (_REPOSITORY / "docker/example.env").read_text()
    for secret in _SECRETS:
        assert f"\n{secret}=\n" in example
    assert list(orthanc["RegisteredUsers"].values()) == ["${ORTHANC_PASSWORD}"]
    assert orthanc["AuthenticationEnabled"] is True


def test_no_secret_is_written_out(text: str) -> None:
    secret_lines = [line for line in text.splitlines() if re.search("PASS|AUTH|://", line)]
    written_out = [
        line
        for line in secret_lines
        if not line.lstrip().startswith("#") and not _REFERENCE.search(line)
    ]
    assert written_out == []


def test_dependencies_exist_and_can_be_met(services: dict[str, Any]) -> None:
    for name, service in services.items():
        for other, how in service.get("depends_on", {}).items():
            condition = how["condition"]
            assert other in services, f"{name} depends on {other}"
            if condition == "service_healthy":
                assert "healthcheck" in services[other], f"{name} waits for the health of {other}"
            if condition == "service_completed_successfully":
                assert services[other]["restart"].startswith("on-failure")


def test_volumes_are_declared_and_used(compose: dict[str, Any], settings: Settings) -> None:
    mounts = {
        name: [entry.split(":") for entry in service.get("volumes", [])]
        for name, service in compose["services"].items()
    }
    named = {
        source for entries in mounts.values() for source, *_ in entries if source[0] not in "./"
    }
    assert named == set(compose["volumes"])
    for name in _OURS:
        assert mounts[name] == [["data", str(settings.data_dir)]]
    bound = [source for source, *_ in mounts["orthanc"] if source[0] == "."]
    assert bound
    assert all((_REPOSITORY / source).exists() for source in bound)


def test_every_lasting_service_restarts_stops_in_time_and_tells_its_health(
    services: dict[str, Any],
) -> None:
    for name in services.keys() - {"migrate"}:
        assert services[name]["restart"] == "unless-stopped", name
        assert "healthcheck" in services[name], name
        assert "stop_grace_period" in services[name], name


def test_commands_exist(services: dict[str, Any]) -> None:
    for name in _OURS:
        command: Any = get_command(app)
        for word in services[name]["command"]:
            command = command.commands[word]


def test_images_are_pinned_and_targets_exist(services: dict[str, Any]) -> None:
    dockerfile = (_REPOSITORY / "Dockerfile").read_text()
    stages = set(re.findall(r"^FROM \S+ AS (\S+)$", dockerfile, re.MULTILINE))
    for name, service in services.items():
        assert re.search(r":(?!latest)\S+$", service["image"]), name
        if "build" in service:
            assert service["build"]["target"] in stages, name
    assert all(
        ":" in base or base in stages
        for base in re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)
    )


def test_dockerfile_copies_only_what_exists_and_is_not_ignored() -> None:
    dockerfile = (_REPOSITORY / "Dockerfile").read_text()
    ignore = (_REPOSITORY / ".dockerignore").read_text().splitlines()
    kept = {line[1:] for line in ignore if line.startswith("!")}
    for line in re.findall(r"^COPY (?!--from)(.+)$", dockerfile, re.MULTILINE):
        for source in line.split()[:-1]:
            assert (_REPOSITORY / source).exists(), source
            assert any(Path(source).is_relative_to(each) for each in kept), source


def test_image_does_not_run_as_root() -> None:
    dockerfile = (_REPOSITORY / "Dockerfile").read_text()
    base = dockerfile.split(" AS base\n")[1].split("\nFROM ")[0]
    assert "\nUSER lungwatch\n" in base


def test_docker_compose_accepts_it(tmp_path: Path) -> None:
    docker = shutil.which("docker")
    plugin = docker and subprocess.run(
        [docker, "compose", "version"], capture_output=True, check=False
    )
    if not plugin or plugin.returncode:
        pytest.skip("docker compose is not installed")
    environment = tmp_path / "env"
    environment.write_text("".join(f"{secret}=secret\n" for secret in _SECRETS))
    command = [docker, "compose", "--file", str(_COMPOSE), "--profile", "gpu"]
    for arguments, code in (
        (["--env-file", str(environment), "config", "--quiet"], 0),
        (["--env-file", "/dev/null", "config", "--quiet"], 1),
    ):
        done = subprocess.run([*command, *arguments], capture_output=True, check=False)
        assert (done.returncode != 0) == bool(code), done.stderr
