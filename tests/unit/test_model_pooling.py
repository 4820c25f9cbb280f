"""Calibration, pooling and the operating point."""

import numpy as np
import pytest

from model.errors import ConfigError
from model.evaluation.calibration import (
    CalibrationMethod,
    choose_calibration,
    fit_platt,
    fit_temperature,
)
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


def test_temperature_keeps_a_half_where_it_is():
    generator = np.random.default_rng(4)
    logit = generator.normal(0, 3, 4000)
    covid = generator.random(4000) < 1 / (1 + np.exp(-0.4 * logit))
    calibration = fit_temperature((1 / (1 + np.exp(-logit))).astype(np.float32), covid)
    assert calibration.slope == pytest.approx(0.4, abs=0.05)
    assert calibration.method == "temperature"
    assert calibration.apply(np.array([0.5], np.float32))[0] == pytest.approx(0.5)


def test_the_better_calibration_of_unseen_patients_is_chosen(overconfident):
    probabilities, covid = overconfident
    patients = np.array([str(number % 500) for number in range(covid.size)])
    choice = choose_calibration(probabilities, covid, patients)
    assert choice.calibration.method == "platt"  # these scores are shifted, too
    losses = choice.log_losses
    assert losses["platt"] < losses["temperature"] < losses["none"]
    asked = choose_calibration(probabilities, covid, patients, CalibrationMethod.TEMPERATURE)
    assert asked.calibration.method == "temperature"


def test_probabilities_that_are_right_already_are_left_alone():
    """What a fit costs on other patients may be more than it gains."""
    generator = np.random.default_rng(11)
    raw = generator.uniform(0.02, 0.98, 60).astype(np.float32)
    covid = generator.random(60) < raw
    patients = np.arange(60).astype(str)
    choice = choose_calibration(raw, covid, patients)
    losses = choice.log_losses
    assert losses["none"] < min(losses["platt"], losses["temperature"]), "else nothing is tested"
    assert choice.calibration == Calibration()
    assert choice.calibration.method == "none"
    asked = choose_calibration(raw, covid, patients, CalibrationMethod.NONE)
    assert asked.calibration == Calibration()


def test_with_few_patients_the_simpler_calibration_is_taken():
    probabilities = np.array([0.2, 0.4, 0.6, 0.9], np.float32)
    covid = np.array([0, 0, 0, 1], bool)
    choice = choose_calibration(probabilities, covid, np.array(list("abcd")))
    assert choice.calibration.method == "temperature"
    assert choice.log_losses == {}


def test_one_patient_in_several_folds_would_flatter():
    """Labels of patients drawn at random: memorising them must not look like calibration."""
    generator = np.random.default_rng(5)
    covid = np.repeat(generator.random(60) < 0.5, 20)
    patients = np.repeat(np.arange(60).astype(str), 20)
    probabilities = generator.random(1200).astype(np.float32)
    losses = choose_calibration(probabilities, covid, patients).log_losses
    assert losses["platt"] > np.log(2) - 0.03


def test_without_calibration_the_method_says_so():
    assert Calibration().method == "none"


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


def test_studies_are_composed_within_one_source():
    probabilities = np.concatenate([np.full(20, 0.1), np.full(20, 0.9)])
    covid, sources = np.arange(40) % 2 == 0, np.repeat(["first", "second"], 20)
    patients = np.array([str(number // 2) for number in range(40)])
    studies = compose_studies(probabilities, covid, patients, sources)
    assert np.ptp(studies.slices, axis=1).max() == 0
    assert studies.covid.sum() == 800
    assert len(studies.slices) == 1600


def test_the_infected_slices_of_a_composed_study_are_of_one_patient():
    probabilities = np.linspace(0, 1, 40)
    covid, patients = np.arange(40) % 2 == 0, np.array([str(n // 2) for n in range(40)])
    studies = compose_studies(probabilities, covid, patients)
    infected = [np.isin(probabilities[covid], study).sum() for study in studies.slices]
    others = [np.isin(probabilities[~covid], study).sum() for study in studies.slices]
    assert set(infected[:400]) == {1}
    assert set(infected[400:]) == {0}
    assert max(others) == 5
