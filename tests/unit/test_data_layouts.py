"""Published layouts of data sets, drawn into folders, as manifest rows."""

import math
import struct

import cv2
import numpy as np
import pytest
from support.nifti import write_nifti
from typer.testing import CliRunner

from model.data.dataset import load_samples
from model.data.layouts.covid_ct import read_covid_ct
from model.data.layouts.development import read_development
from model.data.layouts.hundred_slices import read_hundred_slices
from model.data.manifest import Split, read_manifest, write_manifest
from model.data.pictures import read_figure
from model.errors import DatasetError
from worker.cli.main import app


def _draw(folder, *names, image=None):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        grey = np.random.default_rng(len(name)).integers(0, 255, (40, 60)).astype(np.uint8)
        cv2.imwrite(str(folder / name), grey if image is None else image)


def _list(folder, name, *lines):
    path = folder / "Data-split" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture
def published(tmp_path):
    home = "Images-processed"
    _draw(tmp_path, f"{home}/CT_COVID/a-p1.png", f"{home}/CT_COVID/b.png")
    _draw(tmp_path, f"{home}/CT_NonCOVID/1%0.jpg", f"{home}/CT_NonCOVID/2.png")
    _list(tmp_path, "COVID/trainCT_COVID.txt", "a-p1.png")
    _list(tmp_path, "COVID/testCT_COVID.txt", "b.png", "")
    _list(tmp_path, "NonCOVID/trainCT_NonCOVID.txt", "1%0.jpg")
    _list(tmp_path, "NonCOVID/valCT_NonCOVID.txt", "2.png")
    return tmp_path


def test_covid_ct_as_published(published):
    meta = "File name,Patient ID,Age\na-p1.png,Patient 7,61\nb.png,Patient 8,40\n"
    (published / "COVID-CT-MetaInfo.csv").write_text(meta)
    rows = {row.path.rsplit("/", 1)[1]: row for row in read_covid_ct(published)}
    assert {name: (row.covid, row.split, row.patient) for name, row in rows.items()} == {
        "a-p1.png": (True, Split.TRAIN, "Patient 7"),
        "b.png": (True, Split.TEST, "Patient 8"),
        "1%0.jpg": (False, Split.TRAIN, ""),
        "2.png": (False, Split.VALIDATION, ""),
    }
    assert rows["2.png"].source == "covid-ct"
    write_manifest(published / "m.csv", rows.values())
    assert len(load_samples(published / "m.csv", 32)) == 4


def test_covid_ct_whose_lists_and_figures_disagree(published):
    _draw(published, "Images-processed/CT_COVID/new.png")
    with pytest.raises(DatasetError, match=r"new\.png: is in none of the lists"):
        read_covid_ct(published)
    (published / "Images-processed/CT_COVID/new.png").unlink()
    (published / "Images-processed/CT_COVID/b.png").unlink()
    with pytest.raises(DatasetError, match=r"b\.png of CT_COVID is listed in Data-split, but not"):
        read_covid_ct(published)
    _list(published, "COVID/valCT_COVID.txt", "a-p1.png")
    with pytest.raises(DatasetError, match=r"a-p1\.png is in the list of another split too"):
        read_covid_ct(published)


def test_covid_ct_in_folders_of_splits(tmp_path):
    _draw(tmp_path, "train/COVID/a.png", "val/COVID/b.png", "test/NonCOVID/c.png")
    splits = {row.path: (row.covid, row.split) for row in read_covid_ct(tmp_path)}
    assert splits == {
        "train/COVID/a.png": (True, Split.TRAIN),
        "val/COVID/b.png": (True, Split.VALIDATION),
        "test/NonCOVID/c.png": (False, Split.TEST),
    }


def test_covid_ct_without_one_class_is_refused(tmp_path):
    _draw(tmp_path, "CT_COVID/a.png")
    with pytest.raises(DatasetError, match="no folder CT_NonCOVID or NonCOVID"):
        read_covid_ct(tmp_path)


def test_hundred_slices_as_images(tmp_path):
    _draw(tmp_path, "img/10.jpg", "img/2.jpg")
    _draw(tmp_path, "mask/10.png", "mask/2.png", image=np.eye(40, 60, dtype=np.uint8))
    rows = read_hundred_slices(tmp_path)
    assert [(row.path, row.mask) for row in rows] == [
        ("img/2.jpg", "mask/2.png"),
        ("img/10.jpg", "mask/10.png"),
    ]
    assert all(row.transposed and row.covid and row.split is None for row in rows)
    write_manifest(tmp_path / "m.csv", rows)
    first = load_samples(tmp_path / "m.csv", 40)[0]
    assert first.mask.shape == (40, 40)
    (tmp_path / "mask/2.png").unlink()
    with pytest.raises(DatasetError, match=r"2\.jpg: has no mask 2\.png in"):
        read_hundred_slices(tmp_path)


