"""Figures of a network's outputs on the reported samples, with intervals over patients."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from model.config import Task
from model.data.dataset import sources_with_both_classes
from model.evaluation.bootstrap import Resampler
from model.evaluation.metrics import dice, weighted_auc, weighted_mean
from model.experiments.result import MeasuredFigure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from model.data.dataset import Sample
    from model.evaluation.metrics import Statistic

BOTH_CLASSES = "both classes"
THRESHOLD = 0.5


def measure(
    samples: Sequence[Sample], outputs: Mapping[str, NDArray[np.float32]]
) -> tuple[MeasuredFigure, ...]:
    """Measure classes and lesions as far as the network tells them.

    Parameters
    ----------
    samples
        The reported samples.
    outputs
        By task, the network's output of each: probabilities (samples, 1) and lesion maps
        (samples, rows, columns, 1). Both are cut at `THRESHOLD`.

    Returns
    -------
    tuple of MeasuredFigure
        Dice: mean over the images with a lesion mask. The class figures over the sources with
        both classes, where knowing the source does not help, and for each source by itself.
    """
    patients = np.array([sample.patient for sample in samples])
    sources = np.array([str(sample.source) for sample in samples])
    found: list[MeasuredFigure] = []
    if Task.SEGMENTATION in outputs:
        predicted = np.asarray(outputs[Task.SEGMENTATION])[..., 0] >= THRESHOLD
        drawn = [i for i, sample in enumerate(samples) if sample.mask is not None]
        scores = np.array([_dice(samples[i], predicted[i]) for i in drawn])
        if drawn:
            found.append(_mean("dice", BOTH_CLASSES, scores, patients[drawn]))
            found += [
                _mean("dice", source, scores[chosen], patients[drawn][chosen])
                for source in np.unique(sources[drawn])
                for chosen in [np.flatnonzero(sources[drawn] == source)]
            ]
    if Task.CLASSIFICATION in outputs:
        known = np.array([sample.covid is not None for sample in samples])
        truth = np.array([bool(sample.covid) for sample in samples])
        probability = np.asarray(outputs[Task.CLASSIFICATION]).reshape(-1).astype(np.float64)
        both = np.isin(sources, sources_with_both_classes(samples))
        groups = {BOTH_CLASSES: both & known}
        groups |= {source: (sources == source) & known for source in np.unique(sources[known])}
        for name, chosen in groups.items():
            found += _classes(name, truth[chosen], probability[chosen], patients[chosen])
    return tuple(found)


def _dice(sample: Sample, predicted: NDArray[np.bool_]) -> float:
    return dice(np.asarray(sample.mask, np.bool_), predicted)


def _classes(
    source: str,
    truth: NDArray[np.bool_],
    probability: NDArray[np.float64],
    patients: NDArray[np.str_],
) -> list[MeasuredFigure]:
    positive = probability >= THRESHOLD
    right = (positive == truth).astype(float)
    found = []
    if truth.any() and not truth.all():
        found.append(_mean("accuracy", source, right, patients))
        found.append(_figure("auc", source, patients, weighted_auc(truth, probability)))
    if truth.any():
        found.append(_mean("sensitivity", source, right[truth], patients[truth]))
    if not truth.all():
        found.append(_mean("specificity", source, right[~truth], patients[~truth]))
    return found


def _mean(
    name: str, source: str, values: NDArray[np.float64], patients: NDArray[np.str_]
) -> MeasuredFigure:
    return _figure(name, source, patients, weighted_mean(values))


def _figure(
    name: str, source: str, patients: NDArray[np.str_], statistic: Statistic
) -> MeasuredFigure:
    value, interval = Resampler(patients).measure(statistic)
    low, high = interval or (None, None)
    clusters = np.unique(patients).size
    return MeasuredFigure(name, str(source), patients.size, clusters, value, low, high)
