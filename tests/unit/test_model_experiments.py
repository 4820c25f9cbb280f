"""The rows of the tables: their settings, their data's parts, their figures and their pages."""

import json
from dataclasses import replace

import numpy as np
import pytest

from model.config import Architecture, Normalisation, Task
from model.data.dataset import Sample, Split
from model.errors import ConfigError, DatasetError, TrainingError
from model.experiments import get, names, select
from model.experiments.experiment import BUDGETS, Scale, Table
from model.experiments.figures import measure
from model.experiments.held_out import parts_of, shares
from model.experiments.result import MeasuredFigure, RunResult
from model.experiments.table import (
    collect,
    columns,
    lines,
    markdown,
    order,
    read_results,
    rows,
    write_tables,
)

TABLE2 = (
    "t1_t2",
    "t1_t3",
    "t2_t3",
    "multitask_512",
    "multitask_256",
    "unet_512",
    "unet_256",
    "cnn8",
)


def test_table_2_has_the_papers_eight_rows():
    assert names(Table.TABLE2) == TABLE2
    assert len(names(Table.BASELINES)) == 10
    assert {row.name for row in select("table2")} == set(TABLE2)
    assert [row.name for row in select("vgg16")] == ["vgg16"]
    with pytest.raises(ConfigError, match="no experiment unet; there are t1_t2"):
        get("unet")


@pytest.mark.parametrize("name", TABLE2)
def test_full_scale_is_the_papers(name):
    config = get(name).config(Scale.FULL)
    assert (config.batch_size, config.learning_rate, config.patience) == (4, 1e-4, 35)
    assert config.epochs == (1500 if name == "cnn8" else 500)
    assert config.network.input_size == (512 if name.endswith("512") else 256)
    assert config.network.normalisation is Normalisation.NONE
    if name != "cnn8":
        assert config.network.base_filters == 64


def test_every_row_is_reduced_alike():
    configs = {name: get(name).config(Scale.REDUCED) for name in TABLE2}
    alike = {
        replace(config, network=configs["t1_t2"].network, patience=1, epochs=config.epochs)
        for config in configs.values()
    }
    assert len(alike) == 1
    budget = BUDGETS[Table.TABLE2]
    assert {c.epochs * c.steps_per_epoch for c in configs.values()} == {budget.steps}
    for name, config in configs.items():
        assert config.network.input_size == (256 if name.endswith("512") else 128)
        assert config.network.normalisation is Normalisation.BATCH
        assert config.network.tasks == get(name).full.network.tasks


def test_steps_can_be_named():
    config = get("cnn8").config(Scale.FULL, 250)
    assert (config.epochs, config.steps_per_epoch, config.patience) == (3, 100, 3)
    assert get("cnn8").config(Scale.FULL, 1).steps_per_epoch == 1


def test_only_a_row_of_one_run_can_be_trained_as_such():
    assert get("densenet169").one_run() == get("densenet169").config(Scale.FULL)
    with pytest.raises(ConfigError, match="use `lungwatch experiments run two_stage`"):
        get("two_stage").one_run()


def test_a_row_may_only_have_the_tasks_of_its_network():
    for name in names():
        config = get(name).config(Scale.FULL)
        assert config.network.tasks, name
        if config.network.architecture is not Architecture.MULTITASK:
            assert Task.RECONSTRUCTION not in config.network.tasks


def _sample(number, split, *, covid=True, source="figures", mask=None, patient=None):
    return Sample(
        path=f"{source}/{number}",
        source=source,
        split=split,
        patient=patient or f"{source}:{number}",
        covid=covid,
        image=np.zeros((8, 8), np.float32),
        mask=mask,
    )


def test_reports_on_the_validation_split_and_chooses_within_training():
    samples = [
        _sample(i, Split.TRAIN, patient=f"p{i // 2}", covid=bool(i % 4 < 2)) for i in range(100)
    ]
    samples += [_sample(i, Split.VALIDATION) for i in range(100, 110)]
    parts = parts_of(samples)
    assert {sample.path for sample in parts.reported} == {s.path for s in samples[100:]}
    chosen = {s.patient for s in parts.fitted if s.split is Split.VALIDATION}
    trained = {s.patient for s in parts.fitted if s.split is Split.TRAIN}
    assert not chosen & trained
    assert 3 <= len(chosen) <= 20
    assert "validation split" in parts.how


