"""Experiments run: one network, two stages, features and machine, crops; stopped and resumed."""

from dataclasses import replace

import numpy as np
import pytest
from support.command import lungwatch
from support.training_data import DrawnData

from model.architectures import build
from model.baselines.svm import SupportVectorMachine
from model.config import Architecture, NetworkConfig, Task, TrainingConfig
from model.data.dataset import Sample, Split
from model.errors import DatasetError, TrainingError
from model.experiments import get
from model.experiments.crops import SOURCE, make_crop
from model.experiments.experiment import Experiment, Procedure, Scale, Table
from model.experiments.procedures import begin_second_stage, stages
from model.experiments.runner import Order, run_experiment
from model.training.environment import code_commit
from model.weights_file import save_weights
from worker.cli.exit_codes import ExitCode

SIZE, DIGEST = 32, "ab" * 32
ALL = Order(Scale.FULL)


def _samples(size=SIZE):
    """Figures of two sources; COVID-19 is a bright patch, which one source has a mask of."""
    generator = np.random.default_rng(0)
    samples = []
    for number in range(40):
        covid = number % 2 == 0
        image = generator.random((size, size)).astype(np.float32) * 0.3
        mask = np.zeros((size, size), bool)
        if covid:
            row, column = generator.integers(4, size - 12, 2)
            mask[row : row + 8, column : column + 8] = True
            image[mask] += 0.5
        samples.append(
            Sample(
                path=str(number),
                source="masked" if number % 4 == 0 else "figures",
                split=Split.VALIDATION if number >= 30 else Split.TRAIN,
                patient=f"p{number}",
                covid=covid,
                image=image,
                mask=mask if number % 4 == 0 else None,
            )
        )
    return samples


def _experiment(architecture, tasks, procedure=Procedure.ONE_NETWORK, **values):
    network = NetworkConfig(
        input_size=SIZE,
        base_filters=2,
        tasks=tasks,
        architecture=architecture,
        normalisation="batch",
        classifier_filters=4,
        classifier_units=(8,),
        dropout=0.0,
    )
    config = TrainingConfig(
        network=network, batch_size=4, epochs=2, steps_per_epoch=3, learning_rate=1e-2, **values
    )
    return Experiment("tiny", "Tiny", Table.BASELINES, config, procedure=procedure)


def _run(experiment, folder, order=ALL, report=lambda _: None):
    return run_experiment(experiment, _samples(), DIGEST, folder, order, report)


BOTH = (Task.SEGMENTATION, Task.CLASSIFICATION)


def test_a_finished_run_is_reported_and_not_run_again(tmp_path):
    experiment = _experiment(Architecture.MULTITASK, BOTH)
    result = _run(experiment, tmp_path / "run")
    assert (result.steps, result.batch_size, result.epoch_steps) == (6, 4, 3)
    assert {"dice", "auc", "accuracy"} <= {figure.name for figure in result.figures}
    assert result.cpu_seconds > 0
    assert (result.learning_rate, result.masked_share) == (1e-2, 0.0)
    assert result.git_commit == code_commit()
    with pytest.raises(TrainingError, match="holds a run already: add --resume"):
        _run(experiment, tmp_path / "run")
    lines = []
    assert _run(experiment, tmp_path / "run", replace(ALL, resume=True), lines.append) == result
    assert lines == []
    with pytest.raises(TrainingError, match="other settings or other data"):
        _run(experiment, tmp_path / "run", replace(ALL, resume=True, steps=4))


def test_a_run_whose_data_are_refused_leaves_nothing(tmp_path):
    experiment = _experiment(Architecture.MULTITASK, BOTH)
    ill = [each for each in _samples() if each.covid or each.split is Split.VALIDATION]
    same = [replace(each, pixels="same") for each in _samples()]
    for refused, told in ((ill, "no sample without COVID-19"), (same, "same pixels")):
        with pytest.raises(DatasetError, match=told):
            run_experiment(experiment, refused, DIGEST, tmp_path / "tiny", ALL)
        assert not (tmp_path / "tiny").exists()


def test_a_stopped_run_goes_on_to_the_same_figures(tmp_path):
    experiment = _experiment(Architecture.CNN8, (Task.CLASSIFICATION,))
    whole = _run(experiment, tmp_path / "whole")

    class StoppedError(Exception):
        pass

    def stop(line):
        if "epoch 1" in line and "score" in line:
            raise StoppedError

    with pytest.raises(StoppedError):
        _run(experiment, tmp_path / "stopped", report=stop)
    assert not (tmp_path / "stopped" / "result.json").exists()
    resumed = _run(experiment, tmp_path / "stopped", replace(ALL, resume=True))
    assert resumed.figures == whole.figures
    assert resumed.best_score == whole.best_score


def test_the_second_stage_begins_with_the_first_as_it_was_trained(tmp_path):
    """The training itself takes minutes with ResNet50: docs/results/baselines.md has the row."""
    whole = _experiment(Architecture.TWO_STAGE, BOTH).full.network
    first, second = stages(whole)
    save_weights(build(first), tmp_path / "lesions.npz")
    begin_second_stage(whole, tmp_path / "lesions.npz", tmp_path / "start.npz", 1)
    with (
        np.load(tmp_path / "lesions.npz") as lesions,
        np.load(tmp_path / "start.npz") as start,
    ):
        assert len(lesions.files) > 20
        for name in lesions.files:
            np.testing.assert_array_equal(lesions[name], start[name])
        assert len(start.files) > len(lesions.files) + 200
    assert second.tasks == (Task.CLASSIFICATION,)


