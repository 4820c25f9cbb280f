"""Log lines of a node: one format for all, and no patient in them."""

import json
import subprocess
import sys

import pytest

PROGRAM = """
import logging, structlog
from worker.settings import load_settings
from worker.telemetry import configure_logging
configure_logging(load_settings(log_format="json", log_level="info"))
structlog.get_logger("worker").info("study_moved", study=7)
logging.getLogger("dicom_node.receiving.listener").info("listening")
logging.getLogger("pynetdicom").warning("DOE^JANE")
try:
    float("DOE^JANE")
except ValueError:
    structlog.get_logger("worker").exception("instance_not_recorded")
"""


WORKER = """
import logging, threading, warnings
from sqlalchemy import text
from worker.app import make_app
from worker.db.engine import make_engine
from worker.settings import load_settings
from worker.telemetry import configure_logging
settings = load_settings(log_format="{format}", log_level="debug", broker_url="redis://127.0.0.1:1")
configure_logging(settings)
make_app(settings).Worker(pool="solo", loglevel="DEBUG")
with make_engine("sqlite://").connect() as connection:
    connection.execute(text("SELECT 'DOE^JANE'")).all()
logging.getLogger("some.library").debug("DOE^JANE")
warnings.warn("Invalid value for VR DA: 'DOE^JANE'")
def fail():
    raise ValueError("DOE^JANE")
thread = threading.Thread(target=fail, name="doomed")
thread.start()
thread.join()
logging.getLogger("worker").debug("our own")
"""


@pytest.mark.parametrize("format_", ["json", "console"])
def test_what_libraries_say_at_debug_level_is_not_told_in_a_worker(format_):
    program = WORKER.replace("{format}", format_)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert "DOE" not in done.stdout + done.stderr
    for told in ("our own", "thread_failed", "doomed", "UserWarning at"):
        assert told in done.stderr


def test_every_line_is_json_and_none_quotes_a_patient():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["event"] for line in lines] == [
        "study_moved",
        "listening",
        "instance_not_recorded",
    ]
    assert lines[0]["study"] == 7
    assert lines[2]["error"] == "ValueError"
    assert lines[2]["places"]
    assert "DOE" not in done.stderr
