"""Background loops: woken while there is nothing to do, and patient where a round failed."""

import itertools
import threading
import time

import pytest

from worker.services.loops import Loop


@pytest.fixture
def start():
    """Start a loop over a function; gives the loop, which is stopped in the end."""
    started = []

    def start(run_once, pause_seconds):
        loop = Loop("test", run_once, pause_seconds)
        started.append(loop)
        loop.start()
        return loop

    yield start
    for loop in started:
        loop.stop(timeout=10)


def test_a_loop_without_work_is_woken_early(start):
    rounds = threading.Semaphore(0)

    def nothing_to_do():
        rounds.release()
        return 0

    loop = start(nothing_to_do, 600)
    for _ in range(3):
        assert rounds.acquire(timeout=30)
        # It may not have begun to wait yet.
        time.sleep(0.05)
        loop.wake()
    assert rounds.acquire(timeout=30)


def test_a_round_that_failed_is_tried_again_after_its_pause_however_often_it_is_woken(start):
    tried = []

    def fail():
        tried.append(time.monotonic())
        raise OSError("the database is away")

    loop = start(fail, 0.5)
    ends = time.monotonic() + 30
    while len(tried) < 3 and time.monotonic() < ends:
        loop.wake()
        time.sleep(0.001)
    assert len(tried) == 3
    assert min(later - sooner for sooner, later in itertools.pairwise(tried)) >= 0.5


def test_a_round_that_failed_does_not_end_the_loop(start):
    rounds = []
    done = threading.Event()

    def fail_once():
        rounds.append(len(rounds))
        if len(rounds) == 1:
            raise ConnectionError("the database is away")
        done.set()
        return 0

    start(fail_once, 0.1)
    assert done.wait(timeout=30)


def test_a_pause_after_a_failure_does_not_hold_up_the_end(start):
    loop = start(lambda: 1 / 0, 600)
    time.sleep(0.1)
    stopped = time.monotonic()
    loop.stop(timeout=30)
    assert time.monotonic() - stopped < 10
