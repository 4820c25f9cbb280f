"""Where each frame of a CT instance lies and how its values become Hounsfield units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from dicom_node.errors import RefusedError
from dicom_node.reading import attributes
from dicom_node.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydicom import Dataset

# Of one instance and of one series. An item of a functional group takes eight bytes in a file and
# hundreds of them in memory.
MOST_FRAMES = 8192

Vector = tuple[float, float, float]
Orientation = tuple[float, float, float, float, float, float]


@dataclass(frozen=True, slots=True)
class FrameHeader:
    """The image plane and the rescale of one frame; None stands for what the sender left out.

    Attributes
    ----------
    position
        Image Position (Patient), in mm (PS3.3 section C.7.6.2.1.1).
    orientation
        Image Orientation (Patient): cosines of the row, then of the column direction.
    pixel_spacing
        Distance between rows, then between columns, in mm (PS3.3 section 10.7.1.3).
    slice_thickness
        Nominal thickness, in mm.
    rescale_slope, rescale_intercept, rescale_type
        Modality LUT (PS3.3 section C.11.1); an absent type means Hounsfield units for CT.
    """

    position: Vector | None = None
    orientation: Orientation | None = None
    pixel_spacing: tuple[float, float] | None = None
    slice_thickness: float | None = None
    rescale_slope: float | None = None
    rescale_intercept: float | None = None
    rescale_type: str = ""


def frames_of(dataset: Dataset) -> tuple[FrameHeader, ...]:
    """Summarise the frames of an instance, from its root or from its functional groups.

    Parameters
    ----------
    dataset
        A CT Image, Enhanced CT or Legacy Converted Enhanced CT data set; pixels are not needed.

    Returns
    -------
    tuple of FrameHeader
        One for each frame, in frame order (PS3.3 section C.7.6.16).

    Raises
    ------
    RefusedError
        TOO_LARGE, beyond :data:`MOST_FRAMES`.
    """
    per_frame = attributes.value(dataset, "PerFrameFunctionalGroupsSequence")
    if per_frame is None:
        return (_frame((dataset,)),)
    if len(per_frame) > MOST_FRAMES:
        detail = f"{len(per_frame)} frames in one instance, the ceiling is {MOST_FRAMES}"
        raise RefusedError(Reason.TOO_LARGE, detail)
    shared = attributes.value(dataset, "SharedFunctionalGroupsSequence")
    common = tuple(_macros(shared[0])) if shared else ()
    return tuple(_frame((*_macros(groups), *common)) for groups in per_frame)


def shared_decimal(dataset: Dataset, keyword: str) -> float | None:
    """Give a number from the root or, in a multi-frame instance, from the shared groups."""
    found = attributes.decimal(dataset, keyword)
    shared = attributes.value(dataset, "SharedFunctionalGroupsSequence")
    if found is not None or not shared:
        return found
    return next((n for m in _macros(shared[0]) if (n := attributes.decimal(m, keyword))), None)


def shared_text(dataset: Dataset, keyword: str) -> str:
    """Give a text from the root or, in a multi-frame instance, from the shared groups."""
    found = attributes.text(dataset, keyword)
    shared = attributes.value(dataset, "SharedFunctionalGroupsSequence")
    if found or not shared:
        return found
    return next((t for m in _macros(shared[0]) if (t := attributes.text(m, keyword))), "")


def _macros(groups: Dataset) -> Iterator[Dataset]:
    """Give the items of the functional group macros that describe a CT frame."""
    for keyword in (
        "PlanePositionSequence",
        "PlaneOrientationSequence",
        "PixelMeasuresSequence",
        "PixelValueTransformationSequence",
        "CTReconstructionSequence",
        "CTAcquisitionDetailsSequence",
        "FrameAnatomySequence",
        "UnassignedSharedConvertedAttributesSequence",
    ):
        yield from attributes.value(groups, keyword) or ()


def _frame(holders: tuple[Dataset, ...]) -> FrameHeader:
    def numbers(keyword: str, count: int) -> tuple[float, ...] | None:
        found = (attributes.decimals(holder, keyword, count) for holder in holders)
        return next((n for n in found if n is not None), None)

    def number(keyword: str) -> float | None:
        found = numbers(keyword, 1)
        return found[0] if found else None

    return FrameHeader(
        position=cast("Vector | None", numbers("ImagePositionPatient", 3)),
        orientation=cast("Orientation | None", numbers("ImageOrientationPatient", 6)),
        pixel_spacing=cast("tuple[float, float] | None", numbers("PixelSpacing", 2)),
        slice_thickness=number("SliceThickness"),
        rescale_slope=number("RescaleSlope"),
        rescale_intercept=number("RescaleIntercept"),
        rescale_type=next((t for h in holders if (t := attributes.text(h, "RescaleType"))), ""),
    )
