"""Calibration, pooling rule and operating point, all chosen on validation data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import minimize

from model.evaluation.metrics import roc_auc
from model.pooling import Calibration, Pooling

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

POOLING_SHARES = (0.1, 0.2, 0.35, 0.5, 1.0)
INFECTED_SHARES = (0.2, 0.8)
OTHER_PATIENTS = 5
SLICES_PER_STUDY = 60
STUDIES_PER_CLASS = 400
# What the paper's network reaches.
SENSITIVITY_TARGET = 0.94


@dataclass(frozen=True, slots=True, eq=False)
class ComposedStudies:
    """Studies composed of validation slices, since the validation data hold no whole studies.

    Attributes
    ----------
    slices
        Calibrated probabilities of shape (studies, slices).
    covid
        Class of each study.
    """

    slices: NDArray[np.float64]
    covid: NDArray[np.bool_]

    def pooled(self, pooling: Pooling) -> NDArray[np.float64]:
        """Return the probability of each study."""
        return np.array([pooling.pool(study) for study in self.slices])


def fit_platt(probabilities: NDArray[np.float32], covid: NDArray[np.bool_]) -> Calibration:
    """Fit Platt scaling by maximum likelihood, with Platt's smoothed targets.

    Parameters
    ----------
    probabilities
        Raw probabilities of validation slices.
    covid
        Their classes.

    Notes
    -----
    Platt 1999, section 2.2: the targets (n+ + 1) / (n+ + 2) and 1 / (n- + 2) keep a few samples
    from making the scaling certain. The slope is held positive: a calibration must not reorder.
    """
    positives, negatives = int(covid.sum()), int((~covid).sum())
    targets = np.where(covid, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    clipped = np.clip(probabilities.astype(np.float64), 1e-7, 1 - 1e-7)
    logit = np.log(clipped / (1 - clipped))

    def loss(parameters: NDArray[np.float64]) -> float:
        score = np.exp(parameters[0]) * logit + parameters[1]
        return float(np.mean(np.logaddexp(0, score) - targets * score))

    best = minimize(loss, np.zeros(2), method="L-BFGS-B", bounds=[(-5, 3), (-10, 10)])
    return Calibration(float(np.exp(best.x[0])), float(best.x[1]))


def compose_studies(
    probabilities: NDArray[np.float64],
    covid: NDArray[np.bool_],
    patients: NDArray[np.str_],
    seed: int = 0,
) -> ComposedStudies:
    """Compose studies from single slices, drawn with replacement.

    Parameters
    ----------
    probabilities
        Calibrated probabilities of validation slices.
    covid
        Their classes.
    patients
        Their patients.
    seed
        Seed of the drawing.

    Notes
    -----
    A study of COVID-19 gets a share of infected slices drawn evenly from `INFECTED_SHARES`, all of
    one patient with COVID-19; its other slices, and all of a study without, are those of
    `OTHER_PATIENTS` patients without. A real study is one person's, but its slices vary more than
    the one to three figures that the data hold of a person; slices drawn from everybody would
    make every study an average of all, and the task too easy.
    """
    generator = np.random.default_rng(seed)

    def draw(group: NDArray[np.bool_], count: int) -> NDArray[np.float64]:
        names = np.unique(patients[group])
        drawn = generator.choice(names, (STUDIES_PER_CLASS, count))
        pools = (probabilities[group & np.isin(patients, chosen)] for chosen in drawn)
        return np.stack([generator.choice(pool, SLICES_PER_STUDY) for pool in pools])

    shares = generator.uniform(*INFECTED_SHARES, (STUDIES_PER_CLASS, 1))
    infected = generator.random((STUDIES_PER_CLASS, SLICES_PER_STUDY)) < shares
    diseased = np.where(infected, draw(covid, 1), draw(~covid, OTHER_PATIENTS))
    return ComposedStudies(
        np.concatenate([diseased, draw(~covid, OTHER_PATIENTS)]),
        np.repeat([True, False], STUDIES_PER_CLASS),
    )


def choose_pooling(
    studies: ComposedStudies, shares: Sequence[float] = POOLING_SHARES
) -> tuple[Pooling, dict[float, float]]:
    """Return the pooling rule with the highest AUC over composed studies, and every share's AUC."""
    aucs = {share: roc_auc(studies.covid, studies.pooled(Pooling(share))) for share in shares}
    return Pooling(max(aucs, key=lambda share: (round(aucs[share], 3), -share))), aucs


def choose_operating_point(
    probabilities: NDArray[np.float64],
    covid: NDArray[np.bool_],
    sensitivity: float = SENSITIVITY_TARGET,
) -> float:
    """Return the highest threshold at which at least this share of the diseased is positive.

    Parameters
    ----------
    probabilities
        Calibrated probabilities of studies.
    covid
        Their classes.
    sensitivity
        What is wanted; the paper's is 0.94.
    """
    positives = np.sort(probabilities[covid])
    missed = int(np.floor((1 - sensitivity) * positives.size + 1e-9))
    # Rounded down, so that the threshold survives being written in four digits.
    return float(np.floor(positives[missed] * 1e4) / 1e4)