def test_a_machine_takes_the_features_of_the_finished_network_beside_it(tmp_path):
    one = _experiment(Architecture.CNN8, (Task.CLASSIFICATION,))
    # VGG16 stands for ResNet50 here: it builds in a tenth of the time.
    published = replace(one.full.network, architecture=Architecture.VGG16)
    one = replace(one, full=replace(one.full, network=published))
    machine = replace(one, procedure=Procedure.FEATURES_AND_SVM)
    _run(one, tmp_path / "vgg16")
    result = _run(machine, tmp_path / "vgg16_svm")
    assert result.note == "features of the network of row vgg16"
    assert result.steps == 0
    assert {"auc", "sensitivity"} <= {figure.name for figure in result.figures}
    assert not (tmp_path / "vgg16_svm" / "best.npz").exists()
    assert SupportVectorMachine.load(tmp_path / "vgg16_svm" / "machine.npz").gamma > 0


def test_the_network_of_volumes_learns_from_crops(tmp_path):
    experiment = _experiment(Architecture.UNET_PLUS_PLUS_3D, (Task.SEGMENTATION,), Procedure.CROPS)
    config = replace(experiment.full, steps_per_epoch=20, batch_size=2)
    lines = []
    result = _run(replace(experiment, full=config), tmp_path / "run", report=lines.append)
    losses = [float(line.rsplit(" ", 1)[1]) for line in lines]
    assert losses[-1] < losses[0]
    assert result.figure("dice").count == 16
    assert result.figure("dice", SOURCE) is not None
    assert "says nothing about CT" in result.note


def test_a_crop_is_the_same_each_time_and_holds_a_lesion():
    one, again, other = (make_crop(32, number, 5) for number in (3, 3, 4))
    np.testing.assert_array_equal(one.image, again.image)
    assert not np.array_equal(one.image, other.image)
    assert one.mask.any()
    assert one.image[one.mask].mean() > one.image[~one.mask].mean()
    assert 0 <= one.image.min() <= one.image.max() <= 1


def test_the_full_scale_trains_a_step_and_goes_on(tmp_path):
    """The CNN here; `bench/full_scale.py` does the same with all eight rows."""
    experiment = get("cnn8")
    samples = _samples(256)
    result = run_experiment(experiment, samples, DIGEST, tmp_path / "run", Order(Scale.FULL, 1))
    assert result.steps == 1
    assert result.parameters > 9e5
    again = Order(Scale.FULL, 1, resume=True)
    assert run_experiment(experiment, samples, DIGEST, tmp_path / "run", again) == result


def test_the_papers_network_builds_at_full_scale():
    """Other rows have parts of it; all are built and trained by the benchmark."""
    network = build(get("multitask_256").config(Scale.FULL).network)
    assert network.count_params() > 40e6


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    data = DrawnData(tmp_path_factory.mktemp("data"))
    generator = np.random.default_rng(0)
    for split in ("train", "val"):
        for label in ("COVID", "NonCOVID"):
            for number in range(12):
                figure = generator.integers(0, 255, (64, 64)).astype(np.uint8)
                data.add(
                    f"covid-ct/{split}/{label}/{number}.png", figure, label, f"{split}{number}"
                )
    return data.manifest()


def test_the_command_line_runs_a_row_skips_it_when_done_and_makes_its_table(manifest, tmp_path):
    out = tmp_path / "runs"
    command = ["experiments", "run", "cnn8", "--data", manifest, "--out", out, "--steps", "1"]
    done = lungwatch(*command)
    assert done.code == 0, done.stderr
    assert "cnn8: accuracy" in done.stderr
    again = lungwatch(*command)
    assert again.code != 0
    assert "holds a run already: add --resume" in again.stderr
    skipped = lungwatch(*command, "--resume")
    assert skipped.code == 0, skipped.stderr
    table = lungwatch("experiments", "table", "--runs", out, "--out", tmp_path / "results")
    assert table.code == 0, table.stderr
    assert "CNN, 8 layers" in table.stdout
    assert "not run" in table.stdout
    assert sorted(path.name for path in (tmp_path / "results" / "runs").iterdir()) == [
        "cnn8.csv",
        "cnn8.json",
    ]
    assert "1 optimizer steps of 4 images" in (tmp_path / "results" / "table2.md").read_text()


def test_the_command_line_refuses_what_cannot_be_run(manifest, tmp_path):
    given = ["--data", manifest, "--out", tmp_path / "runs"]
    unknown = lungwatch("experiments", "run", "unet", *given)
    assert unknown.code == ExitCode.SETTINGS
    assert "no experiment unet; there are t1_t2" in unknown.stderr
    scale = lungwatch("experiments", "run", "cnn8", *given, "--scale", "tiny")
    assert "--scale is full or reduced, not tiny" in scale.stderr
    several = lungwatch("experiments", "run", "baselines", *given, "--imagenet-weights", manifest)
    assert "name one experiment" in several.stderr
    empty = lungwatch("experiments", "table", "--runs", tmp_path)
    assert empty.code != 0
    assert "no finished experiment" in empty.stderr
    absent = lungwatch("experiments", "table", "--runs", tmp_path / "absent")
    assert absent.code == ExitCode.FAILED
    assert absent.stderr.strip().endswith("name it with --runs")
    assert not (tmp_path / "runs").exists()


def test_the_command_line_lists_the_rows():
    listed = lungwatch("experiments", "list").stdout
    assert "multitask_512" in listed
    assert "unet_plus_plus_3d" in listed
