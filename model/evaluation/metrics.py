"""Measures of a network: Dice, sensitivity, specificity, AUC and more, plain and for weights.

A `Statistic` takes weights of shape (sets, images), how often each image counts in each set, and
gives (sets,) values, so that a thousand bootstrap repeats are a few array operations.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

CALIBRATION_BINS = 10

Weights = NDArray[np.float64]
Statistic = Callable[[Weights], NDArray[np.float64]]


def dice(truth: NDArray[np.bool_], predicted: NDArray[np.bool_]) -> float:
    """Return the Dice coefficient of two masks, 1 if both are empty."""
    total = int(truth.sum()) + int(predicted.sum())
    return 2.0 * int((truth & predicted).sum()) / total if total else 1.0


def roc_auc(truth: NDArray[np.bool_], scores: NDArray[np.floating]) -> float:
    """Return the area under the ROC curve as the Mann-Whitney statistic; ties count half.

    Raises
    ------
    ValueError
        If one of the classes is absent.
    """
    if truth.all() or not truth.any():
        raise ValueError("an AUC needs samples of both classes")
    return float(weighted_auc(truth, scores)(np.ones((1, truth.size)))[0])


def roc_auc_within(
    truth: NDArray[np.bool_], scores: NDArray[np.floating], strata: NDArray[np.generic]
) -> float:
    """Return the AUC over pairs of one stratum, so that telling the strata apart does not help.

    Raises
    ------
    ValueError
        If no stratum has both classes.
    """
    value = float(weighted_auc_within(truth, scores, strata)(np.ones((1, truth.size)))[0])
    if not np.isfinite(value):
        raise ValueError("an AUC needs samples of both classes")
    return value


def sensitivity(truth: NDArray[np.bool_], positive: NDArray[np.bool_]) -> float:
    """Return the share of the diseased that are called positive."""
    return float(positive[truth].mean())


def specificity(truth: NDArray[np.bool_], positive: NDArray[np.bool_]) -> float:
    """Return the share of the others that are called negative."""
    return float((~positive[~truth]).mean())


def weighted_ratio(numerators: NDArray[np.generic], denominators: NDArray[np.generic]) -> Statistic:
    """Return the statistic "sum over sum", such as a rate or a pooled Dice."""
    above, below = numerators.astype(np.float64), denominators.astype(np.float64)
    return lambda weights: _divided(weights @ above, weights @ below)


def weighted_mean(values: NDArray[np.generic]) -> Statistic:
    """Return the statistic "mean over images"."""
    return weighted_ratio(values, np.ones(values.size))


def weighted_auc(truth: NDArray[np.bool_], scores: NDArray[np.floating]) -> Statistic:
    """Return the area under the ROC curve as a statistic; ties count half."""

    def statistic(weights: Weights) -> NDArray[np.float64]:
        return _divided(*_wins_and_pairs(truth, scores, weights))

    return statistic


def weighted_auc_within(
    truth: NDArray[np.bool_], scores: NDArray[np.floating], strata: NDArray[np.generic]
) -> Statistic:
    """Return the AUC over pairs of one stratum as a statistic."""
    members = [np.flatnonzero(strata == name) for name in np.unique(strata)]

    def statistic(weights: Weights) -> NDArray[np.float64]:
        parts = [_wins_and_pairs(truth[m], scores[m], weights[:, m]) for m in members]
        return _divided(sum(wins for wins, _ in parts), sum(pairs for _, pairs in parts))

    return statistic


def weighted_average_precision(truth: NDArray[np.bool_], scores: NDArray[np.floating]) -> Statistic:
    """Return the average precision as a statistic: precision, weighted by the gain in recall.

    Notes
    -----
    As scikit-learn's `average_precision_score`: no interpolation between thresholds.
    """
    order, last = _thresholds(scores)

    def statistic(weights: Weights) -> NDArray[np.float64]:
        ranked = weights[:, order]
        hits = np.cumsum(ranked * truth[order], axis=1)
        found, called = hits[:, last], np.cumsum(ranked, axis=1)[:, last]
        precision = np.divide(found, called, out=np.zeros_like(found), where=called > 0)
        return _divided((np.diff(found, axis=1, prepend=0) * precision).sum(axis=1), hits[:, -1])

    return statistic


def weighted_calibration_error(
    truth: NDArray[np.bool_], probabilities: NDArray[np.floating]
) -> Statistic:
    """Return the expected calibration error over `CALIBRATION_BINS` bins of equal width.

    Notes
    -----
    Naeini et al. 2015: the mean over bins of the distance between the mean probability and the
    share of the diseased, each bin weighted by its images.
    """
    members = np.eye(CALIBRATION_BINS)[calibration_bin(probabilities)]
    gaps = (probabilities - truth)[:, None] * members

    def statistic(weights: Weights) -> NDArray[np.float64]:
        return _divided(np.abs(weights @ gaps).sum(axis=1), weights.sum(axis=1))

    return statistic


def calibration_bin(probabilities: NDArray[np.floating]) -> NDArray[np.intp]:
    """Return the number of the bin of equal width each probability lies in; 1 is in the last."""
    return np.minimum((probabilities * CALIBRATION_BINS).astype(np.intp), CALIBRATION_BINS - 1)


def roc_points(
    truth: NDArray[np.bool_], scores: NDArray[np.floating]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return false positive rates and sensitivities at every threshold, from (0, 0) to (1, 1)."""
    order, last = _thresholds(scores)
    hits = np.cumsum(truth[order])[last] / max(int(truth.sum()), 1)
    alarms = np.cumsum(~truth[order])[last] / max(int((~truth).sum()), 1)
    return np.concatenate([[0.0], alarms]), np.concatenate([[0.0], hits])


def _thresholds(scores: NDArray[np.floating]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the order of falling scores, and the last place of each distinct score in it."""
    order = np.argsort(-scores, kind="stable")
    return order, np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))


def _wins_and_pairs(
    truth: NDArray[np.bool_], scores: NDArray[np.floating], weights: Weights
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return, for each set, pairs that are ordered rightly (ties: half), and all pairs."""
    if not truth.size:
        return np.zeros(len(weights)), np.zeros(len(weights))
    order, last = _thresholds(scores)
    ranked = weights[:, order]
    positives = np.cumsum(ranked * truth[order], axis=1)[:, last]
    negatives = np.cumsum(ranked * ~truth[order], axis=1)[:, last]
    gained = np.diff(negatives, axis=1, prepend=0)
    # A negative loses to the positives above it, and half to those of its own score.
    above = positives - np.diff(positives, axis=1, prepend=0) / 2
    return (gained * above).sum(axis=1), positives[:, -1] * negatives[:, -1]


def _divided(
    above: NDArray[np.float64] | int, below: NDArray[np.float64] | int
) -> NDArray[np.float64]:
    """Divide, NaN where there is nothing to divide by."""
    above, below = np.asarray(above, np.float64), np.asarray(below, np.float64)
    out = np.full(below.shape, np.nan)
    np.divide(above, below, out=out, where=below > 0)
    return out