def test_reports_on_the_test_split_where_there_is_one():
    samples = [_sample(i, split) for i, split in enumerate(("train", "validation", "test"))]
    samples = [replace(sample, split=Split(sample.split)) for sample in samples]
    parts = parts_of(samples)
    assert [sample.path for sample in parts.reported] == ["figures/2"]
    assert [sample.split for sample in parts.fitted] == [Split.TRAIN, Split.VALIDATION]
    with pytest.raises(DatasetError, match="test or validation split"):
        parts_of(samples[:1])


def test_masks_are_drawn_more_often_and_the_rest_as_they_are():
    mask = np.ones((8, 8), bool)
    samples = [_sample(i, Split.TRAIN, source="masked", mask=mask) for i in range(10)]
    samples += [_sample(i, Split.TRAIN) for i in range(60)]
    samples += [_sample(i, Split.TRAIN, source="other", covid=False) for i in range(30)]
    drawn = dict(shares(samples, 0.25))
    assert drawn == pytest.approx(
        {"masked/covid": 0.25, "figures/covid": 0.5, "other/non-covid": 0.25}
    )
    assert shares(samples[10:], 0.25) == ()


def test_figures_are_those_of_the_formulas():
    mask = np.zeros((8, 8), bool)
    mask[:4] = True
    samples = [_sample(i, Split.TRAIN, covid=i < 6) for i in range(12)]
    samples += [_sample(i, Split.TRAIN, source="masked", mask=mask) for i in range(6)]
    lesions = np.zeros((18, 8, 8, 1), np.float32)
    lesions[12:, :2] = 0.9
    probability = np.array([0.9] * 5 + [0.2] + [0.1] * 4 + [0.7, 0.3] + [0.4] * 6, np.float32)
    found = {
        (figure.name, figure.source): figure
        for figure in measure(samples, {"segmentation": lesions, "classification": probability})
    }
    assert found["dice", "both classes"].value == pytest.approx(2 / 3)
    assert found["dice", "masked"].count == 6
    assert found["accuracy", "both classes"].value == pytest.approx(10 / 12)
    assert found["sensitivity", "figures"].value == pytest.approx(5 / 6)
    assert found["specificity", "both classes"].value == pytest.approx(5 / 6)
    assert found["auc", "both classes"].value == pytest.approx(34 / 36)
    assert found["sensitivity", "masked"].value == 0
    assert ("auc", "masked") not in found
    auc = found["auc", "both classes"]
    assert auc.low is not None
    assert auc.low < auc.value <= auc.high <= 1


def _result(name, **values):
    figures = tuple(
        MeasuredFigure(figure, "both classes", 13, 12, value, value - 0.05, value + 0.05)
        for figure, value in values.items()
    )
    return RunResult(
        name, Scale.REDUCED, 128, 1000, 600, 8, 1, 100, 4, 0.5, 120.0, 130.0, "ab" * 32, "how",
        figures,
    )  # fmt: skip


def test_a_result_is_read_as_it_was_written(tmp_path):
    result = _result("t1_t2", dice=0.5)
    result.write(tmp_path / "result.json")
    assert RunResult.read(tmp_path / "result.json") == result
    known = replace(result, git_commit="c" * 40, learning_rate=1e-3, masked_share=0.25)
    known.write(tmp_path / "result.json")
    assert RunResult.read(tmp_path / "result.json") == known
    (tmp_path / "result.json").write_text('{"experiment": "t1_t2"}')
    with pytest.raises(TrainingError, match=r"result\.json: no result of an experiment"):
        RunResult.read(tmp_path / "result.json")


def test_the_table_stands_beside_the_papers(tmp_path):
    results = {"t1_t2": _result("t1_t2", dice=0.5), "cnn8": _result("cnn8", auc=0.8)}
    cells = rows(Table.TABLE2, results)
    assert [len(row) for row in cells] == [len(columns())] * 8
    assert cells[0][:3] == ["T1 & T2", "0.6894", "0.500 (0.450 to 0.550)"]
    assert cells[7][9:] == ["0.83", "0.800 (0.750 to 0.850)"]
    assert cells[1][2:5] == ["", "0.76", "not run"]
    assert ["U-Net 256 x 256", "Dice", "0.6909", "not run"] in lines(Table.TABLE2, results)
    assert len(lines(Table.TABLE2, results)) == 6 + 4 * 5
    assert write_tables(results, tmp_path) == [tmp_path / "table2.md", tmp_path / "baselines.md"]
    assert "| ResNet50 | " in (tmp_path / "baselines.md").read_text()
    page = (tmp_path / "table2.md").read_text()
    assert "| T1 & T2 | 0.6894 | 0.500 (0.450 to 0.550) |" in page
    assert "600 optimizer steps of 8 images" in page
    assert "| T1 & T2 | 128 | 1,000 | 600 | 400 | 2.0 |" in page


