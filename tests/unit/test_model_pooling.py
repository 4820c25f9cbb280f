"""Calibration, pooling and the operating point."""

import numpy as np
import pytest

from model.errors import ConfigError
from model.evaluation.calibration import fit_platt
from model.evaluation.decision import choose_operating_point
from model.evaluation.metrics import roc_auc
from model.evaluation.studies import choose_pooling, compose_studies
from model.pooling import Calibration, Pooling


def test_without_calibration_probabilities_stay():
    values = np.array([0.0, 0.2, 0.9, 1.0], np.float32)
    np.testing.assert_allclose(Calibration().apply(values), values, atol=1e-6)


def test_pooling_is_the_mean_of_the_highest_share():
    values = np.array([0.1, 0.9, 0.2, 0.7, 0.3, 0.3, 0.1, 0.1, 0.1, 0.1])
    assert Pooling(0.2).pool(values) == pytest.approx(0.8)
    assert Pooling(1.0).pool(values) == pytest.approx(values.mean())
    assert Pooling(0.01).pool(values) == pytest.approx(0.9)


def test_pooling_needs_a_slice_and_a_sensible_share():
    with pytest.raises(ValueError, match="without screened slices"):
        Pooling().pool(np.array([]))
    with pytest.raises(ConfigError, match="top_share"):
        Pooling(0.0)


@pytest.fixture
def overconfident():
    """Scores whose true logit is half of what they say, and 0.7 higher."""
    generator = np.random.default_rng(1)
    logit = generator.normal(0, 3, 4000)
    covid = generator.random(4000) < 1 / (1 + np.exp(-(0.5 * logit + 0.7)))
    return (1 / (1 + np.exp(-logit))).astype(np.float32), covid


def test_platt_scaling_finds_the_true_logit_and_keeps_the_order(overconfident):
    probabilities, covid = overconfident
    calibration = fit_platt(probabilities, covid)
    assert calibration.slope == pytest.approx(0.5, abs=0.05)
    assert calibration.intercept == pytest.approx(0.7, abs=0.1)
    calibrated = calibration.apply(probabilities)
    assert calibrated.mean() == pytest.approx(covid.mean(), abs=0.01)
    assert roc_auc(covid, calibrated) == pytest.approx(roc_auc(covid, probabilities))


def test_operating_point_reaches_the_sensitivity_and_no_lower():
    scores = np.linspace(0.01, 1, 100)
    covid = np.arange(100) >= 50
    threshold = choose_operating_point(scores, covid, sensitivity=0.94)
    assert (scores[covid] >= threshold).mean() == pytest.approx(0.94)


def test_composed_studies_tell_more_than_slices(overconfident):
    probabilities, covid = overconfident
    patients = np.array([f"patient {number % 400}" for number in range(covid.size)])
    studies = compose_studies(probabilities.astype(np.float64), covid, patients)
    pooling, aucs = choose_pooling(studies)
    assert aucs[pooling.top_share] == pytest.approx(max(aucs.values()), abs=0.001)
    assert max(aucs.values()) > roc_auc(covid, probabilities)
    again = compose_studies(probabilities.astype(np.float64), covid, patients)
    np.testing.assert_array_equal(studies.slices, again.slices)


def test_the_infected_slices_of_a_composed_study_are_of_one_patient():
    probabilities = np.linspace(0, 1, 40)
    covid, patients = np.arange(40) % 2 == 0, np.array([str(n // 2) for n in range(40)])
    studies = compose_studies(probabilities, covid, patients)
    infected = [np.isin(probabilities[covid], study).sum() for study in studies.slices]
    others = [np.isin(probabilities[~covid], study).sum() for study in studies.slices]
    assert set(infected[:400]) == {1}
    assert set(infected[400:]) == {0}
    assert max(others) == 5
