"""The training queue: claims on both databases, GPUs kept apart, and a trainer that is killed."""

import json
import sys

import pytest
from support.audit_lines import lines
from support.command import environment, lungwatch
from support.retraining_site import RetrainingSite

from worker.app import SCREENING_QUEUE, TRAINING_QUEUE, make_app
from worker.audit_entry import AuditAction
from worker.db import training_runs
from worker.embedded.process import ServiceProcess
from worker.errors import LeaseLostError, SettingsError, TransitionError
from worker.lifecycle import TrainingState
from worker.settings import load_settings
from worker.training.queue import training_environment

REQUEST = {"out": "/runs/1"}


def test_a_run_is_claimed_once_and_again_when_its_trainer_was_lost(database):
    with database.transaction() as session:
        run_id = training_runs.add(session, "/runs/1", REQUEST).id
        assert training_runs.due(session, 3) == [run_id]
        first = training_runs.claim(session, run_id, "a", 60)
        assert training_runs.claim(session, run_id, "b", 60) is None
        assert training_runs.due(session, 3) == []
        training_runs.renew(session, first, -1, "training: epoch 3")
        assert training_runs.due(session, 3) == [run_id]
        second = training_runs.claim(session, run_id, "b", 60)
        assert (first.token, second.token) == (1, 2)
        with pytest.raises(LeaseLostError):
            training_runs.renew(session, first, 60, "")
        training_runs.succeed(session, second, "f" * 64, "tiny-1.0.0.1")
        assert training_runs.claim(session, run_id, "c", 60) is None
    with database.reading() as session:
        (document,) = map(training_runs.document, training_runs.every(session))
    assert (document["state"], document["attempts"]) == ("succeeded", 2)
    assert document["stage"] == "training: epoch 3"
    assert json.dumps(document)


def test_a_run_that_loses_every_trainer_fails_and_can_be_asked_for_again(database):
    with database.transaction() as session:
        run_id = training_runs.add(session, "/runs/1", REQUEST).id
        for _ in range(2):
            claim = training_runs.claim(session, run_id, "a", -1)
        with pytest.raises(TransitionError, match=r"/runs/1 is running"):
            training_runs.add(session, "/runs/1", REQUEST)
        assert training_runs.due(session, 2) == []
        run = training_runs.get(session, run_id)
        assert (run.state, run.detail) == (TrainingState.FAILED, "its trainers were lost")
        with pytest.raises(LeaseLostError):
            training_runs.fail(session, claim, "")
        assert training_runs.add(session, "/runs/1", REQUEST).id == run_id
        assert training_runs.due(session, 2) == [run_id]


def test_an_orderly_end_costs_no_attempt_and_an_error_does(database):
    with database.transaction() as session:
        run_id = training_runs.add(session, "/runs/1", REQUEST).id
        training_runs.give_back(session, training_runs.claim(session, run_id, "a", 60), "stopped")
        assert training_runs.due(session, 2) == [run_id]
        training_runs.release(session, training_runs.claim(session, run_id, "a", 60), "KeyError", 2)
        assert training_runs.get(session, run_id).state is TrainingState.QUEUED
        training_runs.release(session, training_runs.claim(session, run_id, "a", 60), "KeyError", 2)
        run = training_runs.get(session, run_id)
        assert (run.state, run.detail, run.attempts) == (TrainingState.FAILED, "KeyError", 2)


def test_a_training_sees_no_gpu_unless_it_is_given_some():
    assert training_environment(load_settings(gpus="0,1")) == {"CUDA_VISIBLE_DEVICES": ""}
    apart = load_settings(gpus="0,1", training_gpus="2,3")
    assert training_environment(apart) == {"CUDA_VISIBLE_DEVICES": "2,3"}


@pytest.mark.parametrize(
    ("gpus", "told"), [("0,1", "GPU 1 screens as well"), ("", "LUNGWATCH_GPUS does not say")]
)
def test_a_gpu_that_screens_does_not_train_unless_told(gpus, told):
    with pytest.raises(SettingsError, match=told):
        training_environment(load_settings(gpus=gpus, training_gpus="1,2"))
    given = load_settings(gpus=gpus, training_gpus="1,2", training_beside_screening=True)
    assert training_environment(given) == {"CUDA_VISIBLE_DEVICES": "1,2"}


def test_a_trainer_refuses_such_a_gpu_before_it_starts(tmp_path):
    done = lungwatch(
        "trainer", data_dir=tmp_path, broker_url="redis://127.0.0.1:1/0", training_gpus="0"
    )
    assert done.code == 3
    assert "LUNGWATCH_TRAINING_BESIDE_SCREENING" in done.stderr


def test_a_killed_trainer_is_followed_by_one_that_goes_on(tmp_path, valkey):
    site = RetrainingSite(
        tmp_path,
        broker_url=valkey.url,
        lease_seconds=3,
        sweep_seconds=0.5,
        # Beside tests that take all the processors a nicer one would not come to its turn.
        training_niceness=0,
    )
    site.review("1")
    done = lungwatch(
        *("retrain", "--queue", "--json", "--out", tmp_path / "run", "--base", site.base),
        *("--epochs", 12, "--patience", 12, "--steps-per-epoch", 10),
        **site.given,
    )
    assert done.code == 0, done.stderr
    assert done.json["state"] == "queued"
    with make_app(site.settings).connection_for_read() as connection:
        broker = connection.default_channel.client
        # A worker that screens takes from its own queue only: this is not there.
        assert (broker.llen(TRAINING_QUEUE), broker.llen(SCREENING_QUEUE)) == (1, 0)

    def run():
        with site.database.reading() as session:
            (row,) = training_runs.every(session)
            return training_runs.document(row)

    with_trainer = environment(site.given)
    command = [sys.executable, "-m", "worker.cli.main", "trainer"]
    killed = ServiceProcess("trainer", tmp_path / "killed.log", start_seconds=300, stop_seconds=90)
    killed.start(command, lambda: run()["stage"].startswith("training"), environment=with_trainer)
    assert run()["state"] == "running"
    killed.kill()
    assert run()["state"] == "running", "nobody was there to say otherwise"
    trainer = ServiceProcess("trainer", tmp_path / "next.log", start_seconds=400, stop_seconds=90)
    trainer.start(command, lambda: run()["state"] != "running", environment=with_trainer)
    trainer.stop()
    own = [line for line in lines(site.database) if line.actor == "lungwatch trainer"]
    begun, *_, ended = own
    assert begun.action is AuditAction.APPLICATION_STARTED
    assert ended.action is AuditAction.APPLICATION_STOPPED
    site.database.close()
    (ended,) = lungwatch("trainings", "--json", **site.given).json
    assert (ended["state"], ended["attempts"]) == ("succeeded", 2), ended
    assert ended["detail"].startswith("tiny-1.0.0.1, on the locked test set")
    listed = lungwatch("model", "list", "--json", **site.given).json
    assert {each["title"]: each["state"] for each in listed}["tiny-1.0.0.1"] == "candidate"