def test_results_that_do_not_say_what_made_them_are_read(tmp_path):
    _result("t1_t2", dice=0.5).write(tmp_path / "result.json")
    values = json.loads((tmp_path / "result.json").read_text())
    for name in ("git_commit", "learning_rate", "masked_share"):
        del values[name]
    (tmp_path / "result.json").write_text(json.dumps(values))
    old = RunResult.read(tmp_path / "result.json")
    assert (old.git_commit, old.learning_rate, old.masked_share) == ("", None, None)
    page = markdown(Table.TABLE2, {"t1_t2": old})
    assert "Adam with a rate falling along a cosine, data with" in page
    assert "commit" not in page


def test_a_page_tells_what_its_runs_were_made_with():
    made = {"learning_rate": 3e-4, "masked_share": 0.5}
    results = {
        "t1_t2": replace(_result("t1_t2", dice=0.5), git_commit="b" * 40, **made),
        "cnn8": replace(_result("cnn8", auc=0.8), git_commit="a" * 40 + "-dirty", **made),
    }
    page = markdown(Table.TABLE2, results)
    assert "Adam with 0.0003 falling along a cosine, 50% of the images drawn from those" in page
    assert f"with the code of commit `{'a' * 12}-dirty`, `{'b' * 12}`." in page


def test_a_row_that_calls_everything_one_class_is_said_to_have_learned_nothing():
    results = {
        "vgg16": _result("vgg16", sensitivity=0.0, specificity=1.0, auc=0.5),
        "capsule": _result("capsule", sensitivity=1.0, specificity=0.0, auc=0.6),
        "resnet50": _result("resnet50", sensitivity=1.0, specificity=0.1, auc=0.6),
        "two_stage": _result("two_stage", dice=0.5),
    }
    page = markdown(Table.BASELINES, results)
    assert "learned nothing within this budget: VGG16, Capsule network." in page
    assert "learned nothing" not in markdown(Table.BASELINES, {"two_stage": results["two_stage"]})


def test_says_how_far_the_order_agrees_and_how_sure_that_is():
    results = {
        "t1_t2": _result("t1_t2", dice=0.5),
        "t2_t3": _result("t2_t3", dice=0.7),
        "unet_256": _result("unet_256", dice=0.72),
    }
    told = order(results, "dice")
    assert "2 of 3 pairs of rows stand in the paper's order" in told
    assert "In 2 of them the two intervals do not overlap, and 2 of those agree" in told
    assert "Against the paper" not in told
    assert order(results, "auc") == ""
    turned = results | {"unet_256": _result("unet_256", dice=0.9)}
    assert "Against the paper's order beyond the intervals: U-Net 256 x 256 above T2 & T3." in (
        order(turned, "dice")
    )


def test_collects_finished_runs_with_the_epochs_of_each_stage(tmp_path):
    for name, stages in (("t1_t2", ("",)), ("two_stage", ("lesions", "classes"))):
        for stage in stages:
            (tmp_path / "runs" / name / stage).mkdir(parents=True)
            (tmp_path / "runs" / name / stage / "metrics.csv").write_text(f"epoch\n{name}{stage}\n")
        _result(name, dice=0.5).write(tmp_path / "runs" / name / "result.json")
    (tmp_path / "runs" / "cnn8").mkdir()
    collect(tmp_path / "runs", tmp_path / "results")
    assert sorted(path.name for path in (tmp_path / "results").iterdir()) == [
        "t1_t2.csv",
        "t1_t2.json",
        "two_stage-classes.csv",
        "two_stage-lesions.csv",
        "two_stage.json",
    ]
    assert list(read_results(tmp_path / "results")) == ["t1_t2", "two_stage"]
    assert read_results(tmp_path / "runs") == read_results(tmp_path / "results")
