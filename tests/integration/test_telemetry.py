"""Log lines of a node: one format for all, and no patient in them."""

import json
import subprocess
import sys

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
