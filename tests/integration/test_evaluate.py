"""`lungwatch evaluate` with real networks: versions, runs, whole series, and what is wrong."""

import json
import re
import shutil
from dataclasses import replace

import keras
import numpy as np
import pytest
from playwright.sync_api import sync_playwright
from support.command import lungwatch
from support.networks import TINY, draw_manifest, write_version
from support.services import require

from dicom_node.reading.reader import read_ct_series
from model.architectures import build
from model.config import Task, TrainingConfig
from model.data.dataset import Split, load_samples
from model.data.fingerprints import (
    fingerprints_of,
    read_fingerprints,
    seen_by_version,
    training_fingerprints,
)
from model.data.manifest import read_manifest
from model.errors import DatasetError, EvaluationError, RegistryError
from model.evaluation.evaluate import Origin
from model.evaluation.evaluation import ChosenHere, Evaluation
from model.evaluation.seen import images_seen
from model.evaluation.series import LUNG_AREA, NEARNESS
from model.evaluation.subject import (
    evaluate_subject,
    find_subject,
    subject_of_run,
    subject_of_version,
)
from model.evaluation.validation import predict_samples
from model.files import file_sha256
from model.registry import TRAINING_DATA_FILE, Registry, read_entry
from model.release import (
    Identity,
    ReleaseOptions,
    _training_command,
    release_run,
    seen_by_run,
)
from model.weights_file import load_weights, round_weights, save_weights
from worker.versions.labelled_series import SliceLabels, look_at_series, series_predictor

LABELS = "series/covidctmd-labels/P001-slice-labels.csv"


@pytest.fixture(scope="module")
def version(tmp_path_factory):
    return write_version(tmp_path_factory.mktemp("registry"), "1.0.0")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """Data for testing, drawn apart from those that made any network here."""
    return draw_manifest(tmp_path_factory.mktemp("data") / "manifest.csv", count=8)


def write_run(folder, network=TINY, seed=1):
    """Write what training leaves behind: settings and the best weights."""
    folder.mkdir(parents=True)
    keras.utils.set_random_seed(seed)
    save_weights(build(network), folder / "best.npz")
    (folder / "config.json").write_text(TrainingConfig(network=network).to_json())
    return folder


def broken_run(folder):
    """Write a run whose weights are not numbers, as after a divergence nobody noticed."""
    weights = write_run(folder) / "best.npz"
    with np.load(weights) as stored:
        arrays = {name: np.full_like(stored[name], np.nan) for name in stored.files}
    np.savez(weights, **arrays)
    return folder


@pytest.fixture(scope="module")
def validation_manifest(tmp_path_factory):
    path = tmp_path_factory.mktemp("validation") / "manifest.csv"
    return draw_manifest(path, split=Split.VALIDATION, count=8)


def test_a_version_is_measured_from_the_command_line(version, manifest, tmp_path):
    options = ("--data", manifest, "--split", "test", "--out", tmp_path)
    done = lungwatch("evaluate", version.folder, *options, "--json")
    assert done.code == 0, done.stderr
    assert done.stdout == (tmp_path / "evaluation.json").read_text()
    evaluation = Evaluation.from_json(done.stdout)
    assert evaluation.model.sha256 == version.manifest.sha256
    assert evaluation.data.split == "test"
    assert evaluation.figure("auc", "drawn").count == 16
    assert evaluation.figure("dice").count == 8
    assert evaluation.figure("dice").interval is not None
    names = {path.name for path in tmp_path.iterdir()}
    assert {"report.html", "images.csv", "roc.png", "reliability.png", "cases"} <= names
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=require("chromium"), args=["--no-sandbox"]
        )
        page = browser.new_page()
        complaints, asked = [], []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("request", lambda request: asked.append(request.url))
        page.goto((tmp_path / "report.html").as_uri())
        assert "Research, unverified" in page.locator(".banner").inner_text()
        drawn = page.evaluate("[...document.images].every(each => each.naturalWidth > 100)")
        browser.close()
    assert drawn, "every picture in the report is shown"
    assert complaints == []
    assert [url for url in asked if url.startswith("http")] == []


def test_a_split_that_is_empty_leaves_nothing_behind(version, manifest, tmp_path):
    options = ("--data", manifest, "--out", tmp_path / "out")
    done = lungwatch("evaluate", version.folder, *options)
    assert done.code == 1
    assert "no image in the split validation; it has test: 16" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "words", "code"),
    [
        ((), "--data, --series or both", 2),
        (("--data", "{manifest}", "--slice-labels", "{manifest}"), "exactly one --series", 2),
        (("--data", "{manifest}"), "no model absent in the registry", 8),
    ],
)
def test_a_command_that_cannot_work_says_why(manifest, tmp_path, options, words, code):
    given = [option.format(manifest=manifest) for option in options]
    done = lungwatch("evaluate", "absent", "--out", tmp_path, *given)
    assert done.code == code
    assert words in re.sub(r"[\s│]+", " ", done.stderr)


