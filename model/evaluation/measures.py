"""Measured values of a network on the validation data, per source and with bootstrap intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from model.data.dataset import sources_with_both_classes
from model.evaluation.metrics import bootstrap_interval, dice, roc_auc

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from model.data.dataset import Sample

COMPOSED_STUDIES = "composed studies"


@dataclass(frozen=True, slots=True)
class Measure:
    """One measured value.

    Attributes
    ----------
    name, on
        What was measured, and on which data.
    count
        Number of samples.
    value
        The value.
    interval
        95 % bootstrap interval over patients, or None where there is too little to resample.
    """

    name: str
    on: str
    count: int
    value: float
    interval: tuple[float, float] | None = None


def measure_slices(
    samples: Sequence[Sample],
    probabilities: NDArray[np.float64],
    lesions: NDArray[np.bool_],
    threshold: float,
) -> tuple[Measure, ...]:
    """Measure classification and segmentation, each source by itself.

    Parameters
    ----------
    samples
        Validation samples.
    probabilities
        Calibrated probability of each.
    lesions
        Predicted lesion mask of each, (samples, input_size, input_size).
    threshold
        Operating point, applied to single slices.
    """
    truth = np.array([bool(sample.covid) for sample in samples])
    patients = np.array([sample.patient for sample in samples])
    positive = probabilities >= threshold
    measures = []
    both = sources_with_both_classes(samples)
    for source in sorted({sample.source for sample in samples}):
        members = np.flatnonzero(
            [sample.source == source and sample.covid is not None for sample in samples]
        )
        if not members.size:
            continue
        if source in both:
            measures.append(_auc(source, members, truth, probabilities, patients))
            error = np.square(probabilities[members] - truth[members])
            measures.append(_mean("Brier score", _slices(source), error, patients[members]))
        for covid, name, hit in (
            (True, "sensitivity", positive),
            (False, "specificity", ~positive),
        ):
            chosen = members[truth[members] == covid]
            if chosen.size:
                rate = hit[chosen].astype(float)
                measures.append(_mean(name, _slices(source), rate, patients[chosen]))
        masks = {int(index): samples[int(index)].mask for index in members}
        scores = {i: dice(mask, lesions[i]) for i, mask in masks.items() if mask is not None}
        if scores:
            values = np.array(list(scores.values()))
            measures.append(_mean("Dice", source, values, patients[list(scores)]))
        elif not truth[members].any():
            share = lesions[members].mean(axis=(1, 2))
            on = f"{source}, no lesion drawn"
            measures.append(_mean("share called lesion", on, share, patients[members]))
    return tuple(measures)


def _slices(source: str) -> str:
    return f"{source}, slices"


def _auc(
    source: str,
    members: NDArray[np.intp],
    truth: NDArray[np.bool_],
    probabilities: NDArray[np.float64],
    patients: NDArray[np.str_],
) -> Measure:
    truth, scores = truth[members], probabilities[members]
    interval = bootstrap_interval(
        lambda drawn: roc_auc(truth[drawn], scores[drawn]), patients[members]
    )
    return Measure("AUC", _slices(source), members.size, roc_auc(truth, scores), interval)


def _mean(name: str, on: str, values: NDArray[np.float64], patients: NDArray[np.str_]) -> Measure:
    interval = None
    if np.unique(patients).size > 5:
        interval = bootstrap_interval(lambda drawn: float(values[drawn].mean()), patients)
    return Measure(name, on, values.size, float(values.mean()), interval)
