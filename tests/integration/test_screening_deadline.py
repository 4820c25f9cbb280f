"""A screening ends at its deadline, whatever it hangs in, and a database that hangs is given up."""

import subprocess
import sys
import textwrap

import pytest
from sqlalchemy import event

from worker.db.engine import make_engine
from worker.screening.job import EXIT_DEADLINE

# In a process of its own, which the deadline ends. It would end with 0 after 20 seconds.
JOB = """
import ctypes, threading, time
from types import SimpleNamespace
from worker.screening import job
from worker.db.screenings import Claim

class Database:
    def transaction(self):
        {renewal}

job._WATCHDOG_GRACE_SECONDS = 1.0
config = SimpleNamespace(deadline_seconds=0.5, lease_seconds={lease})
with job._Heartbeat(Database(), Claim(1, 1), config):
    {work}
"""
# PyDLL keeps the lock of the interpreter, as native code may.
NATIVE = "ctypes.PyDLL(None).sleep(20)"
HUNG = "threading.Event().wait(20)"
FAILS = "raise OSError"


@pytest.mark.parametrize(
    ("renewal", "lease", "work", "code"),
    [
        pytest.param(FAILS, 0.3, "time.sleep(20)", EXIT_DEADLINE, id="python waits"),
        pytest.param(FAILS, 90, "time.sleep(20)", EXIT_DEADLINE, id="lease beyond the deadline"),
        pytest.param(FAILS, 0.3, NATIVE, 1, id="native code keeps the lock"),
        pytest.param(HUNG, 0.3, "time.sleep(20)", 1, id="the renewal hangs"),
        pytest.param(HUNG, 0.3, "time.sleep(0.2)", 1, id="it hangs when the work is done"),
        pytest.param(FAILS, 0.3, "pass", 0, id="in time"),
    ],
)
def test_nothing_outlives_the_deadline(renewal, lease, work, code):
    # What was in time is not ended later either.
    program = JOB.format(renewal=renewal, lease=lease, work=work)
    after = "time.sleep(2)" if code == 0 else ""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program) + after],
        capture_output=True,
        text=True,
        timeout=18,
        check=False,
    )
    assert done.returncode == code, done.stderr
    assert ("Timeout (" in done.stderr) == (code == 1)


@pytest.mark.parametrize(("query", "seconds"), [("", 10), ("?connect_timeout=3", 3)])
def test_a_database_that_hangs_is_given_up(query, seconds):
    engine = make_engine(f"postgresql+psycopg://a@127.0.0.1:1/a{query}")
    asked = {}

    @event.listens_for(engine, "do_connect")
    def keep(_dialect, _record, _arguments, parameters):
        asked.update(parameters)

    with pytest.raises(Exception, match="refused"):
        engine.connect()
    assert int(asked["connect_timeout"]) == seconds
    assert (asked["keepalives_idle"], asked["keepalives_interval"]) == (30, 10)
    assert asked["tcp_user_timeout"] == 60_000
