"""What a retraining collects: nothing of a test set, whatever its files are called."""

import cv2
import numpy as np
import pytest
from support.retraining_site import RetrainingSite

from model.data.dataset import Sample
from model.data.manifest import ManifestRow, Split, read_manifest, write_manifest
from model.errors import DatasetError, TrainingError
from worker import learning
from worker.retraining.data import MANIFEST, collect
from worker.retraining.request import RetrainingRequest
from worker.retraining.run import Retraining
from worker.training.slices import read_training_slice


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    site = RetrainingSite(tmp_path_factory.mktemp("retraining"))
    site.review("1")
    yield site
    site.database.close()


def collected(site, out, base="", locked=None):
    reviewed = learning.reviewed_data(site.settings, site.database)
    asked = RetrainingRequest(str(out), base=str(base))
    return collect(asked, reviewed, locked, read_training_slice, lambda *_: None)


def chest(seed, *, blur=0.0):
    """A figure with a coarse structure of its own, as one patient's slices have."""
    generator = np.random.default_rng(seed)
    coarse = cv2.resize(generator.random((6, 6)).astype(np.float32), (96, 96))
    figure = (255 * coarse).astype(np.uint8)
    return cv2.GaussianBlur(figure, (0, 0), blur) if blur else figure


def manifest(path, *rows):
    write_manifest(
        path, [ManifestRow(name, covid=True, source="s", **cells) for name, cells in rows]
    )
    return path


def test_a_reviewed_study_is_left_out_if_the_locked_test_set_shows_it_without_a_name(
    site, tmp_path
):
    series = site.folder / "ct-1"
    locked = manifest(tmp_path / "locked.csv", (str(series), {"split": Split.TEST}))
    with pytest.raises(TrainingError, match="study 1: its images are in the locked test set"):
        collected(site, tmp_path / "run", locked=locked)
    one = manifest(
        tmp_path / "slice.csv", (str(series / "10.dcm"), {"split": Split.TEST, "patient": "other"})
    )
    with pytest.raises(TrainingError, match="study 1: its images are in the locked test set"):
        collected(site, tmp_path / "again", locked=one)


@pytest.mark.parametrize("name", ["same.png", "same.jpg"])
def test_a_figure_of_the_locked_test_set_is_found_though_it_was_saved_anew(site, tmp_path, name):
    cv2.imwrite(str(tmp_path / "locked.png"), chest(1))
    locked = manifest(tmp_path / "locked.csv", ("locked.png", {"split": Split.TEST}))
    cv2.imwrite(str(tmp_path / name), chest(1), [cv2.IMWRITE_PNG_COMPRESSION, 0])
    cv2.imwrite(str(tmp_path / "other.png"), chest(2))
    base = manifest(tmp_path / "base.csv", ("other.png", {}), (name, {}))
    with pytest.raises(DatasetError, match=rf"row 3: {name}: shows what .*locked\.png"):
        collected(site, tmp_path / "run", base, locked)
    base = manifest(tmp_path / "base.csv", ("other.png", {}))
    assert len(collected(site, tmp_path / "apart", base, locked).manifest.rows) == 2


def test_nothing_of_a_patient_with_a_test_row_is_learned(site, tmp_path):
    for name, image in (
        ("a-test.png", chest(1)),
        ("a-open.png", chest(2)),
        ("b-test.png", chest(3)),
        ("b-open.png", chest(3, blur=0.8)),
        ("c-open.png", chest(4)),
    ):
        cv2.imwrite(str(tmp_path / name), image)
    base = manifest(
        tmp_path / "base.csv",
        ("a-test.png", {"patient": "a", "split": Split.TEST}),
        ("a-open.png", {"patient": "a"}),
        ("b-test.png", {"split": Split.TEST}),
        ("b-open.png", {}),
        ("c-open.png", {}),
    )
    collected(site, tmp_path / "run", base)
    rows = read_manifest(tmp_path / "run" / MANIFEST).rows
    assert [row.path.rpartition("/")[2] for row in rows if row.source == "s"] == ["c-open.png"]


def test_a_reviewed_patient_with_a_test_row_in_the_base_is_left_out(site, tmp_path):
    study = collected(site, tmp_path / "all").studies[0]
    cv2.imwrite(str(tmp_path / "a.png"), chest(1))
    cells = {"patient": study.pseudonym.patient, "split": Split.TEST}
    base = manifest(tmp_path / "base.csv", ("a.png", cells))
    with pytest.raises(TrainingError, match="study 1: its patient is among the test rows"):
        collected(site, tmp_path / "run", base)


def test_reviewed_studies_that_only_validate_are_no_retraining(site, tmp_path):
    run = Retraining(
        RetrainingRequest(str(tmp_path / "run")), learning.site(site.settings, site.database)
    )
    data = collected(site, tmp_path / "run")
    image = np.zeros((32, 32), np.float32)
    (row,) = data.manifest.rows
    held_out = Sample(f"{row.path}#9", row.source, Split.VALIDATION, "p", covid=True, image=image)
    with pytest.raises(TrainingError, match="every reviewed study is held out for validation"):
        run._require_reviewed([held_out])
