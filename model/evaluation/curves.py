"""ROC and reliability curves of judged images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from model.evaluation.evaluation import Reliability, ReliabilityBin, RocCurve
from model.evaluation.metrics import CALIBRATION_BINS, calibration_bin, roc_points

if TYPE_CHECKING:
    from numpy.typing import NDArray


def roc_of(source: str, truth: NDArray[np.bool_], probability: NDArray[np.float64]) -> RocCurve:
    """Return every operating point of images of both classes."""
    alarms, hits = roc_points(truth, probability)
    return RocCurve(source, _rounded(alarms), _rounded(hits))


def reliability_of(
    source: str, truth: NDArray[np.bool_], probability: NDArray[np.float64]
) -> Reliability:
    """Return the bins that hold images, with the mean probability and the share of the ill."""
    numbers = calibration_bin(probability)
    bins = []
    for number in np.unique(numbers):
        members = numbers == number
        bins.append(
            ReliabilityBin(
                low=int(number) / CALIBRATION_BINS,
                high=(int(number) + 1) / CALIBRATION_BINS,
                count=int(members.sum()),
                predicted=float(probability[members].mean()),
                observed=float(truth[members].mean()),
            )
        )
    return Reliability(source, tuple(bins))


def _rounded(values: NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(round(float(value), 4) for value in values)
