"""Dice, AUC, rates, calibration error and bootstrap against known values and scikit-learn."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from model.evaluation.bootstrap import Resampler
from model.evaluation.metrics import (
    dice,
    roc_auc,
    roc_auc_within,
    roc_points,
    sensitivity,
    specificity,
    weighted_auc,
    weighted_average_precision,
    weighted_calibration_error,
    weighted_mean,
    weighted_ratio,
)

ROWS = st.lists(
    st.tuples(st.booleans(), st.integers(0, 5), st.integers(0, 3)), min_size=2, max_size=40
).filter(lambda rows: len({truth for truth, _, weight in rows if weight}) == 2)


def test_dice():
    first, second = np.array([1, 1, 0, 0], bool), np.array([1, 0, 1, 0], bool)
    assert dice(first, second) == 0.5
    assert dice(first, first) == 1
    assert dice(~first & first, ~first & first) == 1


def test_rates():
    truth, positive = np.array([1, 1, 1, 0, 0], bool), np.array([1, 0, 1, 0, 1], bool)
    assert sensitivity(truth, positive) == pytest.approx(2 / 3)
    assert specificity(truth, positive) == 0.5


@settings(deadline=None)  # scikit-learn is imported in the first example
@given(ROWS)
def test_auc_and_average_precision_are_scikit_learns_also_with_ties_and_weights(rows):
    truth = np.array([row[0] for row in rows])
    scores = np.array([float(row[1]) for row in rows])
    weights = np.array([float(row[2]) for row in rows])
    assert roc_auc(truth, scores) == pytest.approx(roc_auc_score(truth, scores))
    assert weighted_auc(truth, scores)(weights[None])[0] == pytest.approx(
        roc_auc_score(truth, scores, sample_weight=weights)
    )
    assert weighted_average_precision(truth, scores)(weights[None])[0] == pytest.approx(
        average_precision_score(truth, scores, sample_weight=weights)
    )


def test_roc_points_are_scikit_learns():
    generator = np.random.default_rng(3)
    truth, scores = generator.random(50) < 0.4, np.round(generator.random(50), 1)
    alarms, hits = roc_points(truth, scores)
    expected_alarms, expected_hits, _ = roc_curve(truth, scores, drop_intermediate=False)
    np.testing.assert_allclose(alarms, expected_alarms)
    np.testing.assert_allclose(hits, expected_hits)


def test_auc_needs_both_classes():
    with pytest.raises(ValueError, match="both classes"):
        roc_auc(np.ones(3, bool), np.arange(3.0))
    one_each = np.array([1, 0], bool)
    with pytest.raises(ValueError, match="both classes"):
        roc_auc_within(one_each, np.arange(2.0), np.array(["a", "b"]))


def test_auc_within_sources_does_not_count_telling_the_sources_apart():
    # Source b is all healthy and scores low: it lifts the plain AUC, not the one within sources.
    truth = np.array([1, 0, 1, 0, 0, 0, 0, 0], bool)
    scores = np.array([0.9, 0.8, 0.5, 0.6, 0.1, 0.1, 0.2, 0.2])
    sources = np.array(list("aaaabbbb"))
    assert roc_auc_within(truth, scores, sources) == 0.5
    assert roc_auc(truth, scores) > 0.8


def test_calibration_error_of_known_bins():
    probability = np.array([0.0, 0.05, 0.95, 1.0])
    weights = np.ones((1, 4))
    perfect = np.array([0, 0, 1, 1], bool)
    assert weighted_calibration_error(perfect, probability)(weights)[0] == pytest.approx(0.025)
    assert weighted_calibration_error(~perfect, probability)(weights)[0] == pytest.approx(0.975)
    # Within a bin errors of both signs cancel: 0.5 said of one ill and one healthy is right.
    said = np.array([0.5, 0.5])
    assert weighted_calibration_error(np.array([1, 0], bool), said)(np.ones((1, 2)))[0] == 0


def test_weights_are_the_same_as_repeating_the_images():
    generator = np.random.default_rng(2)
    truth, scores = generator.random(30) < 0.5, generator.random(30)
    counts = generator.integers(0, 4, 30)
    repeated = np.repeat(np.arange(30), counts)
    for make in (weighted_auc, weighted_average_precision, weighted_calibration_error):
        weighted = make(truth, scores)(counts[None].astype(float))
        plain = make(truth[repeated], scores[repeated])(np.ones((1, repeated.size)))
        assert weighted == pytest.approx(plain)


def test_a_statistic_of_nothing_is_no_number():
    nothing = np.zeros((1, 3))
    for statistic in (
        weighted_mean(np.arange(3.0)),
        weighted_ratio(np.ones(3), np.ones(3)),
        weighted_auc(np.array([1, 0, 1], bool), np.arange(3.0)),
        weighted_average_precision(np.array([1, 0, 1], bool), np.arange(3.0)),
    ):
        assert np.isnan(statistic(nothing)).all()


def test_resampling_patients_is_wider_than_resampling_images():
    generator = np.random.default_rng(0)
    values = np.repeat(generator.normal(0, 1, 20), 10)
    patients, images = np.repeat(np.arange(20), 10), np.arange(200)
    mean, wide = Resampler(patients).measure(weighted_mean(values))
    narrow = Resampler(images).interval(weighted_mean(values))
    assert mean == pytest.approx(values.mean())
    assert wide[0] < narrow[0] < mean < narrow[1] < wide[1]


def test_the_interval_covers_the_truth_as_often_as_it_says():
    generator = np.random.default_rng(1)
    covered = 0
    for _ in range(200):
        values = generator.normal(0.3, 1, 60)
        low, high = Resampler(np.arange(60), repeats=400).interval(weighted_mean(values))
        covered += low <= 0.3 <= high
    assert 0.90 <= covered / 200 <= 0.98


def test_few_patients_give_no_interval_and_the_same_data_the_same_one():
    truth, scores = np.array([1, 0, 1, 0, 1, 0], bool), np.arange(6.0)
    assert Resampler(np.arange(6) % 5).interval(weighted_auc(truth, scores)) is None
    first = Resampler(np.arange(6)).interval(weighted_auc(truth, scores))
    assert first == Resampler(np.arange(6)).interval(weighted_auc(truth, scores))


def test_sets_of_one_class_are_left_out():
    truth, scores = np.arange(8) == 0, np.where(np.arange(8) == 0, 0.9, 0.1)
    assert Resampler(np.arange(8)).interval(weighted_auc(truth, scores)) == (1.0, 1.0)


def test_a_thousand_repeats_of_five_hundred_images_take_no_time():
    generator = np.random.default_rng(0)
    truth, scores = generator.random(500) < 0.4, generator.random(500)
    began = time.process_time()
    resampler = Resampler(generator.integers(0, 200, 500))
    for make in (weighted_auc, weighted_average_precision, weighted_calibration_error):
        assert resampler.interval(make(truth, scores)) is not None
    assert time.process_time() - began < 2
