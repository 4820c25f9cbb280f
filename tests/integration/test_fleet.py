"""Several workers of one machine: checked before they start, restarted, stopped together."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.command import environment, lungwatch
from support.system import wait_until

from worker.db import schema
from worker.db.engine import Database
from worker.embedded.process import ServiceProcess

if TYPE_CHECKING:
    from worker.embedded.valkey import EmbeddedValkey


def _settings(folder: Path, broker_url: str) -> dict[str, object]:
    return {
        "data_dir": folder,
        "broker_url": broker_url,
        "worker_processes": 2,
        "log_format": "json",
    }


def _upgrade(folder: Path) -> None:
    database = Database(f"sqlite:///{folder / 'lungwatch.db'}")
    schema.upgrade(database.engine)
    database.close()


def _started(log: Path) -> list[int]:
    lines = [json.loads(line) for line in log.read_text().splitlines() if "child_started" in line]
    return [line["pid"] for line in lines]


def _ready(log: Path) -> int:
    return sum(" ready." in line for line in log.read_text().splitlines())


def _lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_a_killed_worker_comes_back_and_all_end_together(
    tmp_path: Path, valkey: EmbeddedValkey
) -> None:
    _upgrade(tmp_path)
    log = tmp_path / "fleet.log"
    fleet = ServiceProcess("fleet", log, start_seconds=120, stop_seconds=90)
    fleet.start(
        [sys.executable, "-m", "worker.cli.main", "worker"],
        lambda: _ready(log) >= 2,
        environment=environment(_settings(tmp_path, valkey.url)),
    )
    try:
        first, second = _started(log)
        os.kill(second, signal.SIGKILL)
        wait_until("a third worker is ready", lambda: _ready(log) == 3, 120)
        third = _started(log)[2]
        assert _lives(first)
        assert _lives(third)
    finally:
        fleet.stop()
    assert not any(_lives(pid) for pid in (first, second, third))


@pytest.mark.parametrize(
    ("fault", "code", "named"),
    [
        ({"broker_url": ""}, 3, "LUNGWATCH_BROKER_URL"),
        ({"destinations": "ftp://pacs"}, 3, "LUNGWATCH_DESTINATIONS"),
        ({"model": "no-such-model"}, 8, "no-such-model"),
        ({"database_url": "sqlite://"}, 9, "lungwatch db upgrade"),
    ],
)
def test_a_fault_stops_the_fleet_before_a_worker_starts(
    tmp_path: Path, fault: dict[str, object], code: int, named: str
) -> None:
    _upgrade(tmp_path)
    done = lungwatch("worker", **{**_settings(tmp_path, "redis://127.0.0.1:1/0"), **fault})
    assert done.code == code
    assert named in done.stderr
    assert "child_started" not in done.stderr