def test_hundred_slices_as_volumes(tmp_path):
    generator = np.random.default_rng(0)
    hounsfield = generator.integers(-1000, 200, (40, 30, 3)).astype(np.int16)
    masks = (generator.random((40, 30, 3)) > 0.9).astype(np.uint8) * 3
    write_nifti(tmp_path / "tr_im.nii.gz", hounsfield)
    with pytest.raises(DatasetError, match=r"masks tr_mask\.nii\.gz are missing"):
        read_hundred_slices(tmp_path)
    write_nifti(tmp_path / "tr_mask.nii.gz", masks[..., :2])
    with pytest.raises(DatasetError, match=r"has the size \(40, 30, 2\), its images \(40, 30, 3\)"):
        read_hundred_slices(tmp_path)
    write_nifti(tmp_path / "tr_mask.nii.gz", masks)
    rows = read_hundred_slices(tmp_path)
    assert rows[2].path == "tr_im.nii.gz#2"
    assert rows[2].mask == "tr_mask.nii.gz#2"
    write_manifest(tmp_path / "m.csv", rows)
    samples = load_samples(tmp_path / "m.csv", 32)
    assert len(samples) == 3
    assert all(sample.hounsfield and sample.mask.any() for sample in samples)


def test_two_layouts_are_merged_into_what_a_network_needs(published):
    volumes = published / "volumes"
    volumes.mkdir()
    write_nifti(volumes / "tr_im.nii", np.zeros((4, 5, 2), np.int16))
    write_nifti(volumes / "tr_mask.nii", np.zeros((4, 5, 2), np.uint8))
    figures, lesions, both = (published / name for name in ("f.csv", "l.csv", "out/both.csv"))

    def data(*arguments):
        return CliRunner().invoke(app, ["data", *(str(each) for each in arguments)])

    assert data("import", "covid-ct", published, "--out", figures).exit_code == 0
    assert data("import", "hundred-slices", volumes, "--out", lesions).exit_code == 0
    done = data("merge", figures, lesions, "--out", both)
    assert done.exit_code == 0
    assert "6 rows" in done.stderr
    manifest = read_manifest(both)
    assert {row.covid for row in manifest.rows} == {True, False}
    assert all(manifest.file(row.path).is_file() for row in manifest.rows)
    before = figures.read_bytes()
    refused = data("merge", figures, lesions, "--out", figures)
    assert "one of the manifests to merge" in str(refused.exception)
    assert figures.read_bytes() == before


def test_a_damaged_figure_is_told_once_and_by_name(tmp_path, capfd):
    path = tmp_path / "a.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n no chunk of a PNG")
    with pytest.raises(DatasetError, match=r"a\.png: is no readable image"):
        read_figure(path)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda data: data[:400], "no readable NIfTI-1 volume"),
        (lambda _: b"\0" * 400, "no readable NIfTI-1 volume: the header is not one"),
        (lambda data: data[:70] + b"\x80\0" + data[72:], "number type 128 is none of"),
        (lambda data: data[:40] + b"\4\0" + data[42:48] + b"\2\0" + data[50:], "not three"),
        (
            lambda data: data[:108] + struct.pack("<f", math.inf) + data[112:],
            "no readable NIfTI-1 volume: cannot convert float infinity",
        ),
    ],
)
def test_a_broken_volume_is_named(tmp_path, spoil, message):
    path = tmp_path / "tr_im.nii"
    write_nifti(path, np.zeros((4, 5, 3), np.int16))
    path.write_bytes(spoil(path.read_bytes()))
    (tmp_path / "tr_mask.nii").touch()
    with pytest.raises(DatasetError, match=rf"tr_im\.nii: .*{message}"):
        read_hundred_slices(tmp_path)


@pytest.mark.parametrize(
    "read", [read_covid_ct, read_hundred_slices, read_development], ids=lambda read: read.__name__
)
def test_another_folder_is_refused_by_name(tmp_path, read):
    with pytest.raises(DatasetError, match=str(tmp_path)):
        read(tmp_path)
