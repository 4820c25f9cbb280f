import json
import shutil

import pytest
from PIL import Image
from pydicom import dcmread
from support.command import lungwatch

from worker.demo.phantom_study import write_phantom_study

SLICES = slice(15, 41)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Folder with the middle of the phantom's chest, just long enough to be screened."""
    whole = write_phantom_study(tmp_path_factory.mktemp("phantom"))
    folder = tmp_path_factory.mktemp("study")
    for path in whole[SLICES]:
        shutil.copy(path, folder)
    return folder


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_gives_the_same_files_as_a_pacs(study, tmp_path):
    done = lungwatch("screen", study, "--out", tmp_path, "--json")
    assert done.code == 0, done.stderr
    document = done.json
    assert document == json.loads((tmp_path / "result.json").read_text())
    assert document["state"] == "completed"
    assert document["lesions"]
    assert len(document["screened_slices"]) == len(document["slice_probabilities"])
    expected = ["overlay.png", "result.json", "seg.dcm", "sr.dcm", "summary.dcm"]
    assert names(tmp_path) == expected
    for entry in document["objects"]:
        dataset = dcmread(tmp_path / f"{entry['kind']}.dcm")
        assert dataset.SOPInstanceUID == entry["sop_instance_uid"]
        assert dataset.StudyInstanceUID == document["study_instance_uid"]
    summary = dcmread(tmp_path / "summary.dcm")
    with Image.open(tmp_path / "overlay.png") as overlay:
        assert overlay.size == (summary.Columns, summary.Rows)


def test_without_lesions_there_is_no_segmentation_not_even_an_old_one(study, tmp_path):
    (tmp_path / "seg.dcm").write_bytes(b"of an earlier run")
    done = lungwatch("screen", study, "--out", tmp_path, minimum_lesion_ml=1e6)
    assert done.code == 0, done.stderr
    assert names(tmp_path) == ["overlay.png", "result.json", "sr.dcm", "summary.dcm"]
    assert "FOR REVIEW" in dcmread(tmp_path / "summary.dcm").SeriesDescription
    assert "Unverified" in done.stdout


def test_what_is_no_chest_is_refused_with_its_reasons(data_dir, tmp_path):
    done = lungwatch("screen", data_dir / "odd" / "head-philips", "--out", tmp_path)
    assert done.code == 4
    assert "not a chest" in done.stdout
    assert names(tmp_path) == ["result.json"]
    document = json.loads((tmp_path / "result.json").read_text())
    assert (document["state"], document["reason"]) == ("refused", "not_chest")
    assert [series["reason"] for series in document["series"]] == ["not_chest"]


def test_a_folder_without_dicom_is_a_usage_error(tmp_path):
    (tmp_path / "in").mkdir()
    done = lungwatch("screen", tmp_path / "in", "--out", tmp_path / "out")
    assert done.code == 2
    assert len(done.stderr.strip().splitlines()[-1]) > 0
    assert "Traceback" not in done.stderr
