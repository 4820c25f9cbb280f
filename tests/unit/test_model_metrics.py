"""Dice, AUC, rates and bootstrap against known values and scikit-learn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from model.evaluation.metrics import bootstrap_interval, dice, roc_auc, sensitivity, specificity


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
@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=2, max_size=40).filter(
        lambda rows: len({truth for truth, _ in rows}) == 2
    )
)
def test_auc_is_scikit_learns_also_with_ties(rows):
    truth = np.array([row[0] for row in rows])
    scores = np.array([float(row[1]) for row in rows])
    assert roc_auc(truth, scores) == pytest.approx(roc_auc_score(truth, scores))


def test_auc_needs_both_classes():
    with pytest.raises(ValueError, match="both classes"):
        roc_auc(np.ones(3, bool), np.arange(3.0))


def test_bootstrap_over_patients_is_wider_than_over_images():
    generator = np.random.default_rng(0)
    values = np.repeat(generator.normal(0, 1, 20), 10)
    patients, images = np.repeat(np.arange(20), 10), np.arange(200)

    def mean(drawn):
        return float(values[drawn].mean())

    low, high = bootstrap_interval(mean, patients)
    narrow_low, narrow_high = bootstrap_interval(mean, images)
    assert low < narrow_low < values.mean() < narrow_high < high


def test_bootstrap_skips_sets_of_one_class():
    truth, scores = np.array([1, 0, 0], bool), np.array([0.9, 0.1, 0.2])
    low, high = bootstrap_interval(
        lambda drawn: roc_auc(truth[drawn], scores[drawn]), np.arange(3), repeats=50
    )
    assert (low, high) == (1.0, 1.0)
