"""A training run on a drawn manifest: it trains, stops, resumes, and is released."""

import csv
import fcntl
import json
import resource
import shutil
import subprocess
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest
import tensorflow as tf
from support.training_data import draw_three_sources
from tensorflow.core.util.event_pb2 import Event

from model.config import NetworkConfig, Task, TrainingConfig
from model.data.dataset import Split, load_samples, require_apart
from model.errors import (
    ConfigError,
    DatasetError,
    ModelIntegrityError,
    RegistryError,
    TrainingError,
)
from model.inference import PredictionOptions, Predictor
from model.registry import NOT_EVALUATED, Registry
from model.release import Identity, ReleaseOptions, release_run
from model.training.trainer import Trainer
from model.volume import CtVolume

NETWORK = NetworkConfig(
    input_size=32, base_filters=2, classifier_filters=4, classifier_units=(8, 4), dropout=0.1
)
CONFIG = TrainingConfig(
    network=NETWORK,
    batch_size=4,
    epochs=2,
    steps_per_epoch=2,
    averaging=0.5,
    empty_mask_sources=("luna-noncovid",),
    reconstruction_samples=2,
)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return draw_three_sources(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def samples(manifest):
    return load_samples(manifest, 32)


@pytest.fixture(scope="module")
def finished(samples, manifest, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    lines = []
    Trainer(CONFIG, samples, folder, manifest=manifest).run(lines.append)
    return folder, lines


def test_a_run_leaves_settings_metrics_and_weights(finished):
    folder, lines = finished
    assert TrainingConfig.from_json((folder / "config.json").read_text()) == CONFIG
    rows = list(csv.DictReader((folder / "metrics.csv").open()))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    for name in ("reconstruction_loss", "segmentation_loss", "classification_loss", "auc", "dice"):
        assert np.isfinite(float(rows[-1][name]))
    assert (folder / "best.npz").is_file()
    assert lines[-1].startswith("epoch 2")


def test_a_run_can_be_read_by_a_person_and_by_tensorboard(finished, manifest):
    folder, _ = finished
    page = (folder / "README.md").read_text()
    assert "State: finished, 2 of at most 2 epochs" in page
    assert f"--data {manifest.resolve()} --out {folder} --resume" in page
    origin = json.loads((folder / "environment.json").read_text())
    assert (folder / "data.sha256").read_text().strip() == origin["manifest_sha256"]
    assert len(origin["git_commit"]) in (0, 40)
    assert cv2.imread(str(folder / "curves.png")).std() > 5, "something is drawn"
    tags = set()
    for events in (folder / "tensorboard").iterdir():
        for record in tf.data.TFRecordDataset(str(events)):
            event = Event.FromString(record.numpy())
            tags |= {(event.step, value.tag) for value in event.summary.value}
    assert {(1, "loss/segmentation"), (2, "loss/segmentation"), (2, "validation/dice")} <= tags


class _StoppedError(Exception):
    pass


def _stop_after_an_epoch(line):
    if line.startswith("epoch 1"):
        raise _StoppedError


@pytest.fixture(scope="module")
def stopped(samples, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stopped")
    with pytest.raises(_StoppedError):
        Trainer(CONFIG, samples, folder).run(_stop_after_an_epoch)
    return folder


@pytest.fixture
def halfway(stopped, tmp_path):
    """A run that was stopped after the first of two epochs."""
    return shutil.copytree(stopped, tmp_path / "run")


def _same_weights(first, second):
    with np.load(first) as ours, np.load(second) as theirs:
        return all(np.array_equal(ours[name], theirs[name]) for name in ours.files)


def test_a_resumed_run_ends_as_an_unbroken_one(finished, samples, halfway):
    resumed = Trainer(CONFIG, samples, halfway)
    resumed.resume()
    assert resumed.state.epoch == 1
    resumed.run()
    assert _same_weights(finished[0] / "last.npz", halfway / "last.npz")
    assert _same_weights(finished[0] / "best.npz", halfway / "best.npz")


def test_a_damaged_checkpoint_gives_way_to_the_one_before(samples, halfway):
    newest = halfway / "last" / "current.npz"
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    resumed = Trainer(CONFIG, samples, halfway)
    assert "damaged checkpoint" in resumed.resume()
    assert resumed.state.epoch == 0
    fresh = Trainer(CONFIG, samples, halfway).training_step.variables
    for ours, theirs in zip(resumed.training_step.variables, fresh, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_without_a_whole_checkpoint_nothing_is_resumed(samples, halfway):
    for file in (halfway / "last").iterdir():
        file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(TrainingError, match=r"No checkpoint of .* is whole"):
        Trainer(CONFIG, samples, halfway).resume()


def test_a_run_is_never_overwritten(finished, samples):
    before = (finished[0] / "best.npz").read_bytes()
    with pytest.raises(TrainingError, match="--resume"):
        Trainer(CONFIG, samples, finished[0]).run()
    assert (finished[0] / "best.npz").read_bytes() == before


@pytest.mark.parametrize("resume", [True, False])
def test_a_run_killed_in_its_first_checkpoint_begins_again(samples, tmp_path, resume):
    config = replace(CONFIG, epochs=1, steps_per_epoch=1)
    killed = Trainer(config, samples, tmp_path)
    killed.files.begin()
    killed.files.checkpoint.mkdir()
    (killed.files.checkpoint / ".current.1.npz").write_bytes(b"half")
    trainer = Trainer(config, samples, tmp_path)
    if resume:
        assert trainer.resume() == ""
    assert trainer.run().epoch == 1
    assert (tmp_path / "best.npz").is_file()


def test_other_settings_or_data_cannot_resume_a_run(finished, samples, tmp_path):
    other = replace(CONFIG, network=replace(NETWORK, base_filters=3), learning_rate=1.0)
    with pytest.raises(TrainingError, match=r"\(learning_rate, network.base_filters\)"):
        Trainer(other, samples, finished[0]).resume()
    with pytest.raises(TrainingError, match="SHA-256 of its samples"):
        Trainer(CONFIG, samples[:-1], finished[0]).resume()
    manifest = tmp_path / "other.csv"
    manifest.write_text("path")
    with pytest.raises(TrainingError, match="SHA-256 of its manifest"):
        Trainer(CONFIG, samples, finished[0], manifest=manifest).resume()
    with pytest.raises(TrainingError, match="other weights"):
        Trainer(CONFIG, samples, finished[0], [finished[0] / "last.npz"]).resume()


def test_two_processes_cannot_train_in_one_folder(samples, halfway):
    written = [halfway / "last" / ".current.1.npz", halfway / "best-2.npz"]
    for file in written:
        file.write_bytes(b"of the run that holds the lock")
    with (halfway / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        trainer = Trainer(CONFIG, samples, halfway)
        for start in (trainer.resume, trainer.run):
            with pytest.raises(TrainingError, match="another process"):
                start()
    assert all(file.exists() for file in written)
    trainer.resume()
    assert not any(file.exists() for file in written)


def test_a_loss_that_is_no_number_stops_the_run(samples, tmp_path):
    wild = replace(CONFIG, learning_rate=1e30, epochs=20, checkpoint_steps=1)
    trainer = Trainer(wild, samples, tmp_path)
    with pytest.raises(TrainingError, match=r"(loss is|no numbers).* last good checkpoint is"):
        trainer.run()
    with np.load(tmp_path / "last" / "current.npz") as stored:
        assert all(np.isfinite(stored[name]).all() for name in stored.files)


def test_a_run_that_nothing_would_measure_does_not_begin(samples, tmp_path):
    ill = [each for each in samples if each.covid or each.split is not Split.VALIDATION]
    with pytest.raises(DatasetError, match="AUC that chooses the best epoch cannot be measured"):
        Trainer(CONFIG, ill, tmp_path).run()
    some = replace(CONFIG, source_shares=(("covid-ct/covid", 1.0),))
    with pytest.raises(DatasetError, match=r"no share for covid-ct/non-covid \(\d+ samples\), "):
        Trainer(some, samples, tmp_path).run()
    assert list(tmp_path.iterdir()) == []
    for folder in (tmp_path, tmp_path / "new"):
        trainer = Trainer(some, samples, folder)
        assert trainer.resume() == ""
        with pytest.raises(DatasetError, match="no share"):
            trainer.run()
        assert list(tmp_path.iterdir()) == []


def test_a_new_run_does_not_begin_with_images_that_train_and_choose(samples, finished, tmp_path):
    held_out = next(each for each in samples if each.split is Split.VALIDATION)
    copied = replace(held_out, path="copy.png", split=Split.TRAIN, patient="another")
    told = rf"1 images .* instance {held_out.path}, .* as copy\.png.*lungwatch data check"
    with pytest.raises(DatasetError, match=told):
        Trainer(CONFIG, [*samples, copied], tmp_path).run()
    assert list(tmp_path.iterdir()) == []
    require_apart([replace(each, pixels="") for each in (held_out, copied)])
    begun = Trainer(CONFIG, [*samples, copied], tmp_path)
    begun.files.begin()
    begun._save()
    resumed = Trainer(CONFIG, [*samples, copied], tmp_path)
    resumed.resume()
    assert resumed.run().epoch == 2, "an earlier version's run goes on"


def test_a_run_without_improvement_stops_after_its_patience(samples, tmp_path):
    config = replace(CONFIG, learning_rate=1e-12, averaging=0.0, epochs=50, patience=2)
    state = Trainer(config, samples, tmp_path).run()
    assert state.epoch < 50
    assert state.epoch - state.best_epoch == 2
    assert "stopped early" in (tmp_path / "README.md").read_text()


@pytest.fixture
def small_limit():
    """No file may grow over 30 kB; a checkpoint of the network takes more."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_checkpoint_that_does_not_fit_leaves_the_last_one(samples, halfway, small_limit):
    trainer = Trainer(CONFIG, samples, halfway)
    trainer.resume()
    small_limit()
    with pytest.raises(TrainingError, match="make room"):
        trainer.run()
    with pytest.raises(TrainingError, match=r"could not be written.*last one is still valid"):
        trainer._save()
    again = Trainer(CONFIG, samples, halfway)
    assert again.resume() == ""
    assert again.state.epoch == 1


def test_a_first_checkpoint_that_does_not_fit_is_not_called_valid(samples, tmp_path, small_limit):
    trainer = Trainer(CONFIG, samples, tmp_path)
    small_limit()
    with pytest.raises(TrainingError, match=r"could not be written.*there is no checkpoint yet"):
        trainer.run()
    Trainer(CONFIG, samples, tmp_path).files.begin()


@pytest.fixture(scope="module")
def registry(finished, samples, tmp_path_factory):
    root = tmp_path_factory.mktemp("registry")
    identity = Identity("drawn", "1.0.0", "non-commercial", "Two epochs.")
    release_run(finished[0], root, identity, lambda _size: samples)
    return Registry(shipped=root)


def test_a_release_is_calibrated_and_described(registry):
    entry = registry.get("drawn")
    assert 0 < entry.manifest.operating_point < 1
    assert "covid-ct/covid train: 4" in entry.manifest.data
    assert entry.manifest.sha256 in entry.model_card
    assert "**Licence: non-commercial**" in entry.model_card
    assert entry.manifest.caution == NOT_EVALUATED
    assert f"**Known performance:** {NOT_EVALUATED}" in entry.model_card
    assert "- covid-semiseg: " in entry.model_card
    assert "tcga-luad-slices" not in entry.model_card, "it never saw what the card names"
    assert "| AUC | covid-ct | 8 |" in entry.model_card
    assert json.loads((entry.folder / "training.json").read_text())["batch_size"] == 4


def test_a_version_is_released_once(registry, finished, samples):
    with pytest.raises(RegistryError, match="never changes"):
        release_run(
            finished[0], registry.roots[0], Identity("drawn", "1.0.0", ""), lambda _: samples
        )


def test_a_run_that_was_stopped_is_released_only_when_that_is_said(finished, samples, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished[0], run)
    lines = (run / "metrics.csv").read_text().splitlines(keepends=True)
    (run / "metrics.csv").write_text("".join(lines[:-1]))
    identity = Identity("drawn", "1.0.0", "", "Cut short.")
    with pytest.raises(RegistryError, match=r"stopped after 1 of at most 2 epochs.*--unfinished"):
        release_run(run, tmp_path / "models", identity, lambda _: samples)
    assert not (tmp_path / "models").exists()
    options = ReleaseOptions(unfinished=True)
    entry = release_run(run, tmp_path / "models", identity, lambda _: samples, options)
    assert "Cut short. The run was stopped after 1 of at most 2 epochs." in entry.model_card


def test_a_release_needs_both_classes_to_be_calibrated(finished, samples, tmp_path):
    without = [each for each in samples if each.source != "covid-ct"]
    with pytest.raises(RegistryError, match="slices of one source with and without COVID-19"):
        release_run(finished[0], tmp_path, Identity("drawn", "1.0.0", ""), lambda _: without)
    assert list(tmp_path.iterdir()) == []


def test_a_released_network_screens_a_volume_the_same_way_twice(registry):
    hounsfield = np.full((6, 96, 128), -1000, np.int16)
    hounsfield[:, 8:-8, 8:-8] = 140
    hounsfield[:, 20:-20, 20:56] = hounsfield[:, 20:-20, 72:108] = -850
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0, 0, 3], [0, 3, 0], [5, 0, 0]])
    volume = CtVolume(hounsfield, (5.0, 3.0, 3.0), affine)
    predictor = Predictor.load(registry.get("drawn"), PredictionOptions(batch_size=4))
    first, second = predictor.predict(volume), predictor.predict(volume)
    assert len(first.slice_probabilities) == 6
    assert first.slice_probabilities == second.slice_probabilities
    np.testing.assert_array_equal(first.lesion_mask.labels, second.lesion_mask.labels)


def test_tampered_weights_never_reach_the_engine(registry, tmp_path):
    entry = registry.get("drawn")
    copy = tmp_path / entry.folder.name
    copy.mkdir()
    for file in entry.folder.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    (copy / "weights.npz").write_bytes((copy / "weights.npz").read_bytes() + b"x")
    with pytest.raises(ModelIntegrityError):
        Predictor.load(Registry(shipped=tmp_path).get("drawn"))


def test_the_command_line_trains_and_refuses_to_overwrite(manifest, tmp_path):
    (tmp_path / "config.json").write_text(replace(CONFIG, epochs=1).to_json())
    command = [
        *(sys.executable, "-m", "worker.cli.main", "train", str(tmp_path / "config.json")),
        *("--data", str(manifest), "--out", str(tmp_path / "run")),
    ]
    first = subprocess.run(command, capture_output=True, text=True, check=False)
    assert first.returncode == 0, first.stderr
    assert "Best score" in first.stderr
    assert len((tmp_path / "run" / "data.sha256").read_text().strip()) == 64
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode != 0
    assert "--resume" in again.stderr


def test_an_unknown_experiment_is_answered_with_those_there_are():
    from worker.cli.train import _settings

    assert _settings("unet_256").network.tasks == (Task.SEGMENTATION,)
    with pytest.raises(ConfigError, match="unet_256"):
        _settings("unet")
    with pytest.raises(ConfigError, match="no such file"):
        _settings("absent.json")
