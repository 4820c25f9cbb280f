"""The running product, shared by the end-to-end tests that only send to it."""

import pydicom
import pytest
from pydicom.uid import generate_uid
from support.system import System

SERIES = "lung_dx-A0001-s3"


@pytest.fixture(scope="session")
def embedded_system(tmp_path_factory):
    """`lungwatch up` and an Orthanc that routes to it; further models may come while it runs."""
    folder = tmp_path_factory.mktemp("embedded")
    own = {"model_dir": folder / "models", "locked_test_set": folder / "locked" / "test.csv"}
    with System(folder, **own) as system:
        yield system


@pytest.fixture
def study(data_dir, tmp_path):
    """A study of its own for each test: the real series under new UIDs."""
    study_uid, series_uid = generate_uid(), generate_uid()
    for number, path in enumerate(sorted((data_dir / "series" / SERIES).glob("*.dcm"))):
        dataset = pydicom.dcmread(path)
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study_uid, series_uid
        dataset.SOPInstanceUID = generate_uid()
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.save_as(tmp_path / f"{number:03}.dcm")
    return study_uid, sorted(tmp_path.glob("*.dcm"))
