"""An evaluation of generated images by a rule that looks at them: figures and decisions."""

import json
from dataclasses import replace

import numpy as np
import pytest
from support.bright_rule import SIZE, BrightRule, bright_samples, measured, sample, version_subject

from model.config import NetworkConfig
from model.data.dataset import Split
from model.errors import DatasetError, EvaluationError, RegistryError
from model.evaluation.decision import Decision, decide
from model.evaluation.evaluate import Origin
from model.evaluation.evaluation import OVERALL, ChosenHere, Evaluation, Level
from model.evaluation.subject import Subject, decision_of, evaluate_subject, find_subject


@pytest.fixture(scope="module")
def samples():
    return bright_samples()


def test_every_figure_is_given_by_source_and_overall(samples):
    evaluation = measured(samples)
    assert evaluation.sources == ("drawn", "mixed")
    mixed = [each for each in samples if each.source == "mixed"]
    peaks = np.array([each.image.max() for each in mixed])
    covid = np.array([each.covid for each in mixed])
    assert evaluation.figure("sensitivity", "mixed").value == pytest.approx(
        (peaks[covid] >= 0.5).mean()
    )
    assert evaluation.figure("specificity", "mixed").value == pytest.approx(
        (peaks[~covid] < 0.5).mean()
    )
    assert evaluation.figure("accuracy", "mixed").value == pytest.approx(
        ((peaks >= 0.5) == covid).mean()
    )
    assert evaluation.figure("brier", "mixed").value == pytest.approx(((peaks - covid) ** 2).mean())
    overall, within = evaluation.figure("auc"), evaluation.figure("auc_within_sources")
    assert within.value == evaluation.figure("auc", "mixed").value
    assert (overall.count, within.count) == (48, 40)
    for figure in evaluation.figures:
        if figure.interval is not None:
            assert figure.interval[0] <= figure.interval[1]


def test_dice_is_that_of_the_masks():
    cut = sample("half", 0.9, covid=True, drawn=True)
    half = np.zeros_like(cut.mask)
    half[8:16, 8:12] = True
    whole = sample("whole", 0.9, covid=True, drawn=True)
    evaluation = measured([replace(cut, mask=half), whole])
    assert evaluation.figure("dice").value == pytest.approx((2 / 3 + 1) / 2)
    assert evaluation.figure("dice_pooled").value == pytest.approx(2 * (32 + 64) / (96 + 128))


def test_unknown_patients_make_a_figure_slice_level(samples):
    evaluation = measured(samples)
    assert evaluation.figure("auc", "mixed").level is Level.PATIENT
    assert evaluation.figure("dice", "drawn").level is Level.SLICE
    assert evaluation.figure("dice", "drawn").interval is None, "four clusters are too few"
    assert evaluation.figure("auc").level is Level.SLICE
    assert evaluation.data.images_without_patient == 8
    assert evaluation.data.patients == 44


def test_what_the_data_cannot_give_is_absent_with_its_reason(samples):
    evaluation = measured(samples)
    reasons = {(each.name, each.source): each.reason for each in evaluation.absent}
    assert evaluation.figure("auc", "drawn") is None
    assert reasons["auc", "drawn"] == "images of one class only"
    assert reasons["specificity", "drawn"] == "no image without COVID-19"
    assert reasons["dice", "mixed"] == "no image has its lesions drawn"
    figures = {(each.name, each.source) for each in evaluation.figures}
    assert figures & set(reasons) == set()


@pytest.mark.parametrize(
    ("rule", "lacking", "kept"),
    [
        (BrightRule(classifies=False), "classification", "dice"),
        (BrightRule(segments=False), "segmentation", "auc"),
    ],
)
def test_a_network_with_one_task_is_measured_on_it(samples, rule, lacking, kept):
    evaluation = measured(samples, rule)
    assert evaluation.figure(kept) is not None
    assert any(lacking in each.reason for each in evaluation.absent)


def test_images_without_a_class_count_for_segmentation_only(samples):
    unknown = [replace(each, covid=None) for each in samples if each.mask is not None]
    evaluation = measured(unknown)
    assert evaluation.figure("dice") is not None
    assert evaluation.figure("auc") is None
    assert evaluation.roc == ()


def test_an_output_that_is_no_number_names_the_image(samples):
    broken = replace(samples[3], image=np.full((SIZE, SIZE), np.nan, np.float32))
    with pytest.raises(EvaluationError, match=r"bright rule.*mixed-3\.png is not a number"):
        measured([*samples[:3], broken])


