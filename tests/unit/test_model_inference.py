"""The Predictor around an engine whose answers are known."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from model.config import NetworkConfig
from model.engines.engine import EngineOutput
from model.errors import ConfigError, NoLungError
from model.inference import PredictionOptions, Predictor
from model.pooling import Calibration, Pooling
from model.registry import Manifest, RegistryEntry
from model.volume import CtVolume

AREA = np.ones((7, 7), np.uint8)


class BrightnessEngine:
    """Calls bright pixels lesion, and a slice with any of them COVID-19."""

    name = "brightness"

    def __init__(self):
        self.batches = []

    def run(self, images):
        self.batches.append(images.shape)
        lesion = (images > 0.55) & (images < 0.8)
        # Edges pass through the same greys; opening leaves only areas.
        opened = [
            cv2.morphologyEx(plane.astype(np.uint8), cv2.MORPH_OPEN, AREA) for plane in lesion
        ]
        lesion = np.stack(opened) > 0
        return EngineOutput(
            np.where(lesion.sum(axis=(1, 2)) > 10, 0.9, 0.2).astype(np.float32),
            lesion.astype(np.float32),
        )


@pytest.fixture
def volume():
    """Ten slices, lungs on eight of them, an opacity in the right lung on three."""
    hounsfield = np.full((10, 120, 180), -1000, np.int16)
    hounsfield[:, 10:-10, 15:-15] = 140
    hounsfield[1:9, 30:-30, 30:80] = -850
    hounsfield[1:9, 30:-30, 100:150] = -850
    hounsfield[4:7, 50:70, 45:65] = -200
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0, 0, 2], [0, 2, 0], [5, 0, 0]])
    return CtVolume(hounsfield, (5.0, 2.0, 2.0), affine)


def _entry(**changes):
    values = {
        "name": "drawn",
        "version": "1",
        "sha256": "ab" * 32,
        "network": NetworkConfig(input_size=128),
        "calibration": Calibration(),
        "pooling": Pooling(0.3),
        "operating_point": 0.5,
        "lesion_threshold": 0.5,
        "licence": "",
        "data": "",
    }
    return RegistryEntry(Manifest(**values | changes), Path("absent"))


def test_a_known_opacity_is_found_measured_and_pooled(volume):
    engine, stages = BrightnessEngine(), []
    predictor = Predictor(_entry(), PredictionOptions(), engine)
    prediction = predictor.predict(volume, lambda stage, share: stages.append((stage, share)))
    assert prediction.screened_slices == tuple(range(1, 9))
    assert engine.batches == [(4, 128, 128)] * 2
    np.testing.assert_allclose(prediction.slice_probabilities, [0.2] * 3 + [0.9] * 3 + [0.2] * 2)
    assert prediction.covid_probability == pytest.approx((0.9 * 2) / 2)
    assert prediction.positive
    (finding,) = prediction.findings
    assert finding.slice_indices == (4, 5, 6)
    assert finding.laterality == "right"
    assert finding.volume_ml == pytest.approx(3 * 20 * 20 * 20 / 1000, rel=0.1)
    assert finding.mean_hu == pytest.approx(-200, abs=60)
    assert (prediction.lesion_mask.labels > 0).sum() == finding.voxel_count
    assert prediction.lung_volume_ml == pytest.approx(8 * 2 * 60 * 50 * 20 / 1000, rel=0.07)
    assert stages[0] == ("lungs", 0.0)
    assert stages[-1] == ("lesions", 1.0)
    assert {"lungs", "network", "lesions"} == {stage for stage, _ in stages}
    assert prediction.model.sha256 == "ab" * 32


def test_an_incomplete_last_batch_adds_no_slice(volume):
    predictor = Predictor(_entry(), PredictionOptions(batch_size=5), BrightnessEngine())
    assert len(predictor.predict(volume).slice_probabilities) == 8


def test_healthy_lungs_give_an_empty_mask(volume):
    volume.hounsfield[4:7, 50:70, 45:65] = -850
    prediction = Predictor(_entry(), PredictionOptions(), BrightnessEngine()).predict(volume)
    assert prediction.findings == ()
    assert not prediction.lesion_mask.labels.any()
    assert not prediction.positive


def test_options_replace_what_the_manifest_says(volume):
    options = PredictionOptions(operating_point=0.95, minimum_lesion_ml=100.0)
    predictor = Predictor(_entry(), options, BrightnessEngine())
    prediction = predictor.predict(volume)
    assert prediction.operating_point == 0.95
    assert not prediction.positive
    assert prediction.findings == ()


def test_a_volume_without_lung_raises(volume):
    volume.hounsfield[:] = 40
    with pytest.raises(NoLungError):
        Predictor(_entry(), PredictionOptions(), BrightnessEngine()).predict(volume)


def test_the_digest_changes_with_all_that_changes_results():
    def digest(options=None, **manifest):
        predictor = Predictor(
            _entry(**manifest), options or PredictionOptions(), BrightnessEngine()
        )
        return predictor.pipeline_digest()

    digests = [
        digest(),
        digest(PredictionOptions(operating_point=0.4)),
        digest(PredictionOptions(lesion_threshold=0.4)),
        digest(PredictionOptions(minimum_lesion_ml=1)),
        digest(PredictionOptions(maximum_segments=3)),
        digest(pooling=Pooling(0.1)),
        digest(calibration=Calibration(2.0)),
    ]
    assert len(set(digests)) == len(digests)
    assert digest() == digests[0]
    assert len(digests[0]) == 64


@pytest.mark.parametrize(
    "options", [{"operating_point": 1.5}, {"maximum_segments": 0}, {"batch_size": 0}]
)
def test_wrong_options_are_refused(options):
    with pytest.raises(ConfigError):
        PredictionOptions(**options)


def test_importing_the_predictor_does_not_import_tensorflow():
    code = (
        "import sys, model.inference, model.registry; "
        "assert not {'tensorflow', 'keras'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
