import os
import socket
import time
from datetime import timedelta

import pytest
from pynetdicom import AE, evt
from support.command import lungwatch

from dicom_node.contexts import VERIFICATION
from model.registry import Registry
from worker.db import schema
from worker.db.engine import Database, now
from worker.db.tables import Screening, Study
from worker.demo.pacs import FolderPacs
from worker.embedded.process import free_ports
from worker.embedded.valkey import EmbeddedValkey
from worker.lifecycle import Progress, ScreeningState, StudyState

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
    return done.code, {check["part"]: check for check in done.json}


def test_a_healthy_installation_has_no_fault(healthy):
    code, checks = examine(healthy)
    assert [part for part, check in checks.items() if check["level"] == "fail"] == []
    assert code == 0
    assert checks["broker"]["level"] == "ok"
    assert checks["database"]["level"] == "ok"
    assert "verified, the newest shipped one" in checks["model"]["message"]
    assert checks["model pick-up"]["level"] == "ok"
    assert checks["destination DEMO_PACS"]["message"] == "answers"
    assert checks["workers"]["message"] == "no screening waits; none was claimed"


def test_what_nobody_records_is_told(healthy):
    inbox = healthy["data_dir"] / "spool" / "inbox"
    inbox.mkdir(parents=True)
    (inbox / "just-received.dcm").touch()
    assert examine(healthy)[1]["inbox"]["level"] == "ok"
    waiting = inbox / "waiting.dcm"
    waiting.touch()
    an_hour_ago = time.time() - 3600
    os.utime(waiting, (an_hour_ago, an_hour_ago))
    code, checks = examine(healthy)
    assert checks["inbox"]["level"] == "warn"
    assert checks["inbox"]["message"].startswith("1 received file waits in")
    assert code == 0


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
    code, checks = examine({**healthy, **faults})
    assert {part: checks[part]["level"] for part in levels} == levels
    assert all(checks[part]["remedy"] for part in levels)
    assert code == (1 if "fail" in levels.values() else 0)
    assert "hush" not in str(checks)


def test_a_data_folder_that_others_may_read_is_told(healthy):
    assert examine(healthy)[1]["data folder"]["level"] == "ok"
    healthy["data_dir"].chmod(0o755)
    check = examine(healthy)[1]["data folder"]
    assert (check["level"], check["remedy"][:9]) == ("warn", "chmod 700")


def test_a_database_without_schema_is_to_be_upgraded(healthy, postgresql_url):
    code, checks = examine({**healthy, "database_url": postgresql_url})
    assert code == 1
    assert checks["database"]["remedy"] == "Run `lungwatch db upgrade`."


def test_a_new_installation_is_told_from_a_broken_one(tmp_path):
    _, checks = examine({"data_dir": tmp_path / "new"})
    assert checks["database"]["level"] == "warn"
    assert checks["data folder"]["level"] == "warn"
    assert not (tmp_path / "new").exists()


def test_the_embedded_broker_is_found_while_it_runs(healthy):
    with EmbeddedValkey(healthy["data_dir"] / "broker") as broker:
        _, checks = examine({**healthy, "broker_url": ""})
        assert checks["broker"]["level"] == "ok"
        assert str(broker.socket_path) in checks["broker"]["message"]
    _, checks = examine({**healthy, "broker_url": ""})
    assert checks["broker"]["level"] == "warn"


@pytest.mark.parametrize(("minutes", "level"), [(3, "ok"), (25, "warn")])
def test_a_study_that_no_worker_takes_is_told(healthy, minutes, level):
    database = Database(f"sqlite:///{healthy['data_dir'] / 'lungwatch.db'}")
    with database.transaction() as session:
        queued = now(session) - timedelta(minutes=minutes)
        session.add(
            Study(
                study_instance_uid="1.2.3",
                state=StudyState.QUEUED,
                reason=Progress.WAITING_FOR_WORKER,
                created_at=queued,
                updated_at=queued,
                screenings=[
                    Screening(
                        revision=1,
                        series_instance_uid="1.2.3.1",
                        instances_digest="0" * 64,
                        state=ScreeningState.QUEUED,
                        created_at=queued,
                        started_at=queued - timedelta(hours=4),
                    )
                ],
            )
        )
    database.close()
    _, checks = examine(healthy)
    assert checks["workers"]["level"] == level
    assert f"queued {minutes} min ago" in checks["workers"]["message"]
    assert "claimed 4 h ago" in checks["workers"]["message"]


def test_the_caution_of_the_model_is_told(healthy):
    _, checks = examine(healthy)
    assert checks["model caution"]["level"] == "warn"
    assert checks["model caution"]["message"] == Registry().get().manifest.caution


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
    code, checks = examine({**healthy, "listen_port": server.server_address[1]})
    server.shutdown()
    assert (code, checks["listener"]["level"]) == (0, "ok")
    assert len(callers) == 1


def test_another_program_holds_the_port(healthy):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, checks = examine({**healthy, "listen_port": taken.getsockname()[1]})
    assert (code, checks["listener"]["level"]) == (1, "fail")
    assert "LUNGWATCH_LISTEN_PORT" in checks["listener"]["remedy"]


def test_a_wrong_setting_ends_the_examination(tmp_path):
    done = lungwatch("doctor", data_dir=tmp_path, lease_seconds="soon")
    assert done.code == 3
    assert "LUNGWATCH_LEASE_SECONDS" in done.stdout


def test_lines_begin_with_how_bad_it_is(healthy):
    lines = lungwatch("doctor", **{**healthy, "broker_url": CLOSED}).stdout.splitlines()
    assert lines[0] == "OK    settings: all can be read"
    assert any(line.startswith("FAIL  broker: ") for line in lines)