def test_a_run_is_measured_on_what_its_network_says(validation_manifest, tmp_path):
    subject = find_subject(str(write_run(tmp_path / "run")), Registry)
    samples = load_samples(validation_manifest, 32)
    origin = Origin("manifest.csv", "", "validation")
    evaluated = evaluate_subject(subject, samples, origin)
    network = build(TINY)
    load_weights(network, subject.weights)
    outputs = predict_samples(network, samples)
    np.testing.assert_allclose(
        evaluated.outputs.probability, outputs["classification"][:, 0], atol=1e-5
    )
    lesions = outputs["segmentation"][..., 0] >= 0.5
    assert (evaluated.outputs.lesions != lesions).mean() < 1e-3
    assert evaluated.evaluation.decision.chosen_here is ChosenHere.YES
    assert evaluated.evaluation.model.title == str(tmp_path / "run")


@pytest.mark.parametrize(
    ("task", "given", "lacking"),
    [(Task.SEGMENTATION, "dice", "auc"), (Task.CLASSIFICATION, "auc", "dice")],
)
def test_a_run_with_one_task_is_measured_on_it(validation_manifest, tmp_path, task, given, lacking):
    subject = subject_of_run(write_run(tmp_path / "run", replace(TINY, tasks=(task,))))
    samples = load_samples(validation_manifest, 32)
    evaluation = evaluate_subject(subject, samples, Origin(split="validation")).evaluation
    assert evaluation.figure(given) is not None
    assert evaluation.figure(lacking) is None
    with pytest.raises(EvaluationError, match="whole series are screened by networks with both"):
        series_predictor(subject)


def test_a_network_that_reconstructs_only_is_refused(validation_manifest, tmp_path):
    network = replace(TINY, tasks=(Task.RECONSTRUCTION,))
    subject = subject_of_run(write_run(tmp_path / "run", network))
    samples = load_samples(validation_manifest, 32)
    with pytest.raises(EvaluationError, match="reconstructs images only"):
        evaluate_subject(subject, samples, Origin(split="validation"))


def test_weights_that_are_no_numbers_are_named(validation_manifest, tmp_path):
    run = broken_run(tmp_path / "run")
    samples = load_samples(validation_manifest, 32)
    with pytest.raises(EvaluationError, match=r"run: its output for p-1-0\.png is not a number"):
        evaluate_subject(subject_of_run(run), samples, Origin(split="validation"))


@pytest.fixture(scope="module")
def released(validation_manifest, tmp_path_factory):
    root = tmp_path_factory.mktemp("released")
    run = write_run(root / "run")
    (run / "environment.json").write_text(json.dumps({"manifest_sha256": "3" * 64}))
    stages = []
    entry = release_run(
        run,
        root / "registry",
        Identity("rounded", "1.0.0", "drawn"),
        lambda size: load_samples(validation_manifest, size),
        ReleaseOptions(
            "3" * 64,
            half_precision=True,
            seen=training_fingerprints(validation_manifest),
            data_file=str(validation_manifest),
        ),
        lambda stage, done: stages.append((stage, done)),
    )
    return run, entry, stages


def test_rounded_weights_take_half_the_room_and_change_little(released):
    run, entry, _ = released
    with np.load(entry.folder / "weights.npz") as stored:
        kinds = {stored[name].dtype for name in stored.files if stored[name].ndim > 1}
        flat = {stored[name].dtype for name in stored.files if stored[name].ndim == 1}
    assert kinds == {np.dtype(np.float16)}
    assert flat == {np.dtype(np.float32)}
    exact, rounded = build(TINY), build(TINY)
    load_weights(exact, run / "best.npz")
    load_weights(rounded, entry.folder / "weights.npz")
    assert {weight.dtype for weight in rounded.weights} == {"float32"}
    images = np.random.default_rng(0).random((4, 32, 32, 1), np.float32)
    for name, values in exact.predict(images, verbose=0).items():
        np.testing.assert_allclose(rounded.predict(images, verbose=0)[name], values, atol=0.01)


