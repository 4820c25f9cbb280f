import socket

import pytest
from pynetdicom import AE, evt
from support.command import lungwatch

from dicom_node.contexts import VERIFICATION
from worker.db import schema
from worker.db.engine import Database
from worker.demo.pacs import FolderPacs
from worker.embedded.process import free_ports

CLOSED = "redis://:hush@127.0.0.1:1/0"


@pytest.fixture
def pacs(tmp_path):
    with FolderPacs(tmp_path / "pacs") as running:
        yield running


@pytest.fixture
def healthy(tmp_path, redis_url, pacs):
    """Settings of an installation without a fault."""
    settings = {
        "data_dir": tmp_path / "data",
        "broker_url": redis_url,
        "allowed_calling_ae_titles": "PACS,CT1",
        "destinations": f"dimse://{pacs.ae_title}@127.0.0.1:{pacs.port}",
        "listen_host": "127.0.0.1",
        "listen_port": free_ports(1)[0],
        "minimum_free_mb": 1,
    }
    database = Database(f"sqlite:///{settings['data_dir'] / 'lungwatch.db'}")
    schema.upgrade(database.engine)
    database.close()
    return settings


def examine(settings):
    done = lungwatch("doctor", "--json", **settings)
    return done.code, {finding["part"]: finding for finding in done.json}


def test_a_healthy_installation_has_no_fault(healthy):
    code, findings = examine(healthy)
    assert [part for part, finding in findings.items() if finding["level"] == "fail"] == []
    assert code == 0
    assert findings["broker"]["level"] == "ok"
    assert findings["database"]["level"] == "ok"
    assert findings["model"]["message"].endswith("verified")
    assert findings["destination DEMO_PACS"]["message"] == "answers"


@pytest.mark.parametrize(
    ("faults", "levels"),
    [
        (
            {
                "minimum_free_mb": 10**9,
                "database_url": "postgresql+psycopg://a:hush@127.0.0.1:1/a",
                "broker_url": CLOSED,
                "model": "no-such-model",
                "allowed_calling_ae_titles": "",
                "destinations": "dimse://GONE@127.0.0.1:1",
            },
            {
                "disk": "fail",
                "database": "fail",
                "broker": "fail",
                "model": "fail",
                "senders": "fail",
                "destination GONE": "fail",
            },
        ),
        (
            {"data_dir": "/proc/lungwatch", "destinations": "ftp://x"},
            {"data folder": "fail", "destinations": "fail"},
        ),
        (
            {"broker_url": "", "allowed_calling_ae_titles": "*", "destinations": ""},
            {"broker": "warn", "senders": "warn", "destinations": "warn"},
        ),
    ],
)
def test_each_fault_is_found_and_says_what_to_do(healthy, faults, levels):
    code, findings = examine({**healthy, **faults})
    assert {part: findings[part]["level"] for part in levels} == levels
    assert all(findings[part]["remedy"] for part in levels)
    assert code == (1 if "fail" in levels.values() else 0)
    assert "hush" not in str(findings)


def test_a_database_without_schema_is_to_be_upgraded(healthy, postgresql_url):
    code, findings = examine({**healthy, "database_url": postgresql_url})
    assert code == 1
    assert findings["database"]["remedy"] == "Run `lungwatch db upgrade`."


def test_a_new_installation_is_told_from_a_broken_one(tmp_path):
    _, findings = examine({"data_dir": tmp_path / "new"})
    assert findings["database"]["level"] == "warn"
    assert not (tmp_path / "new" / "lungwatch.db").exists()


def test_our_own_listener_holds_the_port(healthy):
    node = AE(ae_title="LUNGWATCH")
    node.add_supported_context(VERIFICATION)
    node.require_calling_aet = ["PACS"]
    node.require_called_aet = True
    callers = []
    server = node.start_server(
        ("127.0.0.1", 0),
        block=False,
        evt_handlers=[(evt.EVT_C_ECHO, lambda event: callers.append(event.assoc) or 0)],
    )
    code, findings = examine({**healthy, "listen_port": server.server_address[1]})
    server.shutdown()
    assert (code, findings["listener"]["level"]) == (0, "ok")
    assert len(callers) == 1


def test_another_program_holds_the_port(healthy):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, findings = examine({**healthy, "listen_port": taken.getsockname()[1]})
    assert (code, findings["listener"]["level"]) == (1, "fail")
    assert "LUNGWATCH_LISTEN_PORT" in findings["listener"]["remedy"]


def test_a_wrong_setting_ends_the_examination(tmp_path):
    done = lungwatch("doctor", data_dir=tmp_path, lease_seconds="soon")
    assert done.code == 3
    assert "LUNGWATCH_LEASE_SECONDS" in done.stdout


def test_lines_begin_with_how_bad_it_is(healthy):
    lines = lungwatch("doctor", **{**healthy, "broker_url": CLOSED}).stdout.splitlines()
    assert lines[0] == "OK    settings: all can be read"
    assert any(line.startswith("FAIL  broker: ") for line in lines)
