"""An evaluation of generated images by a rule that looks at them: figures, folder and report."""

import csv
import json
from dataclasses import replace
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from model.config import NetworkConfig
from model.data.dataset import Sample, Split
from model.errors import DatasetError, EvaluationError, RegistryError
from model.evaluation.cases import cases_of, overlay_png, worst_lesions, worst_probabilities
from model.evaluation.decision import Decision, decide
from model.evaluation.evaluate import Origin, evaluate
from model.evaluation.evaluation import OVERALL, ChosenHere, Evaluation, Level, ModelFacts
from model.evaluation.folder import write_evaluation
from model.evaluation.series import BASELINES, PROBABILITY, evaluate_series
from model.evaluation.slice_model import BatchOutput
from model.evaluation.subject import Subject, decision_of, evaluate_subject, find_subject
from model.pooling import Calibration, Pooling
from model.prediction import LesionMask, ModelVersion, Prediction
from model.registry import Manifest, RegistryEntry
from model.volume import CtVolume

SIZE = 32
FACTS = ModelFacts("rule-1.0.0", "ab" * 32, ("segmentation", "classification"), SIZE)
HALF = Decision(Calibration(), 0.5, 0.5)


class BrightRule:
    """Calls bright pixels lesion, and the brightest pixel's value the probability."""

    title = "bright rule"

    def __init__(self, *, classifies=True, segments=True):
        self.classifies, self.segments, self.images = classifies, segments, 0

    def run(self, images):
        self.images += len(images)
        probability = images.max(axis=(1, 2)) if self.classifies else None
        return BatchOutput(probability, images if self.segments else None)


def sample(name, peak, *, covid, source="mixed", split=Split.TEST, patient=None, drawn=False):
    """Return an image with one square of this brightness, drawn as lesion if wished."""
    image = np.zeros((SIZE, SIZE), np.float32)
    image[8:16, 8:16] = peak
    mask = image > 0 if drawn else None
    known = f"{source}:{name}" if patient is None else patient
    return Sample(f"{name}.png", source, split, known, covid, image, mask)


@pytest.fixture(scope="module")
def samples():
    generator = np.random.default_rng(0)
    drawn = []
    for number in range(40):
        covid = number % 2 == 0
        peak = float(np.clip(generator.normal(0.7 if covid else 0.35, 0.2), 0.01, 0.99))
        split = Split.TEST if number < 20 else Split.VALIDATION
        drawn.append(sample(f"mixed-{number}", peak, covid=covid, split=split))
    for number in range(8):
        patient = f"drawn:cluster {number // 2}"
        drawn.append(
            sample(f"drawn-{number}", 0.9, covid=True, source="drawn", patient=patient, drawn=True)
        )
    return tuple(drawn)


def measured(samples, rule=None, decision=HALF):
    return evaluate(rule or BrightRule(), samples, decision, model=FACTS)


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


def version_subject(tmp_path, **values):
    manifest = Manifest(
        name="rule",
        version="1.0.0",
        sha256="cd" * 32,
        network=NetworkConfig(input_size=SIZE),
        calibration=Calibration(2.0, 0.1),
        pooling=Pooling(),
        operating_point=0.7,
        lesion_threshold=0.5,
        licence="",
        data="",
    )
    manifest = replace(manifest, **values)
    entry = RegistryEntry(manifest, tmp_path)
    return Subject("rule-1.0.0", manifest.network, tmp_path / "weights.npz", "cd" * 32, entry)


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


