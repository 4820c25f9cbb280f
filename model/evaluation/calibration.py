"""Probability calibration, fitted on validation data and chosen by cross-validation."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import minimize

from model.pooling import Calibration

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

FOLDS = 5
_LOG_SLOPE_BOUNDS = (-5.0, 3.0)
_INTERCEPT_BOUNDS = (-10.0, 10.0)


class CalibrationMethod(StrEnum):
    """How raw probabilities are calibrated; ``auto`` takes the best one, ``none`` leaves them."""

    AUTO = "auto"
    TEMPERATURE = "temperature"
    PLATT = "platt"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class CalibrationChoice:
    """A calibration, and what spoke for it.

    Attributes
    ----------
    calibration
        Fitted on all validation slices.
    log_losses
        Cross-validated log loss of each method over patients that did not fit it, and of the raw
        probabilities (``none``); empty where there were too few patients to part.
    """

    calibration: Calibration
    log_losses: dict[str, float]


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
    logit, targets = _logit(probabilities), _smoothed_targets(covid)

    def loss(parameters: NDArray[np.float64]) -> float:
        return _cross_entropy(np.exp(parameters[0]) * logit + parameters[1], targets)

    best = minimize(
        loss, np.zeros(2), method="L-BFGS-B", bounds=[_LOG_SLOPE_BOUNDS, _INTERCEPT_BOUNDS]
    )
    return Calibration(float(np.exp(best.x[0])), float(best.x[1]))


def fit_temperature(probabilities: NDArray[np.float32], covid: NDArray[np.bool_]) -> Calibration:
    """Fit temperature scaling: the logit is divided by one number, so 0.5 stays where it is.

    Parameters
    ----------
    probabilities, covid
        As in `fit_platt`.

    Notes
    -----
    Guo et al. 2017, section 4.2, for two classes; the targets are Platt's, for his reason.
    """
    logit, targets = _logit(probabilities), _smoothed_targets(covid)

    def loss(parameters: NDArray[np.float64]) -> float:
        return _cross_entropy(np.exp(parameters[0]) * logit, targets)

    best = minimize(loss, np.zeros(1), method="L-BFGS-B", bounds=[_LOG_SLOPE_BOUNDS])
    return Calibration(float(np.exp(best.x[0])))


FITS: dict[CalibrationMethod, Callable[[NDArray[np.float32], NDArray[np.bool_]], Calibration]] = {
    CalibrationMethod.TEMPERATURE: fit_temperature,
    CalibrationMethod.PLATT: fit_platt,
    CalibrationMethod.NONE: lambda _probabilities, _covid: Calibration(),
}


def choose_calibration(
    probabilities: NDArray[np.float32],
    covid: NDArray[np.bool_],
    patients: NDArray[np.str_],
    method: CalibrationMethod = CalibrationMethod.AUTO,
) -> CalibrationChoice:
    """Fit the method that predicts unseen patients best, or the one that is asked for.

    Parameters
    ----------
    probabilities, covid
        Raw probabilities and classes of validation slices; both classes have to be there.
    patients
        Their patients: the folds part them, not their slices.
    method
        What to fit; `CalibrationMethod.AUTO` takes the lowest cross-validated log loss, also that
        of the raw probabilities, and temperature where there are too few patients to
        cross-validate, since it has one parameter less to get wrong than Platt scaling.
    """
    losses = {
        each.value: _held_out_loss(probabilities, covid, patients, fit)
        for each, fit in FITS.items()
    }
    known = {name: loss for name, loss in losses.items() if loss is not None}
    if method is CalibrationMethod.AUTO:
        method = min(FITS, key=lambda each: known.get(each.value, 0.0))
    return CalibrationChoice(FITS[method](probabilities, covid), known)


def _held_out_loss(
    probabilities: NDArray[np.float32],
    covid: NDArray[np.bool_],
    patients: NDArray[np.str_],
    fit: Callable[[NDArray[np.float32], NDArray[np.bool_]], Calibration],
) -> float | None:
    """Return the log loss over `FOLDS` folds of patients, or None if a fold cannot be fitted."""
    names, membership = np.unique(patients, return_inverse=True)
    folds = np.random.default_rng(0).permutation(np.arange(names.size) % FOLDS)[membership]
    calibrated = np.zeros(covid.size)
    for fold in range(FOLDS):
        held_out = folds == fold
        if np.unique(covid[~held_out]).size < 2:
            return None
        calibrated[held_out] = fit(probabilities[~held_out], covid[~held_out]).apply(
            probabilities[held_out]
        )
    return _cross_entropy(_logit(calibrated), covid.astype(np.float64))


def _logit(probabilities: NDArray[np.floating]) -> NDArray[np.float64]:
    clipped = np.clip(probabilities.astype(np.float64), 1e-7, 1 - 1e-7)
    return np.asarray(np.log(clipped / (1 - clipped)))


def _smoothed_targets(covid: NDArray[np.bool_]) -> NDArray[np.float64]:
    positives, negatives = int(covid.sum()), int((~covid).sum())
    return np.where(covid, (positives + 1) / (positives + 2), 1 / (negatives + 2))


def _cross_entropy(score: NDArray[np.float64], targets: NDArray[np.float64]) -> float:
    return float(np.mean(np.logaddexp(0, score) - targets * score))
