"""DICOM for training: slices, series and segmentations read, listed, imported and checked."""

import json

import cv2
import numpy as np
import pytest
from pydicom import dcmread
from support.small_ct import write_small_ct
from support.stated import draw
from support.synthetic_result import TINY_LESIONS, predict, tiny_series
from typer.testing import CliRunner

from model.data.manifest import read_manifest
from model.errors import DatasetError
from worker.cli.main import app
from worker.training.layouts import read_dicom
from worker.training.slices import read_training_slice

LESIONS = predict(tiny_series(), TINY_LESIONS).lesion_mask.labels > 0


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A series in a folder, and beside it the segmentation of its lesions."""
    root = tmp_path_factory.mktemp("data")
    files = write_small_ct(root / "ct")
    draw(root / "seg.dcm", files, LESIONS)
    return root


def test_a_series_is_read_with_its_lesions(folder):
    volume, lesions = read_training_slice(folder / "ct", folder / "seg.dcm")
    np.testing.assert_array_equal(volume.hounsfield, tiny_series().volume.hounsfield)
    np.testing.assert_array_equal(lesions, LESIONS)
    assert read_training_slice(folder / "ct")[1] is None


def test_a_slice_takes_its_own_lesions_from_the_segmentation_of_its_series(folder):
    index = int(LESIONS.any(axis=(1, 2)).argmax())
    volume, lesions = read_training_slice(folder / "ct" / f"{index:02d}.dcm", folder / "seg.dcm")
    np.testing.assert_array_equal(volume.hounsfield[0], tiny_series().volume.hounsfield[index])
    np.testing.assert_array_equal(lesions[0], LESIONS[index])
    assert lesions.any()
    assert read_training_slice(folder / "ct" / "00.dcm")[1] is None


def test_what_is_no_ct_is_named(folder, tmp_path):
    (tmp_path / "a.dcm").write_bytes(b"no DICOM")
    with pytest.raises(DatasetError, match=r"a\.dcm: no CT image to train on"):
        read_training_slice(tmp_path / "a.dcm")
    with pytest.raises(DatasetError, match=f"{tmp_path}: no CT series to train on"):
        read_training_slice(tmp_path)
    with pytest.raises(DatasetError, match=r"00\.dcm: .*no DICOM Segmentation"):
        read_training_slice(folder / "ct", folder / "ct" / "00.dcm")


def test_the_segmentation_of_another_series_is_refused(folder, tmp_path):
    other = write_small_ct(tmp_path / "ct", "other study")
    with pytest.raises(DatasetError, match=r"seg\.dcm: .*belongs to study"):
        read_training_slice(other[0].parent, folder / "seg.dcm")


def test_a_folder_that_is_one_series_is_one_row_with_its_segmentation(folder):
    (row,) = read_dicom(folder)
    assert (row.path, row.mask, row.covid) == ("ct", "seg.dcm", None)
    assert row.patient
    assert row.source == "dicom"


def test_mixed_folders_and_single_images_are_rows_of_slices(folder, tmp_path):
    for name in ("00.dcm", "01.dcm"):
        data = (folder / "ct" / name).read_bytes()
        (tmp_path / name).write_bytes(data)
    write_small_ct(tmp_path / "deeper", "other study")
    rows = read_dicom(tmp_path)
    assert sorted(row.path for row in rows) == ["00.dcm", "01.dcm", "deeper"]


def test_folders_without_ct_or_with_two_segmentations_are_refused(folder, tmp_path):
    with pytest.raises(DatasetError, match="no CT image"):
        read_dicom(tmp_path)
    files = write_small_ct(tmp_path / "ct")
    draw(tmp_path / "one.dcm", files, LESIONS)
    draw(tmp_path / "two.dcm", files, LESIONS)
    with pytest.raises(DatasetError, match="both segment series"):
        read_dicom(tmp_path)


def _lungwatch(*arguments):
    return CliRunner().invoke(app, ["data", *(str(each) for each in arguments)])


def test_the_command_line_imports_dicom_of_a_stated_class(folder, tmp_path):
    out = tmp_path / "m.csv"
    done = _lungwatch(
        *("import", "dicom", folder, "--out", out),
        *("--covid", "--source", "own", "--split", "test"),
    )
    assert done.exit_code == 0, done.output
    (row,) = read_manifest(out).rows
    assert (row.path, row.covid, row.source, row.split) == (f"{folder}/ct", True, "own", "test")


def test_the_command_line_checks_and_fails_on_a_leak(tmp_path):
    generator = np.random.default_rng(0)
    for split in ("train", "val"):
        for name in ("COVID", "NonCOVID"):
            (tmp_path / split / name).mkdir(parents=True)
            image = cv2.resize(generator.random((6, 6)), (64, 64)) * 255
            cv2.imwrite(str(tmp_path / split / name / "a.png"), image.astype(np.uint8))
    manifest, sheet = tmp_path / "m.csv", tmp_path / "sheet.png"
    assert _lungwatch("import", "covid-ct", tmp_path, "--out", manifest).exit_code == 0
    sound = _lungwatch("check", manifest, "--contact-sheet", sheet)
    assert sound.exit_code == 0, sound.output
    assert "No leak across splits" in sound.output
    assert cv2.imread(str(sheet)).shape[0] == 4 * 150
    copy = (tmp_path / "train/COVID/a.png").read_bytes()
    (tmp_path / "val/COVID/a.png").write_bytes(copy)
    leaking = _lungwatch("check", manifest, "--json")
    assert leaking.exit_code == 1
    document = json.loads(leaking.stdout)
    assert document["failed"]
    assert [finding["kind"] for finding in document["findings"]] == ["same image in two splits"]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda dataset: delattr(dataset, "PixelSpacing"),
        lambda dataset: setattr(dataset, "PixelSpacing", [0, 0]),
        lambda dataset: delattr(dataset, "RescaleSlope"),
        lambda dataset: setattr(dataset, "PixelData", dataset.PixelData[:100]),
        lambda dataset: setattr(dataset, "Rows", 0),
    ],
)
def test_a_damaged_slice_is_one_clear_error(folder, tmp_path, spoil):
    dataset = dcmread(folder / "ct" / "05.dcm")
    spoil(dataset)
    dataset.save_as(tmp_path / "a.dcm")
    with pytest.raises(DatasetError, match=r"a\.dcm: no CT image to train on"):
        read_training_slice(tmp_path / "a.dcm")


def test_a_segmentation_that_was_replaced_is_read_again(folder, tmp_path):
    path = draw(tmp_path / "seg.dcm", sorted((folder / "ct").iterdir()), LESIONS)
    assert read_training_slice(folder / "ct", path)[1].any()
    draw(path, sorted((folder / "ct").iterdir()), 0 * LESIONS)
    assert not read_training_slice(folder / "ct", path)[1].any()
