"""compose.yaml, Dockerfile and the archive's configuration agree with the settings."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import textwrap
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.services import skip_or_fail
from typer.main import get_command

from dicom_node.config import DicomWebDestination
from worker.cli.main import app
from worker.delivery.destinations import parse_destinations
from worker.embedded.orthanc import route_stable_studies_lua
from worker.embedded.process import ServiceProcess, free_ports
from worker.settings import PREFIX, Settings, load_settings, secret_variables

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
        "DATABASE_PASSWORD",
        "BROKER_URL",
        "BROKER_PASSWORD",
        "AE_TITLE",
        "LISTEN_HOST",
        "LISTEN_PORT",
        "GPUS",
    )
}
# What the guide has put into compose.override.yaml.
_OVERRIDE = re.compile(r"`compose\.override\.yaml`:\n\n((?: {4}.*\n)+)")
_SECRETS = ("postgres_password", "redis_password", "orthanc_password")


def _interpolate(text: str) -> str:
    """As compose does with nothing set."""
    return _REFERENCE.sub(lambda match: match["rest"], text).replace("$$", "$")


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
def secrets(tmp_path: Path) -> Path:
    """Give the folder the containers see as /run/secrets."""
    for name in _SECRETS:
        (tmp_path / name).write_text(f"f00d{name}\n")
    return tmp_path


@pytest.fixture
def settings(services: dict[str, Any], secrets: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name, value in services["node"]["environment"].items():
        monkeypatch.setenv(name, value.replace("/run/secrets", str(secrets)))
    return load_settings()


def _setting(variable: str) -> str:
    """Name the setting behind a variable: a secret's may end in _FILE."""
    setting = variable.removesuffix("_FILE")
    return setting if setting in secret_variables().values() else variable


def _container_ports(service: dict[str, Any]) -> list[int]:
    return [int(entry.rsplit(":", 1)[1]) for entry in service.get("ports", [])]


def _lungwatch_variables() -> set[str]:
    files = ("compose.yaml", "Dockerfile", "docker/example.env")
    text = "".join((_REPOSITORY / name).read_text() for name in files)
    return set(re.findall(rf"{PREFIX}[A-Z_]+", text)) - {f"{PREFIX}PUBLISHED_PORT"}


def test_every_variable_is_a_setting() -> None:
    known = {PREFIX + field.upper() for field in Settings.model_fields}
    assert {_setting(variable) for variable in _lungwatch_variables()} <= known


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
    assert {_setting(name) for name in environment} == fields - {f"{PREFIX}GPUS"}


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
    assert "/run/secrets/postgres_password" in postgres.values()
    user, name = postgres["POSTGRES_USER"], postgres["POSTGRES_DB"]
    expected = f"postgresql+psycopg://{user}:f00dpostgres_password@postgres:5432/{name}"
    assert settings.resolved_database_url == expected
    assert settings.required_broker_url == "redis://:f00dredis_password@redis:6379/0"


def test_broker_takes_its_password_from_the_file_and_shows_it_to_nobody(
    services: dict[str, Any], secrets: Path
) -> None:
    """Runs the service's own command and health check."""
    if shutil.which("redis-server") is None:
        skip_or_fail("redis-server is not installed: apt-get install redis-server")
    (port,) = free_ports(1)
    *shell, script = services["redis"]["command"]
    script = script.replace("/run/secrets", str(secrets)).replace(
        "redis-server - ", f"redis-server - --port {port} --dir {secrets} "
    )
    (_, check) = services["redis"]["healthcheck"]["test"]
    check = check.replace("/run/secrets", str(secrets)).replace("redis-cli", f"redis-cli -p {port}")

    def answers() -> bool:
        done = subprocess.run(["sh", "-c", check], capture_output=True, check=False)
        return done.returncode == 0

    with ServiceProcess("Redis", secrets / "log") as service:
        service.start([*shell, script], answers)
        unknown = ["redis-cli", "-p", str(port), "config", "get", "maxmemory-policy"]
        refused = subprocess.run(unknown, capture_output=True, text=True, check=True)
        assert "NOAUTH" in refused.stdout + refused.stderr
        environment = {**os.environ, "REDISCLI_AUTH": "f00dredis_password"}
        known = subprocess.run(unknown, capture_output=True, env=environment, check=True)
        assert b"noeviction" in known.stdout
        titles = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline")]
        assert not any(b"f00dredis" in title for title in titles)


