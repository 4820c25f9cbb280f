"""A network on a whole series: its probability, and its slices beside trivial baselines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from model.evaluation.bootstrap import Resampler
from model.evaluation.metrics import weighted_auc
from model.lungs import Side, find_lungs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from model.prediction import Prediction
    from model.volume import CtVolume

# Neighbouring slices are not independent: this many are resampled together.
BLOCK = 10
PROBABILITY = "network: probability"
LESION_AREA = "network: lesion area"
LESION_SHARE = "network: lesion share of the lung"
LUNG_AREA = "baseline: lung area"
NEARNESS = "baseline: nearness to the centre"
BASELINES = (LUNG_AREA, NEARNESS)


@dataclass(frozen=True, slots=True)
class SliceAuc:
    """How well one score of the slices finds the infected ones.

    Attributes
    ----------
    score
        Name of the score; baselines look at no disease at all.
    slices, infected
        How many slices were compared, and how many of them are infected.
    auc
        Area under the ROC curve.
    interval
        95 % bootstrap interval over blocks of `BLOCK` neighbouring slices, or None.
    """

    score: str
    slices: int
    infected: int
    auc: float
    interval: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class SeriesEvaluation:
    """What a network says of one series, and how it orders the slices where they are labelled.

    Attributes
    ----------
    name
        Name of the series.
    slices, screened_slices
        Slices of the series, and how many of them show lung.
    probability, operating_point, positive
        Of the study, calibrated and pooled.
    lung_ml, lesion_ml, involvement_percent
        Volumes, and the lesions' share of the lung.
    all_slices, with_lung
        AUC of each score over all slices and over those with lung; empty without labels, or where
        all slices are of one class.
    """

    name: str
    slices: int
    screened_slices: int
    probability: float
    operating_point: float
    positive: bool
    lung_ml: float
    lesion_ml: float
    involvement_percent: float
    all_slices: tuple[SliceAuc, ...] = ()
    with_lung: tuple[SliceAuc, ...] = ()

    def above_baselines(self) -> bool | None:
        """Whether the probability beats both baselines, over all slices and over those with lung.

        None without labels.
        """
        if not self.all_slices or not self.with_lung:
            return None
        return all(
            _auc_of(table, PROBABILITY) > max(_auc_of(table, name) for name in BASELINES)
            for table in (self.all_slices, self.with_lung)
        )


def evaluate_series(
    name: str,
    volume: CtVolume,
    prediction: Prediction,
    infected: NDArray[np.bool_] | None = None,
) -> SeriesEvaluation:
    """Describe what a network said of a series, and compare its slices with their labels.

    Parameters
    ----------
    name
        Name of the series.
    volume
        The series.
    prediction
        What the network said of it.
    infected
        For each slice of the volume, in its order, whether it shows the disease; or None.
    """
    all_slices: tuple[SliceAuc, ...] = ()
    with_lung: tuple[SliceAuc, ...] = ()
    if infected is not None:
        lungs = find_lungs(volume)
        area = (lungs.sides != Side.NONE).sum(axis=(1, 2)).astype(float)
        scores = slice_scores(prediction, area)
        screened = np.zeros(infected.size, bool)
        screened[list(prediction.screened_slices)] = True
        all_slices = _table(scores, infected, np.ones_like(screened))
        with_lung = _table(scores, infected, screened)
    return SeriesEvaluation(
        name=name,
        slices=volume.shape[0],
        screened_slices=len(prediction.screened_slices),
        probability=prediction.covid_probability,
        operating_point=prediction.operating_point,
        positive=prediction.positive,
        lung_ml=prediction.lung_volume_ml,
        lesion_ml=prediction.total_lesion_volume_ml,
        involvement_percent=prediction.lung_involvement_percent,
        all_slices=all_slices,
        with_lung=with_lung,
    )


def slice_scores(
    prediction: Prediction, lung_area: NDArray[np.float64]
) -> dict[str, NDArray[np.float64]]:
    """Score every slice by the network's two outputs and by two rules that see no disease.

    Parameters
    ----------
    prediction
        What the network said of a series.
    lung_area
        Pixels of lung in each of its slices.
    """
    probability = np.zeros(lung_area.size)  # a slice without lung is not shown to the network
    probability[list(prediction.screened_slices)] = prediction.slice_probabilities
    lesion = (prediction.lesion_mask.labels > 0).sum(axis=(1, 2)).astype(float)
    distance = np.abs(np.arange(lung_area.size) - (lung_area.size - 1) / 2)
    return {
        PROBABILITY: probability,
        LESION_AREA: lesion,
        LESION_SHARE: lesion / np.maximum(lung_area, 1),
        LUNG_AREA: lung_area,
        NEARNESS: -distance,
    }


def _table(
    scores: dict[str, NDArray[np.float64]],
    infected: NDArray[np.bool_],
    chosen: NDArray[np.bool_],
) -> tuple[SliceAuc, ...]:
    truth = infected[chosen]
    if truth.all() or not truth.any():
        return ()
    resampler = Resampler(np.flatnonzero(chosen) // BLOCK)
    rows = []
    for name, values in scores.items():
        auc, interval = resampler.measure(weighted_auc(truth, values[chosen]))
        rows.append(SliceAuc(name, truth.size, int(truth.sum()), auc, interval))
    return tuple(rows)


def _auc_of(table: tuple[SliceAuc, ...], score: str) -> float:
    return next(row.auc for row in table if row.score == score)
