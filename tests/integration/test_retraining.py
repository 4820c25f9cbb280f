"""`lungwatch retrain` from reviewed studies to a candidate, with real networks and a database."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter

import numpy as np
import pytest
from support.command import environment, lungwatch
from support.networks import write_version
from support.retraining_site import RetrainingSite
from support.system import wait_until

from model.config import TrainingConfig
from model.data.dataset import Sample, load_samples
from model.data.fingerprints import patient_fingerprint, read_fingerprints
from model.data.manifest import LabelOrigin, ManifestRow, Split, read_manifest, write_manifest
from model.errors import DatasetError, RegistryError, TrainingError
from model.registry import TRAINING_DATA_FILE, WEIGHTS_FILE, Registry, read_entry
from worker import learning
from worker.db import training_runs
from worker.lifecycle import ModelState, TrainingState
from worker.retraining.config import retraining_config
from worker.retraining.data import MANIFEST, collect
from worker.retraining.request import RetrainingRequest
from worker.retraining.run import Retraining
from worker.training.job import TrainingJob
from worker.training.slices import read_training_slice


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    site = RetrainingSite(tmp_path_factory.mktemp("retraining"))
    site.review()
    yield site
    site.database.close()


def request(site, out, **changes):
    given = {"base": str(site.base), "epochs": 2, "steps_per_epoch": 4, **changes}
    return RetrainingRequest(str(out), **given)


def retrain(site, out, *arguments):
    command = ("retrain", "--out", out, "--base", site.base, "--steps-per-epoch", 4, *arguments)
    return lungwatch(*command, timeout=300, **site.given)


def collected(site, out, **changes):
    reviewed = learning.reviewed_data(site.settings, site.database)
    locked = changes.pop("locked", site.settings.locked_test_set)
    asked = request(site, out, **changes)
    return collect(asked, reviewed, locked, read_training_slice, lambda *_: None)


def test_from_reviewed_studies_to_a_candidate_beside_the_version_in_use(site, tmp_path):
    out = tmp_path / "run"
    done = retrain(site, out, "--epochs", 2, "--json")
    assert done.code == 0, done.stderr
    result = done.json
    assert (result["candidate"], result["current"]) == ("tiny-1.0.0.1", "tiny-1.0.0")
    assert result["studies"] == [1, 2, 3, 4]
    assert result["left_out"] == [[5, "rejected as unusable"]]
    assert result["locked_test_set"] is True
    assert {each["name"] for each in result["comparison"]["differences"]} >= {"auc", "dice"}
    assert json.loads((out / "result.json").read_text()) == result
    candidate = read_entry(site.settings.model_dir / "tiny-1.0.0.1")
    before = read_entry(site.settings.model_dir / "tiny-1.0.0")
    candidate.verified_weights()
    assert candidate.manifest.sha256 == result["sha256"] != before.manifest.sha256
    assert candidate.manifest.network == before.manifest.network
    assert candidate.manifest.licence == before.manifest.licence
    assert "4 studies that radiologists reviewed" in candidate.model_card
    states = {each.title: each.state for each in site.promotions.standings()}
    assert states["tiny-1.0.0.1"] is ModelState.CANDIDATE
    assert states["tiny-1.0.0"] is ModelState.CURRENT
    manifest = read_manifest(out / MANIFEST)
    assert {row.source for row in manifest.rows} == {"drawn", "reviewed"}
    assert all(row.split is not Split.TEST for row in manifest.rows)
    seen = read_fingerprints(candidate.folder / TRAINING_DATA_FILE)
    samples = load_samples(out / MANIFEST, 32, read_training_slice)
    learned = Counter(
        (each.covid, each.mask is not None) for each in samples if each.source == "reviewed"
    )
    assert learned[True, True] > 0 < learned[True, False], "lesions, and a class without them"
    assert learned[None, True] > 0 < learned[False, True], (
        "slices without lesions, and cleared ones"
    )
    own = [row.patient for row in manifest.rows if row.source == "reviewed"]
    assert {patient_fingerprint(name) for name in own} <= seen.patients
    assert {each.pixels for each in samples} <= seen.pixels
    before_it = read_fingerprints(before.folder / TRAINING_DATA_FILE)
    assert before_it.files <= seen.files, "the weights have seen what those before them saw"
    assert patient_fingerprint("patient 1") not in seen.patients, "it could be undone by trying"
    origin = json.loads((out / "training" / "environment.json").read_text())
    (start,) = origin["start_from"]
    assert start["sha256"] == before.manifest.sha256

    again = Retraining(request(site, out), learning.site(site.settings, site.database))
    with pytest.raises(TrainingError, match="--resume"):
        again.run()
    found = again.run(resume=True).candidate
    assert (found.title, found.manifest.sha256) == ("tiny-1.0.0.1", result["sha256"])


def test_a_killed_retraining_goes_on_and_ends_as_an_unbroken_one(site, tmp_path):
    unbroken = Retraining(
        request(site, tmp_path / "unbroken", epochs=20), learning.site(site.settings, site.database)
    ).run()
    out = tmp_path / "killed"
    arguments = ["--out", str(out), "--base", str(site.base), "--epochs", "20"]
    process = subprocess.Popen(
        [sys.executable, "-m", "worker.cli.main", "retrain", *arguments, "--steps-per-epoch", "4"],
        env=environment(site.given),
    )
    progress = out / "training" / "metrics.csv"
    wait_until("some epochs are over", lambda: progress.exists() and _lines(progress) > 3, 240)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / "result.json").exists()
    assert _lines(progress) < 20, "it was killed too late to show anything"
    resumed = Retraining(
        request(site, out, epochs=20), learning.site(site.settings, site.database)
    ).run(resume=True)
    assert resumed.candidate.manifest.sha256 == unbroken.candidate.manifest.sha256
    assert resumed.candidate.title != unbroken.candidate.title


def _lines(path):
    return len(path.read_text().splitlines())


def test_without_a_locked_test_set_promotion_is_said_to_be_refused(site, tmp_path):
    given = {**site.given, "locked_test_set": ""}
    done = lungwatch(
        *("retrain", "--out", tmp_path / "run", "--base", site.base, "--epochs", 1),
        *("--steps-per-epoch", 2, "--version", "9.0.0"),
        timeout=300,
        **given,
    )
    assert done.code == 0, done.stderr
    assert "No test set is locked" in done.stdout
    assert "lungwatch model promote tiny-9.0.0" in done.stdout
    assert "Study 5 was left out: rejected as unusable." in done.stdout
    assert "promotion will be refused" in done.stdout.replace("\n", " ")
    assert {row.split for row in read_manifest(tmp_path / "run/validation.csv").rows} == {
        Split.TEST
    }


def test_a_job_of_the_queue_records_its_end_and_a_stopped_one_goes_on(site, tmp_path):
    own = learning.site(site.settings, site.database)
    asked = request(site, tmp_path / "run", epochs=3)
    with site.database.transaction() as session:
        run_id = training_runs.add(session, asked.out, asked.to_json()).id
    stopped = TrainingJob(site.database, own, 30, 3)
    stopped.stop()
    stopped.run(run_id)
    with site.database.reading() as session:
        run = training_runs.get(session, run_id)
        assert (run.state, run.attempts) == (TrainingState.QUEUED, 0)
        assert run.detail == "its trainer was stopped"
    job = TrainingJob(site.database, own, 30, 3)
    assert job.due() == [run_id]
    job.run(run_id)
    job.run(run_id)  # the message came twice
    with site.database.reading() as session:
        run = training_runs.get(session, run_id)
        assert (run.state, run.attempts) == (TrainingState.SUCCEEDED, 1)
        assert "on the locked test set" in run.detail
        assert (
            read_entry(site.settings.model_dir / run.detail.split(",")[0]).manifest.sha256
            == run.candidate_sha256
        )
    assert job.due() == []


def test_a_job_that_cannot_be_done_fails_with_its_reason(site, tmp_path):
    asked = request(site, tmp_path / "run", base=str(tmp_path / "absent.csv"))
    with site.database.transaction() as session:
        run_id = training_runs.add(session, asked.out, asked.to_json()).id
    TrainingJob(site.database, learning.site(site.settings, site.database), 30, 3).run(run_id)
    with site.database.reading() as session:
        run = training_runs.get(session, run_id)
        assert run.state is TrainingState.FAILED
        assert "absent.csv" in run.detail


def test_a_trainer_that_lost_its_lease_stops_and_records_nothing(site, tmp_path):
    asked = request(site, tmp_path / "run", epochs=500)
    with site.database.transaction() as session:
        run_id = training_runs.add(session, asked.out, asked.to_json()).id
    job = TrainingJob(site.database, learning.site(site.settings, site.database), 1, 9)
    thread = threading.Thread(target=job.run, args=[run_id])
    thread.start()

    def stage():
        with site.database.reading() as session:
            return training_runs.get(session, run_id).stage

    try:
        wait_until("it trains", lambda: stage().startswith("training"), 300)
        with site.database.transaction() as session:
            training_runs.get(session, run_id).attempts += 1  # as another trainer's claim does
        thread.join(60)
        assert not thread.is_alive()
    finally:
        job.stop()
        thread.join()
    with site.database.reading() as session:
        run = training_runs.get(session, run_id)
        assert (run.state, run.attempts) == (TrainingState.RUNNING, 2)


def test_pseudo_labels_do_not_teach_a_site(site, tmp_path):
    base = tmp_path / "base.csv"
    rows = [
        ManifestRow(
            str(site.base.with_name(f"b-1-{n}.png")), covid=True, source="drawn", label_origin=o
        )
        for n, o in enumerate((LabelOrigin.HUMAN, LabelOrigin.PSEUDO))
    ]
    write_manifest(base, rows)
    with pytest.raises(DatasetError, match=r"base\.csv, row 3: a pseudo-label.*people said alone"):
        collected(site, tmp_path / "run", base=str(base))


@pytest.mark.parametrize("shared", ["image", "patient"])
def test_nothing_is_learned_from_the_locked_test_set(site, tmp_path, shared):
    row = read_manifest(site.test).rows[0]
    image = site.test.with_name(row.path) if shared == "image" else site.base.with_name("b-1-0.png")
    patient = "somebody" if shared == "image" else row.patient
    base = tmp_path / "base.csv"
    write_manifest(base, [ManifestRow(str(image), covid=True, patient=patient, source="elsewhere")])
    with pytest.raises(DatasetError, match="in the locked test set") as error:
        collected(site, tmp_path / "run", base=str(base))
    assert ("its image" if shared == "image" else row.patient) in str(error.value)


def test_a_pseudonym_in_the_locked_test_set_hides_the_patient_of_the_base_data(site, tmp_path):
    study = collected(site, tmp_path / "all", base="", locked=None).studies[0]
    locked, base = tmp_path / "locked.csv", tmp_path / "base.csv"
    image, other = site.test.with_name("t-1-0.png"), site.base.with_name("b-1-0.png")
    name = study.pseudonym.patient
    write_manifest(locked, [ManifestRow(str(image), patient=name, source="s", split=Split.TEST)])
    write_manifest(
        base,
        [ManifestRow(str(other), covid=True, patient=f"patient {study.study_id}", source="pacs")],
    )
    with pytest.raises(DatasetError, match="in the locked test set"):
        collected(site, tmp_path / "run", base=str(base), locked=locked)


def test_reviewed_patients_of_the_locked_test_set_are_left_out(site, tmp_path):
    locked = tmp_path / "locked.csv"
    image = str(site.test.with_name("t-1-0.png"))
    other = str(site.test.with_name("t-1-1.png"))
    found = collected(site, tmp_path / "all", base="", locked=None)
    name = found.studies[1].pseudonym.patient
    write_manifest(
        locked,
        [
            ManifestRow(image, patient="patient 1", source="pacs", split=Split.TEST),
            ManifestRow(other, patient=name, source="reviewed", split=Split.TEST),
        ],
    )
    found = collected(site, tmp_path / "run", locked=locked)
    assert [study.study_id for study in found.studies] == [3, 4]
    assert {each.study_id for each in found.left_out} == {1, 2, 5}


def test_without_reviewed_studies_there_is_nothing_to_learn(tmp_path):
    site = RetrainingSite(tmp_path)
    with pytest.raises(TrainingError, match="no reviewed study teaches anything"):
        collected(site, tmp_path / "run")
    site.database.close()


def test_what_is_wrong_is_said_before_hours_of_training(site, tmp_path):
    own = learning.site(site.settings, site.database)
    with pytest.raises(RegistryError, match=r"tiny-1\.0\.0 exists"):
        Retraining(request(site, tmp_path / "taken", version="1.0.0"), own).run()
    run = tmp_path / "changed"
    with pytest.raises(RegistryError, match="exists"):
        Retraining(request(site, run, version="1.0.0"), own).run()
    (run / MANIFEST).write_text((run / MANIFEST).read_text().replace(",drawn,", ",other,"))
    with pytest.raises(TrainingError, match="changed since the run began"):
        Retraining(request(site, run), own).run(resume=True)
    done = retrain(site, tmp_path / "run", "--reviewed-share", 2)
    assert done.code == 3
    assert "reviewed share" in done.stderr
    given = {name: value for name, value in site.given.items() if name != "model_dir"}
    done = lungwatch("retrain", "--out", os.devnull + "/run", "--queue", **given)
    assert done.code == 3
    assert "LUNGWATCH_MODEL_DIR" in done.stderr


def test_a_run_goes_on_from_its_version_though_another_one_has_the_same_weights(site, tmp_path):
    own = learning.site(site.settings, site.database)
    asked = request(site, tmp_path / "run", version="1.0.0")
    with pytest.raises(RegistryError, match="exists"):
        Retraining(asked, own).run()
    weights = site.settings.model_dir / "tiny-1.0.0" / WEIGHTS_FILE
    recalibrated = write_version(tmp_path / "models", "1.0.0", name="recalibrated", weights=weights)
    first, *others = own.registry.roots
    registry = Registry([recalibrated.folder.parent, *others], first)
    with pytest.raises(RegistryError, match="ambiguous"):
        registry.get(recalibrated.manifest.sha256)
    both = dataclasses.replace(own, registry=registry)
    with pytest.raises(RegistryError, match=r"tiny-1\.0\.0 exists"):
        Retraining(asked, both).run(resume=True)
    plan = tmp_path / "run" / "plan.json"
    plan.write_text(plan.read_text().replace(recalibrated.manifest.sha256, "f" * 64))
    with pytest.raises(RegistryError, match=r"tiny-1\.0\.0 has other weights.*\(ffffffffffff\)"):
        Retraining(asked, both).run(resume=True)


def test_settings_are_those_of_the_version_made_gentle(site, tmp_path):
    folder = tmp_path / "tiny-1.0.0"
    shutil.copytree(site.settings.model_dir / "tiny-1.0.0", folder)
    shares = (("drawn/covid", 0.5), ("drawn/non-covid", 0.3), ("elsewhere/covid", 0.2))
    trained = TrainingConfig(learning_rate=1e-3, source_shares=shares, weight_decay=0.01)
    (folder / "training.json").write_text(trained.to_json())
    kinds = [("drawn", True), ("drawn", False), *[("reviewed", True)] * 3, ("reviewed", None)]
    image = np.zeros((32, 32), np.float32)
    samples = [
        Sample(str(number), source, Split.TRAIN, str(number), covid, image)
        for number, (source, covid) in enumerate(kinds)
    ]
    asked = RetrainingRequest(str(tmp_path / "run"), reviewed_share=0.2)
    config = retraining_config(asked, read_entry(folder), samples)
    assert (config.epochs, config.patience, config.weight_decay) == (20, 6, 0.01)
    assert config.learning_rate == pytest.approx(3e-4)
    assert config.network == read_entry(folder).manifest.network
    assert config.checkpoint_steps > 0
    assert dict(config.source_shares) == pytest.approx(
        {
            "drawn/covid": 0.5,
            "drawn/non-covid": 0.3,
            "reviewed/covid": 0.15,
            "reviewed/unknown": 0.05,
        }
    )
    new = [dataclasses.replace(samples[0], source="new") for _ in range(4)]
    config = retraining_config(asked, read_entry(folder), [*samples, *new])
    found = dict(config.source_shares)
    assert sum(found.values()) == pytest.approx(1)
    assert found["new/covid"] / 4 == pytest.approx(
        (found["drawn/covid"] + found["drawn/non-covid"]) / 2
    ), "each image as often as those of sources the settings know"
    assert found["reviewed/covid"] + found["reviewed/unknown"] == pytest.approx(0.2)
    mine = tmp_path / "mine.json"
    mine.write_text(TrainingConfig(learning_rate=0.5, epochs=7, batch_size=3).to_json())
    config = retraining_config(
        RetrainingRequest(str(tmp_path / "run"), config=str(mine), patience=2),
        read_entry(folder),
        samples,
    )
    assert (config.learning_rate, config.epochs, config.patience) == (0.5, 7, 2)
    assert config.network == read_entry(folder).manifest.network
    assert config.source_shares == ()
