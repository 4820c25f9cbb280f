"""The lung finder and the shipped network on real series, which never trained anything."""

import numpy as np
import pytest

from dicom_node.reading.reader import read_ct_series
from model.inference import Predictor
from model.lungs import Side, find_lungs
from model.registry import Registry


def _volume(folder):
    return read_ct_series(sorted(folder.rglob("*.dcm"))).volume


@pytest.mark.parametrize(
    ("name", "fewest", "most"),
    [("covidctmd-P001", 120, 142), ("lidc-idri-0001", 88, 110), ("lung_dx-A0001-s3", 45, 56)],
)
def test_lungs_of_real_series(data_dir, name, fewest, most):
    volume = _volume(data_dir / "series" / name)
    lungs = find_lungs(volume)
    assert 2000 < lungs.volume_ml < 8000
    assert fewest <= len(lungs.screened_slices) <= most
    assert np.all(np.diff(lungs.screened_slices) == 1)
    right = np.count_nonzero(lungs.sides == Side.RIGHT)
    left = np.count_nonzero(lungs.sides == Side.LEFT)
    # The right lung is the larger one, by up to a third.
    assert 1.0 < right / left < 1.4
    inside = volume.hounsfield[lungs.sides != Side.NONE]
    assert -900 < np.median(inside) < -700


def test_the_shipped_network_screens_a_real_series(data_dir):
    volume = _volume(data_dir / "series" / "lung_dx-A0001-s3")
    prediction = Predictor.load(Registry().get()).predict(volume)
    assert 0 <= prediction.covid_probability <= 1
    assert len(prediction.slice_probabilities) == len(prediction.screened_slices)
    # A network that says the same of every slice has not looked.
    assert np.std(prediction.slice_probabilities) > 0.01
    assert prediction.lesion_mask.labels.shape == volume.shape
    assert 0 <= prediction.lung_involvement_percent < 60
    assert prediction.lesion_mask.labels.max() == len(prediction.findings)
