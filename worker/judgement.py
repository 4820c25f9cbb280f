"""What a radiologist's review says of a study, and the labels that follow from it; pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from worker.errors import ReviewError


class ReviewDecision(StrEnum):
    """How a reviewer judged a result."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"
    CORRECTED = "corrected"


class RejectReason(StrEnum):
    """Why a result was rejected; the reason decides what the study may teach."""

    FALSE_POSITIVE = "false-positive"
    FALSE_NEGATIVE = "false-negative"
    WRONG_LESIONS = "wrong-lesions"
    UNUSABLE = "unusable"


class Lesions(StrEnum):
    """What a review says of the lesions' outlines."""

    DRAWN = "drawn"
    NONE = "none"
    UNKNOWN = "unknown"


REJECT_MEANINGS: dict[RejectReason, str] = {
    RejectReason.FALSE_POSITIVE: "positive by mistake; there is no lesion",
    RejectReason.FALSE_NEGATIVE: "negative by mistake; where the lesions are is not said",
    RejectReason.WRONG_LESIONS: "the class is right, the lesions' outlines are not",
    RejectReason.UNUSABLE: "the study shall teach nothing, for instance motion or metal",
}


@dataclass(frozen=True, slots=True)
class Label:
    """What training may learn from a reviewed study.

    Attributes
    ----------
    covid
        Class of the study, None where the review does not say it.
    lesions
        Whether the outlines of all lesions are known.
    """

    covid: bool | None
    lesions: Lesions

    @property
    def teaches(self) -> bool:
        """Whether anything is known at all."""
        return self.covid is not None or self.lesions is not Lesions.UNKNOWN


def accepted(*, positive: bool, has_lesions: bool) -> Label:
    """Label of a result that is right as it is: its class and its own lesions."""
    return Label(positive, Lesions.DRAWN if has_lesions else Lesions.NONE)


def rejected(reason: RejectReason, *, positive: bool) -> Label:
    """Label of a result that is wrong, by the coded reason.

    Raises
    ------
    ReviewError
        If the reason contradicts the result: a negative one is no false positive.
    """
    if reason is RejectReason.UNUSABLE:
        return Label(None, Lesions.UNKNOWN)
    if reason is RejectReason.WRONG_LESIONS:
        return Label(positive, Lesions.UNKNOWN)
    if positive is not (reason is RejectReason.FALSE_POSITIVE):
        said = "at or above" if positive else "below"
        raise ReviewError(
            f"{reason.value} contradicts the result, which is {said} the operating point; where "
            f"only the lesions are wrong, use {RejectReason.WRONG_LESIONS.value} or --corrected"
        )
    if reason is RejectReason.FALSE_POSITIVE:
        return Label(covid=False, lesions=Lesions.NONE)
    return Label(covid=True, lesions=Lesions.UNKNOWN)


def corrected(*, positive: bool, has_lesions: bool, covid: bool | None = None) -> Label:
    """Label of a corrected segmentation.

    An empty one clears the study. With lesions, a positive result stays positive; whether the
    lesions drawn into a negative one are COVID-19 only the reviewer can say.

    Parameters
    ----------
    positive
        What the result said.
    has_lesions
        Whether the corrected segmentation marks a voxel.
    covid
        What the reviewer said of the class, None for nothing.
    """
    lesions = Lesions.DRAWN if has_lesions else Lesions.NONE
    if covid is not None:
        return Label(covid, lesions)
    if not has_lesions:
        return Label(covid=False, lesions=lesions)
    return Label(True if positive else None, lesions)
