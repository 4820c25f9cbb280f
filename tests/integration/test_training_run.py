"""A training run on a drawn manifest: it trains, stops, resumes, and is released."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
from support.training_data import DrawnData

from model.config import NetworkConfig, TrainingConfig
from model.data.dataset import load_samples
from model.errors import ModelIntegrityError, RegistryError, TrainingError
from model.inference import PredictionOptions, Predictor
from model.registry import NOT_EVALUATED, Registry
from model.release import Identity, release_run
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


def _figure(generator, *, covid):
    figure = np.zeros((96, 128), np.uint8)
    figure[8:-8, 8:-8] = 220
    figure[20:-20, 20:56] = figure[20:-20, 72:108] = 40
    if covid:
        row = int(generator.integers(30, 50))
        figure[row : row + 20, 24:48] = 140
    return figure + generator.integers(0, 20, figure.shape).astype(np.uint8)


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    data = DrawnData(tmp_path_factory.mktemp("data"))
    generator = np.random.default_rng(0)
    add = data.add
    for split in ("train", "val"):
        for label in ("COVID", "NonCOVID"):
            for number in range(4):
                figure = _figure(generator, covid=label == "COVID")
                add(f"covid-ct/{split}/{label}/{number}.png", figure, label, f"{split}{number}")
    for number in range(8):
        add(f"luna-noncovid/{number}.png", _figure(generator, covid=False), "NonCOVID", str(number))
    for number in range(8):
        figure = _figure(np.random.default_rng(number), covid=True)
        turned = np.rot90(figure, number % 4).copy()
        add(f"covid-semiseg/train/img/{number}.png", turned.T, "COVID")
        mask = ((turned > 120) & (turned < 180)).astype(np.uint8) * 255
        add(f"covid-semiseg/train/mask/{number}.png", mask.T, "mask")
    return data.manifest()


@pytest.fixture(scope="module")
def samples(manifest):
    return load_samples(manifest, 32)


@pytest.fixture(scope="module")
def finished(samples, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    lines = []
    Trainer(CONFIG, samples, folder).run(lines.append)
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


def test_a_resumed_run_equals_an_unbroken_one(finished, samples, tmp_path):
    one_epoch = TrainingConfig.from_dict({**vars(CONFIG), "epochs": 1})
    Trainer(one_epoch, samples, tmp_path).run()
    resumed = Trainer(CONFIG, samples, tmp_path)
    resumed.resume()
    assert resumed.state.epoch == 1
    resumed.run()
    unbroken = list(csv.DictReader((finished[0] / "metrics.csv").open()))[-1]
    broken = list(csv.DictReader((tmp_path / "metrics.csv").open()))[-1]
    for name in ("reconstruction_loss", "segmentation_loss", "reconstruction_mse"):
        assert float(broken[name]) == pytest.approx(float(unbroken[name]), rel=1e-3)


def test_another_network_cannot_resume_a_run(finished, samples):
    other = TrainingConfig(network=NetworkConfig(input_size=32, base_filters=3))
    with pytest.raises(TrainingError, match="another network"):
        Trainer(other, samples, finished[0]).resume()


def test_a_loss_that_is_no_number_stops_the_run(samples, tmp_path):
    wild = TrainingConfig.from_dict({**vars(CONFIG), "learning_rate": 1e30, "epochs": 20})
    with pytest.raises(TrainingError, match="lower the learning rate"):
        Trainer(wild, samples, tmp_path).run()


def test_a_run_without_improvement_stops_after_its_patience(samples, tmp_path):
    config = TrainingConfig.from_dict(
        {**vars(CONFIG), "learning_rate": 1e-12, "averaging": 0.0, "epochs": 50, "patience": 2}
    )
    state = Trainer(config, samples, tmp_path).run()
    assert state.epoch < 50
    assert state.epoch - state.best_epoch == 2


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
    (tmp_path / "config.json").write_text(
        TrainingConfig.from_dict({**vars(CONFIG), "epochs": 1}).to_json()
    )
    command = [
        *(sys.executable, "-m", "worker.cli.main", "train", "--data", str(manifest)),
        *("--config", str(tmp_path / "config.json"), "--out", str(tmp_path / "run")),
    ]
    first = subprocess.run(command, capture_output=True, text=True, check=False)
    assert first.returncode == 0, first.stderr
    assert "Best score" in first.stderr
    assert len((tmp_path / "run" / "data.sha256").read_text().strip()) == 64
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode != 0
    assert "--resume" in again.stderr
