"""The embedded broker keeps its queue through kills, orphans and folders with long names."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest
import redis
from celery import Celery

from worker.embedded.errors import EmbeddedServiceError
from worker.embedded.valkey import EmbeddedValkey

if TYPE_CHECKING:
    from pathlib import Path


def _client(server: EmbeddedValkey) -> redis.Redis:
    return redis.Redis.from_url(server.redis_url)


def _queue(server: EmbeddedValkey, count: int) -> None:
    app = Celery(broker=server.url)
    for number in range(count):
        app.send_task("nobody.listens", args=[number])
    app.close()


def test_queued_tasks_survive_kill_and_restart(valkey: EmbeddedValkey) -> None:
    _queue(valkey, 50)

    os.kill(valkey.pid, signal.SIGKILL)
    while valkey.running:
        time.sleep(0.01)
    valkey.start()

    with _client(valkey) as client:
        assert client.llen("celery") == 50


def test_settings_keep_the_queue(valkey: EmbeddedValkey) -> None:
    with _client(valkey) as client:
        settings = client.config_get("append*", "maxmemory-policy", "port")
    assert settings["appendonly"] == "yes"
    assert settings["appendfsync"] == "everysec"
    assert settings["maxmemory-policy"] == "noeviction"
    assert settings["port"] == "0"


def test_socket_and_folder_are_closed_to_others(valkey: EmbeddedValkey) -> None:
    assert valkey.socket_path.stat().st_mode & 0o077 == 0
    assert valkey.data_dir.stat().st_mode & 0o077 == 0


def test_folder_too_long_for_a_socket(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 25) / "valkey"
    with EmbeddedValkey(folder) as server:
        assert folder not in server.socket_path.parents
        _queue(server, 1)
    with EmbeddedValkey(folder) as again, _client(again) as client:
        assert client.llen("celery") == 1


def test_orphan_of_a_killed_parent_is_replaced(valkey: EmbeddedValkey) -> None:
    _queue(valkey, 3)
    with EmbeddedValkey(valkey.data_dir) as successor, _client(successor) as client:
        assert not valkey.running
        assert client.llen("celery") == 3


def test_starting_twice_is_refused(valkey: EmbeddedValkey) -> None:
    with pytest.raises(EmbeddedServiceError, match="already running"):
        valkey.start()
    assert valkey.running


def test_failed_start_shows_the_log(tmp_path: Path) -> None:
    server = EmbeddedValkey(tmp_path)
    (tmp_path / "appendonlydir").write_text("a file where the folder belongs")
    with pytest.raises(EmbeddedServiceError, match="appendonlydir"):
        server.start()
    assert not server.running


def test_a_long_temporary_folder_is_no_obstacle(tmp_path, monkeypatch):
    deep = tmp_path / ("a-folder-with-a-long-name-" * 5)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    with EmbeddedValkey(deep / "broker") as server:
        assert server.running
        assert deep not in server.socket_path.parents