def test_json_gives_the_same_evaluation_again(samples):
    evaluation = measured(samples)
    text = evaluation.to_json()
    assert Evaluation.from_json(text) == evaluation
    assert measured(samples).to_json() == text
    document = json.loads(text)
    assert set(document["figures"][0]) == {
        *("name", "source", "count", "value", "interval", "level")
    }


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"model": 3}'])
def test_what_is_no_evaluation_is_refused(text):
    with pytest.raises(EvaluationError, match="no evaluation"):
        Evaluation.from_json(text)


def test_an_evaluation_of_another_format_is_refused(samples):
    other = replace(measured(samples), format=99)
    with pytest.raises(EvaluationError, match="format 99"):
        Evaluation.from_json(other.to_json())


def test_the_operating_point_reaches_the_papers_sensitivity_on_sources_with_both_classes(samples):
    raw = np.array([each.image.max() for each in samples])
    decision = decide(samples, raw)
    assert decision.sources == ("mixed",)
    calibrated = decision.slices.calibration.apply(raw)
    ill = np.array([each.covid and each.source == "mixed" for each in samples])
    assert (calibrated[ill] >= decision.slices.operating_point).mean() >= 0.94
    one_class = [each for each in samples if each.source == "drawn"]
    with pytest.raises(DatasetError, match="slices of one source with and without COVID-19"):
        decide(one_class, raw[-8:])


def run_subject(tmp_path):
    return Subject("run", NetworkConfig(input_size=SIZE), tmp_path / "best.npz", "cd" * 32)


@pytest.mark.parametrize(
    ("split", "chosen_here"), [("validation", ChosenHere.YES), ("test", ChosenHere.NO)]
)
def test_a_run_is_decided_on_validation_and_says_where_that_flatters(
    samples, tmp_path, split, chosen_here
):
    rule = BrightRule()
    origin = Origin("m.csv", "0" * 64, split)
    evaluated = evaluate_subject(run_subject(tmp_path), samples, origin, slice_model=rule)
    assert evaluated.evaluation.decision.chosen_here is chosen_here
    assert "20 validation slices of mixed" in evaluated.evaluation.decision.chosen_on
    assert {each.split.value for each in evaluated.samples} == {split}
    assert rule.images == (20 if split == "validation" else 48), "no image is shown twice"


def test_a_run_without_a_mixed_source_is_judged_at_a_half(samples, tmp_path):
    test_only = [each for each in samples if each.split is Split.TEST]
    origin = Origin("m.csv", "", "test")
    evaluated = evaluate_subject(run_subject(tmp_path), test_only, origin, slice_model=BrightRule())
    assert evaluated.decision == Decision()
    assert evaluated.evaluation.decision.calibration == "none"


@pytest.mark.parametrize(
    ("recorded", "split", "chosen_here"),
    [
        ("1" * 64, "validation", ChosenHere.YES),
        ("1" * 64, "all", ChosenHere.YES),
        ("1" * 64, "test", ChosenHere.NO),
        ("2" * 64, "test", ChosenHere.UNKNOWN),
        ("", "validation", ChosenHere.UNKNOWN),
    ],
)
def test_a_version_says_whether_these_data_chose_its_operating_point(
    samples, tmp_path, recorded, split, chosen_here
):
    subject = version_subject(tmp_path, data_sha256=recorded, slice_operating_point=0.4)
    origin = Origin("m.csv", "1" * 64, split)
    evaluated = evaluate_subject(subject, samples, origin, slice_model=BrightRule())
    assert evaluated.evaluation.decision.chosen_here is chosen_here
    assert evaluated.evaluation.decision.operating_point == 0.4


def test_an_old_version_judges_slices_at_its_operating_point_of_studies(tmp_path):
    decision = decision_of(version_subject(tmp_path).entry.manifest)
    assert decision.operating_point == 0.7
    assert "for whole studies" in decision.chosen_on


def test_an_empty_split_names_the_ones_there_are(samples, tmp_path):
    origin = Origin("m.csv", "", "train")
    with pytest.raises(DatasetError, match=r"m\.csv: no image in the split train.*test: 28, val"):
        evaluate_subject(run_subject(tmp_path), samples, origin, slice_model=BrightRule())


def test_a_folder_that_is_no_network_says_what_was_looked_for(tmp_path):
    with pytest.raises(RegistryError, match=r"neither a version .* nor a training run"):
        find_subject(str(tmp_path), lambda: pytest.fail("a folder is not in the registry"))
    for config in (b"{}", b"\xff\xfe"):
        (tmp_path / "config.json").write_bytes(config)
        with pytest.raises(RegistryError, match="no finished training run"):
            find_subject(str(tmp_path), lambda: pytest.fail("a folder is not in the registry"))


def test_figures_are_looked_up_by_name_and_source(samples):
    evaluation = measured(samples)
    assert evaluation.figure("auc") == evaluation.figure("auc", OVERALL)
    assert evaluation.figure("no such figure") is None