def test_broker_keeps_what_it_is_given(services: dict[str, Any]) -> None:
    command = services["redis"]["command"][-1]
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


def test_every_secret_is_a_file_without_default(
    compose: dict[str, Any], orthanc: dict[str, Any]
) -> None:
    files = {name: secret["file"] for name, secret in compose["secrets"].items()}
    assert files == {name: f"docker/secrets/{name}" for name in _SECRETS}
    ignored = (_REPOSITORY / ".gitignore").read_text().splitlines()
    assert "/docker/secrets/" in ignored
    for name, service in compose["services"].items():
        read = set(re.findall(r"/run/secrets/(\w+)", str(service)))
        assert read <= set(service.get("secrets", ())), name
    assert list(orthanc["RegisteredUsers"].values()) == ["${ORTHANC_PASSWORD}"]
    assert orthanc["AuthenticationEnabled"] is True


def test_the_override_in_the_guide_takes_destinations_from_a_file(
    services: dict[str, Any], secrets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    guide = (_REPOSITORY / "docs/operators-guide.md").read_text()
    (block,) = _OVERRIDE.findall(guide)
    override = _load(textwrap.dedent(block))
    assert override["secrets"] == {"destinations": {"file": "docker/secrets/destinations"}}
    assert set(override["services"]) == {"node", "worker", "worker-gpu"}
    (secrets / "destinations").write_text("stow+https://us:f00d%40@pacs.example/dicom-web\n")
    for name, change in override["services"].items():
        assert change["secrets"] == ["destinations"]
        # As compose merges two files.
        environment = services[name]["environment"] | change["environment"]
        with monkeypatch.context() as patch:
            for variable, value in environment.items():
                patch.setenv(variable, value.replace("/run/secrets", str(secrets)))
            (destination,) = parse_destinations(load_settings())
        assert isinstance(destination, DicomWebDestination)
        assert (destination.username, destination.password) == ("us", "f00d@")


def test_no_secret_is_written_out(text: str) -> None:
    secret_lines = [line for line in text.splitlines() if re.search("(?i)passw|auth|://", line)]
    written_out = [
        line
        for line in secret_lines
        if not line.lstrip().startswith("#")
        and not re.search("_password|_PASSWORD|_URL: [^:]+://[^:@]*@?[^:@]+:", line)
        and not _REFERENCE.search(line)
    ]
    assert written_out == []


def test_the_script_writes_each_secret_once_and_for_this_user_alone(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    script = shutil.copy(_REPOSITORY / "scripts/make_secrets.sh", tmp_path / "scripts")
    written = []
    for _ in range(2):
        subprocess.run([script], check=True, capture_output=True)
        folder = tmp_path / "docker/secrets"
        written.append({path.name: path.read_text() for path in folder.iterdir()})
    assert written[0] == written[1]
    assert set(written[0]) == set(_SECRETS)
    assert len({*written[0].values()}) == len(_SECRETS)
    assert all(re.fullmatch("[0-9a-f]{48}", secret) for secret in written[0].values())
    assert folder.stat().st_mode & 0o777 == 0o700


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


def test_docker_compose_accepts_it() -> None:
    docker = shutil.which("docker")
    plugin = docker and subprocess.run(
        [docker, "compose", "version"], capture_output=True, check=False
    )
    if not plugin or plugin.returncode:
        pytest.skip("docker compose is not installed")
    command = [docker, "compose", "--file", str(_COMPOSE), "--env-file", "/dev/null"]
    done = subprocess.run(
        [*command, "--profile", "gpu", "config", "--quiet"], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
