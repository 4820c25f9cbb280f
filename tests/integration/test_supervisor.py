"""Child processes under the supervisor: restarted, stopped in order, gone with it."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from support.system import wait_until

from worker.supervisor import Supervisor

CHILD = """
import os, signal, sys, time
from worker.supervisor import end_with_supervisor
def stop(*_):
    open(sys.argv[1], "a").write(f"{sys.argv[2]} stopped\\n"); sys.exit(0)
signal.signal(signal.SIGTERM, stop)
end_with_supervisor()
open(sys.argv[1], "a").write(f"{sys.argv[2]} {os.getpid()}\\n")
while True: time.sleep(0.1)
"""


@pytest.fixture
def journal(tmp_path):
    path = tmp_path / "journal"
    path.touch()
    return path


def child(journal, name):
    return [sys.executable, "-c", CHILD, str(journal), name]


def lines(journal):
    return journal.read_text().splitlines()


def test_a_killed_child_is_started_again_and_all_stop_in_order(journal):
    supervisor = Supervisor()
    for name in ("first", "second"):
        supervisor.add(name, child(journal, name), os.environ)
    thread = threading.Thread(target=supervisor.run)
    thread.start()
    wait_until("both children", lambda: len(lines(journal)) == 2, 20)
    pid = next(int(line.split()[1]) for line in lines(journal) if line.startswith("second"))
    os.kill(pid, signal.SIGKILL)
    wait_until("the second child again", lambda: len(lines(journal)) == 3, 20)
    assert lines(journal)[-1].startswith("second")
    supervisor.stop()
    thread.join(20)
    assert lines(journal)[-2:] == ["first stopped", "second stopped"]


def test_what_cannot_be_started_or_tended_stops_nothing_else(journal):
    tended = []

    def tend() -> None:
        tended.append(time.monotonic())
        if len(tended) < 3:
            raise OSError(28, "No space left on device")

    supervisor = Supervisor(tend)
    supervisor.add("absent", [str(journal.with_name("absent"))], os.environ)
    supervisor.add("there", child(journal, "there"), os.environ)
    thread = threading.Thread(target=supervisor.run)
    thread.start()
    wait_until("the child", lambda: lines(journal), 20)
    program = journal.with_name("absent")
    program.write_text(f"#!/bin/sh\necho absent is there >> {journal}; sleep 60\n")
    program.chmod(0o700)
    wait_until("the one that was absent", lambda: "absent is there" in lines(journal), 30)
    wait_until("tending again", lambda: len(tended) > 5, 20)
    assert tended[1] - tended[0] >= 0.5
    supervisor.stop()
    thread.join(20)
    assert not thread.is_alive()


def test_children_end_with_a_killed_supervisor(journal):
    program = (
        "import os, sys; from worker.supervisor import Supervisor; s = Supervisor();"
        "s.add('only', sys.argv[1:], os.environ); s.run()"
    )
    parent = subprocess.Popen([sys.executable, "-c", program, *child(journal, "only")])
    wait_until("the child", lambda: lines(journal), 20)
    parent.kill()
    parent.wait()
    wait_until("the child's end", lambda: lines(journal)[-1] == "only stopped", 20)
