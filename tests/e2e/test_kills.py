"""kill -9 of listener, worker and broker in mid-study: the study completes, with one result.

Once each in the ordinary run; `make faults` sets LUNGWATCH_FAULT_ROUNDS and kills at as many
other moments.
"""

import os
import signal
import subprocess
import time

import pytest
from support.services import require
from support.system import wait_until

from worker.lifecycle import StudyState

SETTLED_SECONDS = 4
ROUNDS = range(int(os.environ.get("LUNGWATCH_FAULT_ROUNDS", "1")))

every_round = pytest.mark.parametrize("number", ROUNDS)


def moment(number: int) -> float:
    """Seconds into the stage at which this round kills: spread over the first four."""
    return (1 + 1.618 * number) % 4


@pytest.fixture
def system(embedded_system):
    """The shared system: whatever is killed here has to serve the other tests again."""
    return embedded_system


def kill(pid):
    os.kill(pid, signal.SIGKILL)


def check_one_result(system, study_uid):
    reached = system.wait_for_state(study_uid)
    assert reached.state is StudyState.COMPLETED, system.show(study_uid)
    # A second result would follow within the lease, a sweep and a screening.
    time.sleep(SETTLED_SECONDS)
    results = system.results(study_uid)
    assert len(results["SR"]) == 1
    assert len(results["SEG"]) == (1 if system.show(study_uid)["lesions"] else 0)


@every_round
def test_the_listener_is_killed_while_it_receives(system, study, number):
    study_uid, files = study
    (node,) = system.pids("node")
    spool = system.settings.spool_dir
    before = len(list(spool.glob("*/**/*.dcm")))
    sender = subprocess.Popen(
        [require("storescu", "dcmtk"), "-aec", "LUNGWATCH", "127.0.0.1", str(system.port), *files],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_until("the first instances", lambda: len(list(spool.glob("*/**/*.dcm"))) > before + 5)
    time.sleep(moment(number) / 8)
    kill(node)
    assert sender.wait(60) != 0, "the sender did not notice that the listener died"
    wait_until("the listener to be back", system.listens)
    assert list((spool / "incoming").iterdir()) == []
    resend = ["/usr/bin/storescu", "-aec", "LUNGWATCH", "127.0.0.1", str(system.port), *files]
    subprocess.run(resend, check=True, env={**os.environ, "TCP_NODELAY": "1"})
    check_one_result(system, study_uid)


@every_round
def test_the_worker_is_killed_while_it_screens(system, study, storescu, number):
    study_uid, files = study
    storescu.send(*files, port=system.port, called="LUNGWATCH")
    system.wait_for_state(study_uid, StudyState.SCREENING)
    time.sleep(moment(number))
    (worker,) = system.pids("worker")
    kill(worker)
    check_one_result(system, study_uid)
    if number == 0:
        assert [s["attempts"] for s in system.show(study_uid)["screenings"]] == [2]


@every_round
def test_the_broker_is_killed_while_a_study_is_on_its_way(system, study, storescu, number):
    study_uid, files = study
    storescu.send(*files, port=system.port, called="LUNGWATCH")
    system.wait_for_state(study_uid, StudyState.SCREENING)
    time.sleep(moment(number))
    before = system.progress(study_uid).state
    kill(system.broker_pid())
    assert number or before is StudyState.SCREENING
    check_one_result(system, study_uid)