def test_a_rounded_release_says_so_and_is_measured_after_rounding(released, validation_manifest):
    _, entry, stages = released
    assert entry.manifest.precision == "float16"
    assert "rounded to float16" in entry.model_card
    measured = Evaluation.from_json((entry.folder / "evaluation.json").read_text())
    assert measured.model.sha256 == entry.manifest.sha256 == subject_of_version(entry).sha256
    samples = load_samples(validation_manifest, 32)
    origin = Origin("", "3" * 64, "validation")
    again = evaluate_subject(subject_of_version(entry), samples, origin).evaluation
    assert again.figures == measured.figures
    assert again.decision.chosen_here is ChosenHere.YES
    assert ("running the network on the validation data", 1.0) in stages


def test_a_release_names_the_list_of_what_it_has_seen(released):
    _, entry, _ = released
    listed = entry.folder / TRAINING_DATA_FILE
    assert entry.manifest.training_data_sha256 == file_sha256(listed)
    assert seen_by_version(entry).pixels
    assert read_entry(entry.folder).manifest == entry.manifest


def test_a_release_stores_no_path_of_its_machine(released, validation_manifest, tmp_path_factory):
    run, entry, _ = released
    measured = Evaluation.from_json((entry.folder / "evaluation.json").read_text())
    assert (measured.model.title, measured.data.manifest) == (entry.title, validation_manifest.name)
    assert f"--data {validation_manifest.name} --out" in entry.manifest.training_command
    machine = str(tmp_path_factory.getbasetemp())
    assert str(run).startswith(machine)
    for file in entry.folder.iterdir():
        assert machine.encode() not in file.read_bytes(), file.name


def test_images_a_version_was_made_from_are_counted_and_told(version, manifest, tmp_path):
    listed = read_manifest(manifest)
    own = [row for row in listed.rows if row.covid]
    renamed = [replace(row, patient="") for row in listed.rows if not row.covid]
    fingerprints_of(listed, own).write(tmp_path / "seen.json")
    seen = read_fingerprints(tmp_path / "seen.json")
    samples = load_samples(manifest, 32)
    assert images_seen(manifest, samples, seen) == len(own) == 8
    files_only = replace(fingerprints_of(listed, renamed), patients=frozenset())
    assert images_seen(manifest, samples, files_only) == 8
    copied = tmp_path / version.folder.name
    shutil.copytree(version.folder, copied)
    seen.write(copied / TRAINING_DATA_FILE)
    options = ("--data", manifest, "--split", "test", "--out", tmp_path / "out")
    done = lungwatch("evaluate", "tiny", *options, model_dir=tmp_path)
    assert done.code == 0, done.stderr
    assert re.search(r"AUC +│ drawn +│ 16", done.stdout)
    assert "unverified" in done.stdout
    assert str(tmp_path / "out" / "report.html") in done.stderr
    evaluation = Evaluation.from_json((tmp_path / "out" / "evaluation.json").read_text())
    assert evaluation.data.images_seen == 8
    assert "8 of 16 images" in (tmp_path / "out" / "report.html").read_text()


def test_the_training_command_names_the_weights_a_run_began_with(tmp_path):
    assert _training_command(tmp_path, "a b.csv").endswith("--data 'a b.csv' --out RUN")
    began = [{"file": "/home/somebody/old.npz"}, {"file": "stage-1.npz"}]
    (tmp_path / "environment.json").write_text(json.dumps({"start_from": began}))
    assert _training_command(tmp_path, "MANIFEST.csv") == (
        "lungwatch train training.json --data MANIFEST.csv --start-from old.npz "
        "--start-from stage-1.npz --out RUN"
    )
    (tmp_path / "environment.json").write_text("{")
    with pytest.raises(RegistryError, match=r"environment\.json does not say"):
        _training_command(tmp_path, "MANIFEST.csv")


def made_from(run, manifest, *first):
    """Write what training says of a run's origin."""
    origin = {
        "manifest": str(manifest),
        "manifest_sha256": file_sha256(manifest),
        "start_from": [{"file": str(each), "sha256": file_sha256(each)} for each in first],
    }
    (run / "environment.json").write_text(json.dumps(origin))
    return run


def test_no_data_are_released_but_those_of_the_run(validation_manifest, tmp_path):
    other = draw_manifest(tmp_path / "other" / "other.csv", split=None, count=1, patient="o")
    run = made_from(write_run(tmp_path / "run"), validation_manifest)
    release = ("model", "release", run, "--out", tmp_path / "registry", "--name", "own")
    named = ("--version", "1.0.0", "--licence", "drawn")
    done = lungwatch(*release, *named, "--data", other, timeout=300)
    assert done.code != 0
    assert "was trained on another manifest" in done.stderr
    assert not (tmp_path / "registry").exists()
    samples = load_samples(validation_manifest, 32)
    (run / "environment.json").unlink()
    with pytest.raises(RegistryError, match="does not say which manifest it was trained on"):
        release_run(run, tmp_path, Identity("a", "1", ""), lambda _: samples, ReleaseOptions("3"))


