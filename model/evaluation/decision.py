"""What turns a network's outputs into statements: calibration, pooling and operating points."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from model.data.dataset import sources_with_both_classes
from model.errors import DatasetError
from model.evaluation.calibration import CalibrationMethod, choose_calibration
from model.evaluation.studies import choose_pooling, compose_studies
from model.pooling import Calibration, Pooling

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from model.data.dataset import Sample
    from model.evaluation.studies import ComposedStudies

# What the paper's network reaches.
SENSITIVITY_TARGET = 0.94
LESION_THRESHOLD = 0.5
HALF = 0.5


@dataclass(frozen=True, slots=True)
class Decision:
    """How single slices are judged.

    Attributes
    ----------
    calibration
        From raw to calibrated probabilities.
    operating_point
        Threshold on a slice's calibrated probability.
    lesion_threshold
        Threshold on the pixels of the segmentation.
    chosen_on
        In words, which data chose them.
    """

    calibration: Calibration = field(default_factory=Calibration)
    operating_point: float = HALF
    lesion_threshold: float = LESION_THRESHOLD
    chosen_on: str = "nothing: raw probabilities, threshold 0.5"


@dataclass(frozen=True)
class StudyDecision:
    """How slices and studies are judged, and what was seen in choosing it.

    Attributes
    ----------
    slices
        How single slices are judged.
    pooling
        From the slices of a study to its probability.
    operating_point
        Threshold on a study's probability.
    sources
        Data sets whose validation slices chose all this: those with both classes.
    log_losses
        See `model.evaluation.calibration.CalibrationChoice`.
    pooling_aucs
        AUC over composed studies for each share of slices that was tried.
    studies
        The composed studies.
    """

    slices: Decision
    pooling: Pooling
    operating_point: float
    sources: tuple[str, ...]
    log_losses: dict[str, float]
    pooling_aucs: dict[float, float]
    studies: ComposedStudies


def decide(
    samples: Sequence[Sample],
    probabilities: NDArray[np.float32],
    method: CalibrationMethod = CalibrationMethod.AUTO,
) -> StudyDecision:
    """Choose calibration, pooling and operating points on validation samples.

    Parameters
    ----------
    samples
        Validation samples. Only sources with both classes count: where one source brings the
        disease and another does not, a threshold would part the sources.
    probabilities
        Raw probability of each.
    method
        How to calibrate.

    Raises
    ------
    DatasetError
        If no source has both classes.
    """
    sources = tuple(sorted(sources_with_both_classes(samples)))
    if not sources:
        raise DatasetError(
            "the validation data need slices of one source with and without COVID-19: "
            "calibration and operating point are chosen on them"
        )
    chosen = np.array([s.source in sources and s.covid is not None for s in samples], bool)
    covid = np.array([bool(sample.covid) for sample in samples])[chosen]
    patients = np.array([sample.patient or sample.path for sample in samples])[chosen]
    origins = np.array([str(sample.source) for sample in samples])[chosen]
    raw = probabilities[chosen]
    choice = choose_calibration(raw, covid, patients, method)
    calibrated = choice.calibration.apply(raw)
    studies = compose_studies(calibrated, covid, patients, origins)
    pooling, aucs = choose_pooling(studies)
    slices = Decision(
        calibration=choice.calibration,
        operating_point=choose_operating_point(calibrated, covid),
        chosen_on=f"{covid.size} validation slices of {', '.join(sources)}",
    )
    return StudyDecision(
        slices=slices,
        pooling=pooling,
        operating_point=choose_operating_point(studies.pooled(pooling), studies.covid),
        sources=sources,
        log_losses=choice.log_losses,
        pooling_aucs=aucs,
        studies=studies,
    )


def choose_operating_point(
    probabilities: NDArray[np.float64],
    covid: NDArray[np.bool_],
    sensitivity: float = SENSITIVITY_TARGET,
) -> float:
    """Return the highest threshold at which at least this share of the diseased is positive.

    Parameters
    ----------
    probabilities
        Calibrated probabilities, of slices or of studies.
    covid
        Their classes.
    sensitivity
        What is wanted; the paper's is 0.94.
    """
    positives = np.sort(probabilities[covid])
    missed = int(np.floor((1 - sensitivity) * positives.size + 1e-9))
    # Rounded down, so that the threshold survives being written in four digits.
    return float(np.floor(positives[missed] * 1e4) / 1e4)
