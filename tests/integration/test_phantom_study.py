"""The synthetic study is valid DICOM, says that it is synthetic, and looks like a chest."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread

from worker.demo.phantom import CONSOLIDATION, GROUND_GLASS, Phantom, build_phantom
from worker.demo.phantom_samples import phantom_samples
from worker.demo.phantom_study import PATIENT_ID, write_phantom_study

_DCIODVFY = Path(sys.executable).with_name("dciodvfy")


@pytest.fixture(scope="module")
def phantom() -> Phantom:
    return build_phantom(seed=3)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_phantom_study(tmp_path_factory.mktemp("phantom"), seed=3)


@pytest.fixture(scope="module")
def images(study: list[Path]) -> list[Dataset]:
    return [dcmread(path) for path in study]


def test_dciodvfy_finds_nothing_wrong(study: list[Path]) -> None:
    for path in (study[0], study[30], study[-1]):
        done = subprocess.run(
            [_DCIODVFY, path], stderr=subprocess.PIPE, text=True, check=True, timeout=60
        )
        assert "Error" not in done.stderr
        assert "Warning" not in done.stderr


def test_every_instance_says_that_it_is_synthetic(images: list[Dataset]) -> None:
    for image in images:
        assert image.PatientName == "SYNTHETIC^PHANTOM"
        assert image.PatientID == PATIENT_ID
        assert image.QualityControlSubject == "YES"
        for text in (image.StudyDescription, image.SeriesDescription, image.ImageComments):
            assert "SYNTHETIC" in text


def test_files_hold_the_volume(images: list[Dataset], phantom: Phantom) -> None:
    assert np.array_equal([image.pixel_array for image in images], phantom.volume.hounsfield)
    origin = phantom.volume.affine @ (59, 0, 0, 1)
    assert np.allclose([float(value) for value in images[59].ImagePositionPatient], origin[:3])


def test_same_seed_same_bytes_other_seed_other_study(study: list[Path], tmp_path: Path) -> None:
    again = write_phantom_study(tmp_path / "again", seed=3)
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in study]
    other = write_phantom_study(tmp_path / "other", seed=4)
    uids = [dcmread(path).StudyInstanceUID for path in (study[0], other[0])]
    assert uids[0] != uids[1]


def test_uids_are_unique_and_the_series_is_one(images: list[Dataset]) -> None:
    assert len({image.SOPInstanceUID for image in images}) == len(images) == 60
    assert len({(image.StudyInstanceUID, image.SeriesInstanceUID) for image in images}) == 1


def test_lesions_have_the_density_of_their_kind(phantom: Phantom) -> None:
    hounsfield, lesions = phantom.volume.hounsfield, phantom.lesions
    glass, core = hounsfield[lesions == GROUND_GLASS], hounsfield[lesions == CONSOLIDATION]
    assert -650 < glass.mean() < -350
    assert -150 < core.mean() < 60
    volume_ml = (lesions > 0).sum() * phantom.volume.voxel_volume_ml
    assert 50 < volume_ml < 600


def test_lungs_have_a_plausible_volume(phantom: Phantom) -> None:
    hounsfield = phantom.volume.hounsfield
    body = hounsfield[:, 150:370, 60:450]
    litres = ((body > -960) & (body < -700)).sum() * phantom.volume.voxel_volume_ml / 1000
    assert 2 < litres < 7


def test_its_slices_are_training_samples_as_of_any_series(phantom: Phantom) -> None:
    samples = phantom_samples(64, phantom)
    areas = [sample.mask.sum() for sample in samples if sample.mask is not None]
    assert {sample.covid for sample in samples} == {True, False}
    assert areas[0] == max(areas) > 20
    assert all(sample.image.shape == (64, 64) for sample in samples)
