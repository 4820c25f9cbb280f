"""Single images of an evaluation: a table of all, and pictures of the worst."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING

import cv2
import numpy as np

from model.evaluation.judged import judge, patient_known

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from model.data.dataset import Sample
    from model.evaluation.subject import Evaluated

WORST = 8
_SIDE = 256
# Okabe and Ito's blue and vermilion, which colour-blind readers tell apart too; as BGR.
_DRAWN = (233, 180, 86)
_PREDICTED = (0, 94, 213)


@dataclass(frozen=True, slots=True)
class Case:
    """One image, its truth and what was said of it; None where there is nothing to say.

    Attributes
    ----------
    path, source, split, patient, patient_known
        Which image it is.
    covid
        Its class.
    raw_probability, probability, positive
        Before and after calibration, and whether it reaches the operating point.
    dice
        Dice coefficient of the lesions, where they were drawn.
    lesion_share
        Share of the image called lesion.
    """

    path: str
    source: str
    split: str
    patient: str
    patient_known: bool
    covid: bool | None
    raw_probability: float | None
    probability: float | None
    positive: bool | None
    dice: float | None
    lesion_share: float | None

    @property
    def error(self) -> float:
        """Distance of the probability from the truth; 0 where either is unknown."""
        if self.probability is None or self.covid is None:
            return 0.0
        return abs(self.probability - self.covid)


def cases_of(evaluated: Evaluated) -> tuple[Case, ...]:
    """Return every image of an evaluation, in the order of the data."""
    samples, outputs = evaluated.samples, evaluated.outputs
    judged = judge(samples, outputs, evaluated.decision)
    dice, raw, share = judged.dice, outputs.probability, judged.lesion_share
    calibrated = judged.probability
    return tuple(
        Case(
            path=sample.path,
            source=sample.source,
            split=sample.split.value,
            patient=sample.patient,
            patient_known=patient_known(sample),
            covid=sample.covid,
            raw_probability=None if raw is None else float(raw[index]),
            probability=None if calibrated is None else float(calibrated[index]),
            positive=None if calibrated is None else bool(judged.positive[index]),
            dice=float(dice[index]) if share is not None and sample.mask is not None else None,
            lesion_share=None if share is None else float(share[index]),
        )
        for index, sample in enumerate(samples)
    )


def cases_csv(cases: Sequence[Case]) -> str:
    """Return the table of all images as CSV; truth values are 1 and 0, what is absent is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [item.name for item in fields(Case)], lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _cell(value) for name, value in asdict(c).items()} for c in cases)
    return text.getvalue()


def worst_lesions(cases: Sequence[Case], count: int = WORST) -> list[int]:
    """Return the indices of the images with the lowest Dice, the worst first."""
    drawn = [index for index, case in enumerate(cases) if case.dice is not None]
    return sorted(drawn, key=lambda index: cases[index].dice or 0.0)[:count]


def worst_probabilities(cases: Sequence[Case], count: int = WORST) -> list[int]:
    """Return the indices of images on the wrong side of the operating point, the worst first."""
    wrong = [
        index
        for index, case in enumerate(cases)
        if case.covid is not None and case.positive is not None and case.positive != case.covid
    ]
    return sorted(wrong, key=lambda index: -cases[index].error)[:count]


def overlay_png(sample: Sample, predicted: NDArray[np.bool_] | None) -> bytes:
    """Draw an image plain and with outlines beside it: drawn lesions blue, predicted ones orange.

    Parameters
    ----------
    sample
        The image, and the lesions somebody drew.
    predicted
        Lesions of the network, or None without a segmentation branch.
    """
    side = max(_SIDE, sample.image.shape[0])
    grey = cv2.resize(sample.image, (side, side), interpolation=cv2.INTER_LINEAR)
    plain = cv2.cvtColor(np.rint(grey * 255).astype(np.uint8), cv2.COLOR_GRAY2BGR)
    marked = plain.copy()
    for mask, colour in ((sample.mask, _DRAWN), (predicted, _PREDICTED)):
        if mask is not None:
            large = cv2.resize(mask.astype(np.uint8), (side, side), interpolation=cv2.INTER_NEAREST)
            outlines, _ = cv2.findContours(large, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
            cv2.drawContours(marked, outlines, -1, colour, 1, cv2.LINE_AA)
    done, data = cv2.imencode(".png", np.hstack([plain, marked]))
    if not done:
        raise RuntimeError(f"{sample.path}: its picture could not be encoded")
    return bytes(data)


def _cell(value: object) -> object:
    if value is None:
        return ""
    if isinstance(value, bool):
        return int(value)
    return f"{value:.6f}" if isinstance(value, float) else value
