"""Every figure of a network on judged images, each with its interval or the reason it lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from model.evaluation.bootstrap import Resampler
from model.evaluation.evaluation import OVERALL, Absent, Figure, Level, Name
from model.evaluation.metrics import (
    Statistic,
    weighted_auc,
    weighted_auc_within,
    weighted_average_precision,
    weighted_calibration_error,
    weighted_mean,
    weighted_ratio,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from model.evaluation.judged import Judged

# Images a figure is measured on, and how; or the reason that there is none.
_Measured = tuple[NDArray[np.bool_], Statistic] | str

NO_CLASSIFIER = "the network has no classification branch"
NO_SEGMENTATION = "the network has no segmentation branch"
NO_LESIONS_DRAWN = "no image has its lesions drawn"
NO_ILL = "no image with COVID-19"
NO_HEALTHY = "no image without COVID-19"
ONE_CLASS = "images of one class only"
NO_CLASS = "no image has a class"
NO_MIXED_SOURCE = "no source has both classes"


def figures_of(judged: Judged, source: str) -> tuple[list[Figure], list[Absent]]:
    """Measure all figures on images.

    Parameters
    ----------
    judged
        Images of one source, or of all.
    source
        What the figures are said to be of; `OVERALL` adds the one that goes across sources.
    """
    figures, absent = [], []
    for name, measure in _MEASURES.items():
        if name is Name.AUC_WITHIN_SOURCES and source != OVERALL:
            continue
        measured = measure(judged)
        if isinstance(measured, str):
            absent.append(Absent(name, source, measured))
            continue
        chosen, statistic = measured
        value, interval = Resampler(judged.patients[chosen]).measure(statistic)
        level = Level.PATIENT if judged.patient_known[chosen].all() else Level.SLICE
        figures.append(Figure(name, source, int(chosen.sum()), value, interval, level))
    return figures, absent


def _dice(judged: Judged) -> _Measured:
    if judged.lesion_share is None:
        return NO_SEGMENTATION
    if not judged.drawn.any():
        return NO_LESIONS_DRAWN
    return judged.drawn, weighted_mean(judged.dice[judged.drawn])


def _dice_pooled(judged: Judged) -> _Measured:
    if judged.lesion_share is None:
        return NO_SEGMENTATION
    if not judged.drawn.any():
        return NO_LESIONS_DRAWN
    common, total = judged.common[judged.drawn], judged.total[judged.drawn]
    if not total.any():
        return "no lesion was drawn, and none predicted"
    return judged.drawn, weighted_ratio(common, total)


def _share_called_lesion(judged: Judged) -> _Measured:
    if judged.lesion_share is None:
        return NO_SEGMENTATION
    healthy = judged.labelled & ~judged.covid
    if not healthy.any():
        return NO_HEALTHY
    return healthy, weighted_mean(judged.lesion_share[healthy])


def _sensitivity(judged: Judged) -> _Measured:
    if judged.probability is None:
        return NO_CLASSIFIER
    ill = judged.labelled & judged.covid
    return (ill, weighted_mean(judged.positive[ill])) if ill.any() else NO_ILL


def _specificity(judged: Judged) -> _Measured:
    if judged.probability is None:
        return NO_CLASSIFIER
    healthy = judged.labelled & ~judged.covid
    return (healthy, weighted_mean(~judged.positive[healthy])) if healthy.any() else NO_HEALTHY


def _of_both_classes(
    statistic: Callable[[NDArray[np.bool_], NDArray[np.float64]], Statistic],
) -> Callable[[Judged], _Measured]:
    """Make a measure of one that compares classes and probabilities."""

    def measure(judged: Judged) -> _Measured:
        if judged.probability is None:
            return NO_CLASSIFIER
        chosen = judged.labelled
        if not judged.of_both_classes:
            return ONE_CLASS if chosen.any() else NO_CLASS
        return chosen, statistic(judged.covid[chosen], judged.probability[chosen])

    return measure


def _accuracy(judged: Judged) -> _Measured:
    chosen = judged.labelled
    right = weighted_mean(judged.positive[chosen] == judged.covid[chosen])
    return _of_both_classes(lambda _truth, _probability: right)(judged)


def _auc_within_sources(judged: Judged) -> _Measured:
    if judged.probability is None:
        return NO_CLASSIFIER
    mixed = [
        name
        for name in np.unique(judged.sources)
        if judged.only(judged.sources == name).of_both_classes
    ]
    chosen = judged.labelled & np.isin(judged.sources, mixed)
    if not mixed:
        return NO_MIXED_SOURCE
    return chosen, weighted_auc_within(
        judged.covid[chosen], judged.probability[chosen], judged.sources[chosen]
    )


def _brier(truth: NDArray[np.bool_], probability: NDArray[np.float64]) -> Statistic:
    return weighted_mean(np.square(probability - truth))


_MEASURES: dict[Name, Callable[[Judged], _Measured]] = {
    Name.AUC: _of_both_classes(weighted_auc),
    Name.AUC_WITHIN_SOURCES: _auc_within_sources,
    Name.AVERAGE_PRECISION: _of_both_classes(weighted_average_precision),
    Name.SENSITIVITY: _sensitivity,
    Name.SPECIFICITY: _specificity,
    Name.ACCURACY: _accuracy,
    Name.CALIBRATION_ERROR: _of_both_classes(weighted_calibration_error),
    Name.BRIER: _of_both_classes(_brier),
    Name.DICE: _dice,
    Name.DICE_POOLED: _dice_pooled,
    Name.SHARE_CALLED_LESION: _share_called_lesion,
}


def statistic_of(judged: Judged, name: Name) -> tuple[NDArray[np.bool_], Statistic] | str:
    """Return the images a figure is measured on and how, or why these images cannot give it."""
    return _MEASURES[name](judged)
