"""Measures of a network: Dice, sensitivity, specificity, AUC, and their bootstrap intervals."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


def dice(truth: NDArray[np.bool_], predicted: NDArray[np.bool_]) -> float:
    """Return the Dice coefficient of two masks, 1 if both are empty."""
    total = int(truth.sum()) + int(predicted.sum())
    return 2.0 * int((truth & predicted).sum()) / total if total else 1.0


def roc_auc(truth: NDArray[np.bool_], scores: NDArray[np.float64]) -> float:
    """Return the area under the ROC curve as the Mann-Whitney statistic; ties count half.

    Raises
    ------
    ValueError
        If one of the classes is absent.
    """
    positives, negatives = scores[truth], scores[~truth]
    if not positives.size or not negatives.size:
        raise ValueError("an AUC needs samples of both classes")
    ordered = np.sort(negatives)
    below = np.searchsorted(ordered, positives, side="left")
    up_to = np.searchsorted(ordered, positives, side="right")
    return float((below + up_to).sum() / 2 / positives.size / negatives.size)


def sensitivity(truth: NDArray[np.bool_], positive: NDArray[np.bool_]) -> float:
    """Return the share of the diseased that are called positive."""
    return float(positive[truth].mean())


def specificity(truth: NDArray[np.bool_], positive: NDArray[np.bool_]) -> float:
    """Return the share of the others that are called negative."""
    return float((~positive[~truth]).mean())


def bootstrap_interval(
    statistic: Callable[[NDArray[np.intp]], float],
    clusters: NDArray[np.generic],
    *,
    repeats: int = 1000,
    level: float = 0.95,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the percentile interval of a statistic under resampling of whole clusters.

    Parameters
    ----------
    statistic
        Takes the indices of a resampled set. A set it refuses with ValueError (one class only)
        is drawn again.
    clusters
        Patient of each sample: images of one patient are not independent.
    repeats, level, seed
        Number of resampled sets, coverage and seed.
    """
    generator = np.random.default_rng(seed)
    names, membership = np.unique(clusters, return_inverse=True)
    members = [np.flatnonzero(membership == number) for number in range(names.size)]
    values: list[float] = []
    for _ in range(repeats * 10):
        drawn = generator.integers(0, names.size, names.size)
        try:
            values.append(statistic(np.concatenate([members[number] for number in drawn])))
        except ValueError:
            continue
        if len(values) == repeats:
            break
    low, high = np.percentile(values, [50 * (1 - level), 50 * (1 + level)])
    return float(low), float(high)
