"""Which series of a study is screened, and why each of the others is not: pure rules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from dicom_node.errors import RefusedError
from dicom_node.reading.assembly import group_by_series
from dicom_node.reading.kernels import is_lung_kernel
from dicom_node.reading.qualification import SelectionPolicy, is_derived, qualify, slice_instances
from dicom_node.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dicom_node.reading.geometry import FrameStack
    from dicom_node.reading.header import InstanceHeader

__all__ = ["SelectionPolicy", "SeriesDecision", "StudySelection", "select_series"]

# How far a series came through the checks of `qualification`: of several refused series the one
# that came furthest says most about why the study was not screened.
_PROGRESS = (
    Reason.NOT_CT,
    Reason.LOCALIZER,
    Reason.DERIVED_IMAGE,
    Reason.NOT_CHEST,
    Reason.UNSUPPORTED_TRANSFER_SYNTAX,
    Reason.NOT_AXIAL,
    Reason.MIXED_ORIENTATIONS,
    Reason.MISSING_GEOMETRY,
    Reason.TOO_FEW_SLICES,
    Reason.GANTRY_TILT,
    Reason.IRREGULAR_SPACING,
    Reason.MISSING_SLICES,
    Reason.CONFLICTING_DUPLICATES,
    Reason.TOO_LARGE,
    Reason.UNDECODABLE_PIXELS,
    Reason.MISSING_RESCALE,
    Reason.SHORT_PIXEL_DATA,
    Reason.DECODER_FAILED,
    Reason.SPOOL_DAMAGED,
)


@dataclass(frozen=True, slots=True)
class SeriesDecision:
    """What was decided about one series.

    Attributes
    ----------
    reason
        Why it is not screened; None for the chosen series.
    detail
        One sentence for a person.
    instance_count
        Number of different SOP instances received of it.
    """

    series_instance_uid: str
    reason: Reason | None
    detail: str
    instance_count: int


@dataclass(frozen=True, slots=True)
class StudySelection:
    """The choice for one study.

    Attributes
    ----------
    chosen
        Series instance UID, or None where no series qualifies.
    decisions
        One for every series, in the order of their UIDs.
    reason, detail
        Why the study is not screened: those of its most telling series; None and the chosen
        series' detail where one was chosen.
    """

    chosen: str | None
    decisions: tuple[SeriesDecision, ...]
    reason: Reason | None
    detail: str


class _Merit(NamedTuple):
    """What makes a series preferable, most important first; the smaller tuple wins."""

    duplicate_positions: bool
    thickness_mm: float
    other_than_lung_kernel: bool
    derived: bool
    negative_coverage_mm: float
    series_number: float
    series_instance_uid: str


_ADVANTAGES = (
    "no duplicate positions",
    "thinner slices",
    "a lung kernel",
    "original images",
    "more coverage",
    "a lower series number",
    "a lower UID",
)


def select_series(
    instances: Sequence[InstanceHeader], policy: SelectionPolicy | None = None
) -> StudySelection:
    """Choose the one series of a study that is screened.

    Among qualifying series thinner slices are preferred, then a lung kernel, original over
    derived images, more coverage, the lower series number, the lower UID.

    Parameters
    ----------
    instances
        All instances of the study, in any order.
    policy
        What a series must have.

    Returns
    -------
    StudySelection
        The same for every order of the instances. Whatever the headers hold, nothing is raised:
        each series that cannot be screened gets its reason.
    """
    policy = policy or SelectionPolicy()
    groups = group_by_series(instances)
    refused: dict[str, RefusedError] = {}
    merits: list[_Merit] = []
    for uid, headers in groups.items():
        try:
            merits.append(_merit(headers, qualify(headers, policy)))
        except RefusedError as error:
            refused[uid] = error
    merits.sort()
    decisions = {uid: (error.reason, error.detail) for uid, error in refused.items()} | {
        merit.series_instance_uid: _place(merit, merits[0]) for merit in merits
    }
    study_reason, study_detail = _study_reason(merits, refused, groups)
    return StudySelection(
        chosen=merits[0].series_instance_uid if merits else None,
        decisions=tuple(
            SeriesDecision(uid, reason, detail, len({h.sop_instance_uid for h in groups[uid]}))
            for uid, (reason, detail) in sorted(decisions.items())
        ),
        reason=study_reason,
        detail=study_detail,
    )


def _merit(headers: Sequence[InstanceHeader], stack: FrameStack) -> _Merit:
    first = slice_instances(headers)[0]
    thickness = first.frames[0].slice_thickness or stack.spacing_mm[0]
    return _Merit(
        duplicate_positions=bool(stack.duplicates),
        thickness_mm=round(thickness, 2),
        other_than_lung_kernel=not is_lung_kernel(first.manufacturer, first.convolution_kernel),
        derived=is_derived(first),
        negative_coverage_mm=-round(stack.coverage_mm),
        series_number=float("inf") if first.series_number is None else first.series_number,
        series_instance_uid=first.series_instance_uid,
    )


def _place(merit: _Merit, best: _Merit) -> tuple[Reason | None, str]:
    kernel = "another" if merit.other_than_lung_kernel else "a lung"
    facts = (
        f"{merit.thickness_mm:g} mm slices over {-merit.negative_coverage_mm:g} mm, {kernel} kernel"
    )
    if merit is best:
        return None, facts
    advantage = next(
        words
        for words, ours, theirs in zip(_ADVANTAGES, merit, best, strict=True)
        if ours != theirs
    )
    return Reason.NOT_PREFERRED, f"{facts}; series {best.series_instance_uid} has {advantage}"


def _study_reason(
    merits: Sequence[_Merit],
    refused: dict[str, RefusedError],
    groups: dict[str, tuple[InstanceHeader, ...]],
) -> tuple[Reason | None, str]:
    if merits:
        return None, _place(merits[0], merits[0])[1]
    if not refused:
        return Reason.NOT_CT, "the study holds no instance"
    telling = max(refused, key=lambda u: (_PROGRESS.index(refused[u].reason), len(groups[u]), u))
    return refused[telling].reason, refused[telling].detail