class Links(HTMLParser):
    """Collects everything a page would load, and the text it shows."""

    def __init__(self):
        super().__init__()
        self.sources, self.tags, self.text = [], [], ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sources += [value for name, value in attrs if name in {"src", "href"}]

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def written(samples, tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluation")
    (folder / "cases").mkdir()
    (folder / "cases" / "worst_lesions_9.png").write_bytes(b"of an earlier evaluation")
    odd = replace(samples[0], path="<script>alert(1)</script>&.png", covid=False)
    origin = Origin("my <b>data</b>.csv", "0" * 64, "all", ChosenHere.YES)
    subject = version_subject(folder, licence="non-commercial <i>", data_sha256="0" * 64)
    evaluated = evaluate_subject(subject, [odd, *samples[1:]], origin, slice_model=BrightRule())
    write_evaluation(folder, evaluated.evaluation, evaluated, "Not <u>evaluated</u>.")
    return folder, evaluated


def test_the_report_is_one_file_that_loads_nothing(written):
    page = Links()
    page.feed((written[0] / "report.html").read_text())
    assert page.sources
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert {"script", "i", "u", "link", "iframe", "object"} & set(page.tags) == set()
    assert "<script>alert(1)</script>&.png" in page.text, "shown as text, as it is"


def test_the_title_page_says_what_the_figures_are_worth(written):
    page = Links()
    page.feed((written[0] / "report.html").read_text())
    for words in (
        "Research, unverified",
        "my <b>data</b>.csv",
        "these data also chose calibration and operating point",
        "the images that trained the network",
        "the patient of 8 images is unknown",
        "Not <u>evaluated</u>.",
        "non-commercial <i>",
        "rule-1.0.0",
    ):
        assert words in page.text, words


def test_the_folder_holds_everything_and_nothing_stale(written):
    folder, evaluated = written
    assert Evaluation.from_json((folder / "evaluation.json").read_text()) == evaluated.evaluation
    names = {path.name for path in folder.iterdir()}
    assert names == {
        *("cases", "evaluation.json", "images.csv", "reliability.png", "report.html", "roc.png")
    }
    assert cv2.imread(str(folder / "roc.png")).shape[0] > 300
    assert len(list((folder / "cases").glob("worst_lesions_*.png"))) == 8
    rows = list(csv.DictReader((folder / "images.csv").open()))
    assert len(rows) == 48
    row = next(row for row in rows if row["path"] == "drawn-0.png")
    assert (row["covid"], row["positive"], row["dice"]) == ("1", "1", "1.000000")
    assert row["patient_known"] == "0"


def test_the_worst_cases_come_first(written):
    cases = cases_of(written[1])
    wrong = [cases[index] for index in worst_probabilities(cases, count=99)]
    assert all(case.positive != case.covid for case in wrong)
    errors = [case.error for case in wrong]
    assert errors == sorted(errors, reverse=True)
    dice = [cases[index].dice for index in worst_lesions(cases, count=99)]
    assert dice == sorted(dice)
    assert len(dice) == 8


def test_an_overlay_outlines_what_was_drawn_and_what_was_said():
    drawn = sample("drawn", 0.2, covid=True, drawn=True)
    said = np.zeros((SIZE, SIZE), bool)
    said[20:28, 20:28] = True
    picture = cv2.imdecode(np.frombuffer(overlay_png(drawn, said), np.uint8), cv2.IMREAD_COLOR)
    plain, marked = np.split(picture.astype(int), 2, axis=1)
    assert np.ptp(plain, axis=2).max() == 0, "the left half is grey"
    assert np.ptp(marked, axis=2).max() > 50, "the right half is not"
    blue = marked[..., 0] - marked[..., 2]
    rows, columns = np.where(blue > 50)
    assert {rows.min() // 8, columns.min() // 8} <= {7, 8}, "blue lies where it was drawn"
    rows, _ = np.where(blue < -50)
    assert rows.min() // 8 >= 19, "orange lies where it was said"


@pytest.fixture
def looked_at():
    """A series whose first half is infected, which the network sees and no baseline can."""
    hounsfield = np.full((40, 96, 128), -1000, np.int16)
    hounsfield[:, 8:-8, 8:-8] = 40
    hounsfield[:, 20:-20, 20:56] = hounsfield[:, 20:-20, 72:108] = -850
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0, 0, 3], [0, 3, 0], [5, 0, 0]])
    volume = CtVolume(hounsfield, (5.0, 3.0, 3.0), affine)
    infected = np.arange(40) < 20
    prediction = Prediction(
        model=ModelVersion("rule", "1.0.0", "ab" * 32),
        covid_probability=0.8,
        operating_point=0.5,
        screened_slices=tuple(range(40)),
        slice_probabilities=tuple(np.where(infected, 0.9, 0.1)),
        lesion_mask=LesionMask(np.zeros(volume.shape, np.uint8)),
        findings=(),
        lung_volume_ml=3000.0,
    )
    return volume, prediction, infected


def test_a_series_is_compared_with_what_sees_no_disease(looked_at):
    volume, prediction, infected = looked_at
    series = evaluate_series("drawn", volume, prediction, infected)
    scores = {row.score: row.auc for row in series.with_lung}
    assert scores[PROBABILITY] == 1.0
    assert [scores[name] for name in BASELINES] == pytest.approx([0.5, 0.5])
    assert series.above_baselines()
    assert series.all_slices[0].interval is None, "four blocks of neighbours are too few"


def test_a_series_without_labels_has_its_probability_only(looked_at):
    volume, prediction, infected = looked_at
    series = evaluate_series("drawn", volume, prediction)
    assert (series.probability, series.positive) == (0.8, True)
    assert series.with_lung == ()
    assert series.above_baselines() is None
    one_class = evaluate_series("drawn", volume, prediction, np.ones_like(infected))
    assert one_class.all_slices == ()


def test_series_stand_in_json_and_report(samples, looked_at, tmp_path):
    volume, prediction, infected = looked_at
    series = evaluate_series("<drawn>", volume, prediction, infected)
    evaluation = replace(measured(samples), series=(series,))
    write_evaluation(tmp_path, evaluation)
    assert Evaluation.from_json((tmp_path / "evaluation.json").read_text()).series == (series,)
    page = Links()
    page.feed((tmp_path / "report.html").read_text())
    assert "Series <drawn>" in page.text
    assert "baseline: lung area" in page.text
    assert "better than lung area and place" in page.text


def test_figures_are_looked_up_by_name_and_source(samples):
    evaluation = measured(samples)
    assert evaluation.figure("auc") == evaluation.figure("auc", OVERALL)
    assert evaluation.figure("no such figure") is None
