"""Samples beside what a network said of them, as arrays, one entry for each image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from model.data.dataset import Sample
    from model.evaluation.decision import Decision
    from model.evaluation.slice_model import SliceOutputs

_CLUSTER = ":cluster "


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """Images, their truth and what was said of them; every array is of shape (images,).

    Attributes
    ----------
    sources, patients
        Names; an unknown patient is the cluster of near duplicates the image belongs to.
    patient_known
        Whether the patient is one.
    labelled, covid
        Whether the class is known, and the class.
    drawn
        Whether somebody drew the lesions, also if there are none.
    outlined
        Whether there are drawn lesions.
    probability
        Calibrated, or None without a classification branch.
    positive
        Whether it reaches the operating point; all False without a classification branch.
    common, total
        Twice the pixels common to drawn and predicted lesions, and the sum of both sizes; 0 where
        nobody drew them.
    lesion_share
        Share of the image called lesion, or None without a segmentation branch.
    """

    sources: NDArray[np.str_]
    patients: NDArray[np.str_]
    patient_known: NDArray[np.bool_]
    labelled: NDArray[np.bool_]
    covid: NDArray[np.bool_]
    drawn: NDArray[np.bool_]
    outlined: NDArray[np.bool_]
    probability: NDArray[np.float64] | None
    positive: NDArray[np.bool_]
    common: NDArray[np.int64]
    total: NDArray[np.int64]
    lesion_share: NDArray[np.float64] | None

    @property
    def dice(self) -> NDArray[np.float64]:
        """Dice coefficient of each image; 1 where no lesion was drawn and none predicted."""
        return np.where(self.total > 0, self.common / np.maximum(self.total, 1), 1.0)

    @property
    def of_both_classes(self) -> bool:
        """Whether there are images with and without COVID-19."""
        return np.unique(self.covid[self.labelled]).size == 2

    def only(self, chosen: NDArray[np.bool_]) -> Judged:
        """Return the chosen images."""
        return Judged(
            sources=self.sources[chosen],
            patients=self.patients[chosen],
            patient_known=self.patient_known[chosen],
            labelled=self.labelled[chosen],
            covid=self.covid[chosen],
            drawn=self.drawn[chosen],
            outlined=self.outlined[chosen],
            probability=None if self.probability is None else self.probability[chosen],
            positive=self.positive[chosen],
            common=self.common[chosen],
            total=self.total[chosen],
            lesion_share=None if self.lesion_share is None else self.lesion_share[chosen],
        )


def judge(samples: Sequence[Sample], outputs: SliceOutputs, decision: Decision) -> Judged:
    """Apply calibration and thresholds to what a network said of samples."""
    probability, positive = None, np.zeros(len(samples), bool)
    if outputs.probability is not None:
        probability = decision.calibration.apply(outputs.probability)
        positive = probability >= decision.operating_point
    common, total = np.zeros(len(samples), np.int64), np.zeros(len(samples), np.int64)
    share = None
    if outputs.lesions is not None:
        share = outputs.lesions.mean(axis=(1, 2), dtype=np.float64)
        for index, (sample, said) in enumerate(zip(samples, outputs.lesions, strict=True)):
            if sample.mask is not None:
                common[index] = 2 * np.count_nonzero(sample.mask & said)
                total[index] = np.count_nonzero(sample.mask) + np.count_nonzero(said)
    return Judged(
        sources=np.array([sample.source for sample in samples]),
        patients=np.array([sample.patient or sample.path for sample in samples]),
        patient_known=np.array([patient_known(sample) for sample in samples]),
        labelled=np.array([sample.covid is not None for sample in samples]),
        covid=np.array([bool(sample.covid) for sample in samples]),
        drawn=np.array([sample.mask is not None for sample in samples]),
        outlined=np.array([sample.mask is not None and sample.mask.any() for sample in samples]),
        probability=probability,
        positive=positive,
        common=common,
        total=total,
        lesion_share=share,
    )


def patient_known(sample: Sample) -> bool:
    """Whether the sample names a patient, not a cluster of near duplicates."""
    return bool(sample.patient) and _CLUSTER not in sample.patient