def test_what_the_first_weights_had_seen_is_seen(validation_manifest, tmp_path):
    older = draw_manifest(tmp_path / "older" / "older.csv", split=None, count=1, patient="o")
    first = made_from(write_run(tmp_path / "first"), older)
    version = write_version(tmp_path / "registry", "1.0.0", trained_on=older, seed=3)
    registry = Registry([tmp_path / "registry"])
    own, before = training_fingerprints(validation_manifest), training_fingerprints(older)
    assert not before.files <= own.files

    def seen(*weights, earlier=()):
        run = tmp_path / f"run-{len(list(tmp_path.iterdir()))}"
        made_from(write_run(run), validation_manifest, *weights)
        return seen_by_run(run, validation_manifest, registry, earlier)

    copied = tmp_path / "copied.npz"
    shutil.copyfile(version.folder / "weights.npz", copied)
    assert seen() == own
    assert seen(first / "best.npz") == own | before, "by its run"
    assert seen(copied) == own | before, "by its version"
    older.write_text(older.read_text() + "\n")
    assert seen(first / "best.npz") is None, "nobody knows what that manifest said"
    assert seen(first / "best.npz", earlier=[older]) == own | before
    (version.folder / "training_data.json").unlink()
    assert seen(copied) is None


def test_too_large_weights_are_not_rounded(tmp_path):
    np.savez(tmp_path / "large.npz", **{"layer/kernel": np.full((2, 2), 1e6, np.float32)})
    with pytest.raises(RegistryError, match="layer/kernel is too large"):
        round_weights(tmp_path / "large.npz", tmp_path / "rounded.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["large.npz"]


def test_a_release_that_fails_leaves_nothing_behind(validation_manifest, tmp_path):
    run = broken_run(tmp_path / "run")
    samples = load_samples(validation_manifest, 32)
    with pytest.raises(EvaluationError, match="not a number"):
        release_run(run, tmp_path / "registry", Identity("a", "1", ""), lambda _size: samples)
    assert not (tmp_path / "registry").exists()
    single = write_run(tmp_path / "single", replace(TINY, tasks=(Task.SEGMENTATION,)))
    with pytest.raises(RegistryError, match="screening needs a network with"):
        release_run(single, tmp_path / "registry", Identity("a", "1", ""), lambda _size: samples)


def test_a_labelled_series_is_compared_with_lung_area_and_place(version, data_dir):
    predictor = series_predictor(subject_of_version(version))
    folder = data_dir / "series" / "covidctmd-P001"
    series = look_at_series(predictor, folder, SliceLabels(data_dir / LABELS))
    all_slices = {row.score: row.auc for row in series.all_slices}
    assert (series.slices, series.all_slices[0].infected) == (148, 80)
    # What these baselines reach was measured independently; the lung finder differs a little.
    assert all_slices[NEARNESS] == pytest.approx(0.825, abs=0.01)
    assert all_slices[LUNG_AREA] == pytest.approx(0.816, abs=0.03)
    assert series.with_lung[0].slices == series.screened_slices


def test_labels_may_begin_at_either_end(data_dir):
    files = sorted((data_dir / "series" / "covidctmd-P001").rglob("*.dcm"))
    series = read_ct_series(files)
    ascending = SliceLabels(data_dir / LABELS).of(series)
    assert ascending.sum() == 80
    descending = SliceLabels(data_dir / LABELS, descending=True).of(series)
    assert np.array_equal(descending, ascending[::-1])
    assert not np.array_equal(descending, ascending)


def test_labels_that_do_not_fit_a_series_are_refused(version, data_dir, tmp_path):
    folder = data_dir / "series" / "lung_dx-A0001-s3"
    predictor = series_predictor(subject_of_version(version))
    with pytest.raises(DatasetError, match="148 labels, but the series has 64 slices"):
        look_at_series(predictor, folder, SliceLabels(data_dir / LABELS))
    for text, words in (
        ("slice,other\n0,1\n", "a column infected"),
        ("slice,infected\n0,yes\n", "0 and 1 only"),
    ):
        (tmp_path / "labels.csv").write_text(text)
        with pytest.raises(DatasetError, match=words):
            SliceLabels(tmp_path / "labels.csv").of(None)
    with pytest.raises(DatasetError, match="no CT images in it"):
        look_at_series(predictor, tmp_path)
