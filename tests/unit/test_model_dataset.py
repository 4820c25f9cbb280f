"""Samples from a drawn manifest: labels, splits, transposition, and what is left alone."""

import csv

import cv2
import numpy as np
import pytest

from model.data.dataset import (
    Source,
    Split,
    hash_share,
    load_samples,
    near_duplicate_groups,
)
from model.errors import DatasetError
from model.volume import CtVolume


def _figure(seed, shape=(120, 180)):
    """A body with two lungs and speckle of its own."""
    generator = np.random.default_rng(seed)
    figure = np.zeros(shape, np.uint8)
    figure[10:-10, 15:-15] = 220
    figure[30:-30, 30:80] = 40
    figure[30:-30, 100:150] = 40
    blocks = generator.integers(0, 30, (12, 18)).astype(np.uint8)
    return figure + cv2.resize(blocks, shape[::-1], interpolation=cv2.INTER_NEAREST)


@pytest.fixture
def manifest(tmp_path):
    """Three COVID-CT figures, one SemiSeg figure, one LUNA slice, and what must not train."""
    rows = []

    def add(path, image, label, patient=""):
        target = tmp_path / path
        target.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(target), image)
        rows.append({"path": path, "label": label, "patient": patient})

    add("covid-ct/train/COVID/a.png", _figure(1), "COVID", "Patient 1")
    add("covid-ct/train/NonCOVID/b.png", _figure(2), "NonCOVID", "Patient 2")
    add("covid-ct/val/NonCOVID/c.png", _figure(3), "NonCOVID", "Patient 3")
    add("luna-noncovid/d.png", _figure(4), "NonCOVID", "1.2.3")
    mask = np.zeros((120, 180), np.uint8)
    mask[30:40, 30:80] = 255
    add("covid-semiseg/train/img/7.png", _figure(5).T, "COVID")
    add("covid-semiseg/train/mask/7.png", mask.T, "mask")
    add("series/x/e.png", _figure(6), "COVID")
    add("odd/f.png", _figure(7), "COVID")
    path = tmp_path / "MANIFEST.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["path", "label", "patient"])
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_labels_splits_and_shapes(manifest):
    samples = {sample.path: sample for sample in load_samples(manifest, 64)}
    assert len(samples) == 5
    assert not [path for path in samples if path.startswith(("series", "odd"))]
    first = samples["covid-ct/train/COVID/a.png"]
    assert (first.covid, first.split, first.mask) == (True, Split.TRAIN, None)
    assert first.group == "covid-ct/covid"
    assert samples["covid-ct/val/NonCOVID/c.png"].split is Split.VALIDATION
    for sample in samples.values():
        assert sample.image.shape == (64, 64)
        assert sample.image.dtype == np.float32
        assert 0 <= sample.image.min() < 0.05
        assert 0.95 < sample.image.max() <= 1


def test_semiseg_is_turned_upright_with_its_mask(manifest):
    (sample,) = [s for s in load_samples(manifest, 90) if s.source is Source.SEMISEG]
    # The lesion is drawn along the upper edge of the left half, in radiological orientation.
    rows, columns = np.argwhere(sample.mask).mean(axis=0)
    assert rows < 30
    assert columns < 45
    assert sample.image[45, 25] < 0.4


def test_dicom_slices_come_through_the_reader_and_those_without_lung_do_not(manifest):
    folder = manifest.parent / "tcga-luad-slices"
    folder.mkdir()
    for name in ("lung", "abdomen"):
        (folder / f"{name}.dcm").touch()
    with manifest.open("a") as file:
        file.write("tcga-luad-slices/lung.dcm,lung cancer,T1\n")
        file.write("tcga-luad-slices/abdomen.dcm,lung cancer,T2\n")

    def read(path):
        hounsfield = np.full((1, 120, 180), -1000, np.int16)
        hounsfield[:, 10:-10, 15:-15] = 40
        if path.stem == "lung":
            hounsfield[:, 30:-30, 30:80] = -850
            hounsfield[:, 30:-30, 100:150] = -850
        affine = np.eye(4)
        affine[:3, :3] = np.array([[0, 0, 2], [0, 2, 0], [1, 0, 0]])
        return CtVolume(hounsfield, (1.0, 2.0, 2.0), affine)

    read_paths = [sample.path for sample in load_samples(manifest, 64, read)]
    assert "tcga-luad-slices/lung.dcm" in read_paths
    assert "tcga-luad-slices/abdomen.dcm" not in read_paths
    without_reader = [sample.path for sample in load_samples(manifest, 64)]
    assert "tcga-luad-slices/lung.dcm" not in without_reader


def test_an_unreadable_figure_is_named(manifest):
    (manifest.parent / "luna-noncovid/d.png").write_bytes(b"no image")
    with pytest.raises(DatasetError, match=r"d\.png"):
        load_samples(manifest, 64)


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "path,label,patient\nodd/x.png,COVID,\n"])
def test_a_manifest_that_cannot_train_is_refused(tmp_path, text):
    path = tmp_path / "MANIFEST.csv"
    path.write_text(text)
    with pytest.raises(DatasetError, match=r"MANIFEST\.csv"):
        load_samples(path, 64)


def test_near_duplicates_share_a_number_also_through_others():
    base = _figure(1).astype(np.float32) / 255
    other = np.rot90(_figure(2), 2).astype(np.float32)[:, ::-1] ** 2
    noisy = np.clip(base + np.random.default_rng(0).normal(0, 0.02, base.shape), 0, 1)
    groups = near_duplicate_groups([base, np.ascontiguousarray(other.T), noisy.astype(np.float32)])
    assert groups[0] == groups[2] != groups[1]
    assert near_duplicate_groups([]) == []


def test_hash_share_is_the_same_everywhere_and_even():
    assert hash_share("Patient 1") == hash_share("Patient 1")
    shares = [hash_share(f"patient {number}") for number in range(2000)]
    assert 0.17 < np.mean(np.array(shares) < 0.2) < 0.23
