"""What an evaluation writes: the report page, its folder, the overlays, the series."""

import csv
from dataclasses import replace
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest
from support.bright_rule import SIZE, BrightRule, bright_samples, measured, sample, version_subject

from model.evaluation.cases import cases_of, overlay_png, worst_lesions, worst_probabilities
from model.evaluation.evaluate import Origin
from model.evaluation.evaluation import ChosenHere, Evaluation
from model.evaluation.folder import write_evaluation
from model.evaluation.series import BASELINES, PROBABILITY, evaluate_series
from model.evaluation.subject import evaluate_subject
from model.prediction import LesionMask, ModelVersion, Prediction
from model.volume import CtVolume


@pytest.fixture(scope="module")
def samples():
    return bright_samples()


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
