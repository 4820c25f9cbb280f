"""Whether one series can be screened: the checks, in the order in which they are made."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pydicom.uid import UID

from dicom_node.errors import RefusedError
from dicom_node.reading.anatomy import check_region
from dicom_node.reading.decoding import READABLE_TRANSFER_SYNTAXES
from dicom_node.reading.geometry import FrameStack, GeometryTolerances, axial_planes, stack_frames
from dicom_node.reading.limits import ReadLimits
from dicom_node.reasons import Reason
from dicom_node.sop_classes import CT_SOP_CLASSES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dicom_node.reading.header import InstanceHeader

# Words that mean a projection or a map instead of slices of the patient. The description is
# asked for less: it also says "low dose".
_PROJECTION = r"M(AX|IN)[ _]?IP|MIP|MINIP|VRT|PERFUSION"
_NO_SLICE_DESCRIPTION = re.compile(rf"\b({_PROJECTION})\b")
_NO_SLICE_TYPE = re.compile(
    rf"\b({_PROJECTION}|PROJECTION|VOLREN|RENDER\w*|SURFACE|SSD|SUBTRACT\w*|SCREEN ?SAVE|DOSE"
    r"|FUSION|OVERLAY|IODINE|VNC|EFF[ _]?Z|Z[ _]?EFF)\b"
)
_LOCALIZER = frozenset({"LOCALIZER", "SCOUT", "TOPOGRAM", "SURVIEW"})
# Rescale Type values of PS3.3 section C.11.1.1.2 that cannot be Hounsfield units. "US" can:
# converters write it where the original had no Rescale Type.
_NOT_HOUNSFIELD = frozenset({"OD", "MGML", "PCT", "Z_EFF", "ED", "EDW"})


@dataclass(frozen=True, slots=True)
class SelectionPolicy:
    """What a series must have to be screened.

    Attributes
    ----------
    minimum_slices
        Fewer positions than this cannot show the lungs.
    minimum_coverage_mm
        Shortest extent along the body that can be a chest.
    tolerances
        How far the geometry may be from an ideal one.
    limits
        Largest series that is read.
    """

    minimum_slices: int = 24
    minimum_coverage_mm: float = 120.0
    tolerances: GeometryTolerances = field(default_factory=GeometryTolerances)
    limits: ReadLimits = field(default_factory=ReadLimits)


def qualify(headers: Sequence[InstanceHeader], policy: SelectionPolicy) -> FrameStack:
    """Check that a series is a screenable chest CT.

    Parameters
    ----------
    headers
        The instances of one series in an order that does not depend on arrival
        (`assembly.group_by_series`).
    policy
        What it must have.

    Returns
    -------
    FrameStack
        Its slices, as indices into the frames of `slice_instances`, one after the other.

    Raises
    ------
    RefusedError
        With the reason of the first check that fails.
    """
    headers = slice_instances(headers)
    check_region(headers[0])
    check_transfer_syntax(headers)
    frames = [frame for header in headers for frame in header.frames]
    axial_planes(frames, policy.tolerances)
    if len(frames) < policy.minimum_slices:
        raise RefusedError(
            Reason.TOO_FEW_SLICES, f"{len(frames)} slices, at least {policy.minimum_slices} needed"
        )
    stack = stack_series(headers, policy.tolerances)
    if len(stack.order) < policy.minimum_slices:
        raise RefusedError(
            Reason.TOO_FEW_SLICES,
            f"{len(stack.order)} positions, at least {policy.minimum_slices} needed",
        )
    if stack.coverage_mm < policy.minimum_coverage_mm:
        raise RefusedError(
            Reason.NOT_CHEST,
            f"covers {stack.coverage_mm:.0f} mm of the body, a chest takes at least "
            f"{policy.minimum_coverage_mm:.0f} mm",
        )
    check_pixels(headers, policy.limits)
    return stack


def slice_instances(headers: Sequence[InstanceHeader]) -> tuple[InstanceHeader, ...]:
    """Give the instances of a series that are CT slices; localizers among them are left out.

    Raises
    ------
    RefusedError
        NOT_CT, LOCALIZER or DERIVED_IMAGE where nothing is left.
    """
    ct = [h for h in headers if h.sop_class_uid in CT_SOP_CLASSES and h.modality in ("", "CT")]
    if not ct:
        found = UID(headers[0].sop_class_uid).name if headers else "nothing"
        modality = headers[0].modality if headers else ""
        raise RefusedError(Reason.NOT_CT, f"{found}, modality {modality or 'absent'}")
    slices = [h for h in ct if _LOCALIZER.isdisjoint(v.upper() for v in h.image_type)]
    if not slices:
        raise RefusedError(Reason.LOCALIZER, f"image type {_image_type(ct[0])}")
    kept = tuple(h for h in slices if not _is_no_slice(h))
    if not kept:
        # The description as a whole is free text, which may name the patient.
        named = _NO_SLICE_DESCRIPTION.search(slices[0].series_description.upper())
        what = f", series description names {named.group()!r}" if named else ""
        raise RefusedError(
            Reason.DERIVED_IMAGE,
            f"image type {_image_type(slices[0])}{what}: no slices of the patient in Hounsfield "
            "units",
        )
    return kept


def check_transfer_syntax(headers: Sequence[InstanceHeader]) -> None:
    """Refuse a transfer syntax that is lossy, or that we have no decoder for.

    Raises
    ------
    RefusedError
        UNSUPPORTED_TRANSFER_SYNTAX.
    """
    for header in headers:
        if header.transfer_syntax_uid not in READABLE_TRANSFER_SYNTAXES:
            name = UID(header.transfer_syntax_uid).name or "none"
            raise RefusedError(Reason.UNSUPPORTED_TRANSFER_SYNTAX, f"transfer syntax {name}")


def stack_series(
    headers: Sequence[InstanceHeader], tolerances: GeometryTolerances | None = None
) -> FrameStack:
    """Stack the frames of a series, with the checks that need more than their planes.

    Raises
    ------
    RefusedError
        As `geometry.stack_frames`; GANTRY_TILT where an original image declares a tilt,
        CONFLICTING_DUPLICATES where the headers alone show a conflict.
    """
    tolerances = tolerances or GeometryTolerances()
    _check_one_grid(headers)
    _check_repeats(headers)
    stack = stack_frames([f for header in headers for f in header.frames], tolerances)
    for header in headers:
        tilt = header.gantry_tilt or 0.0
        if abs(tilt) > tolerances.tilt_degrees and not is_derived(header):
            raise RefusedError(Reason.GANTRY_TILT, f"gantry tilt of {tilt:g} degrees")
    owners = [header for header in headers for _ in header.frames]
    for kept, other in ((owners[stack.order[k]], owners[i]) for k, i in stack.duplicates):
        if kept.convolution_kernel != other.convolution_kernel:
            raise RefusedError(
                Reason.CONFLICTING_DUPLICATES, "two convolution kernels at one position"
            )
    return stack


def check_pixels(headers: Sequence[InstanceHeader], limits: ReadLimits) -> None:
    """Check what can be known of the pixels before they are decoded.

    Raises
    ------
    RefusedError
        TOO_LARGE, MISSING_RESCALE or SHORT_PIXEL_DATA.
    """
    first = headers[0]
    limits.check(first.rows or 0, first.columns or 0, sum(len(h.frames) for h in headers))
    for header in headers:
        if any(not f.rescale_slope or f.rescale_intercept is None for f in header.frames):
            raise RefusedError(
                Reason.MISSING_RESCALE,
                f"instance {header.sop_instance_uid} has no rescale slope or intercept",
            )
        if header.pixel_data_complete is False:
            raise RefusedError(
                Reason.SHORT_PIXEL_DATA,
                f"instance {header.sop_instance_uid} holds fewer pixels than it declares",
            )


def is_derived(header: InstanceHeader) -> bool:
    """Tell whether Image Type says that the pixels were computed from other images."""
    return header.image_type[:1] == ("DERIVED",)


def _is_no_slice(header: InstanceHeader) -> bool:
    return (
        _NO_SLICE_TYPE.search(" ".join(header.image_type).upper()) is not None
        or _NO_SLICE_DESCRIPTION.search(header.series_description.upper()) is not None
        or any(frame.rescale_type.upper() in _NOT_HOUNSFIELD for frame in header.frames)
    )


def _image_type(header: InstanceHeader) -> str:
    return "\\".join(header.image_type)


def _check_one_grid(headers: Sequence[InstanceHeader]) -> None:
    matrices = {(header.rows, header.columns) for header in headers}
    if len(matrices) > 1:
        raise RefusedError(
            Reason.MIXED_ORIENTATIONS, f"matrices of several sizes: {sorted(map(str, matrices))}"
        )
    for header in headers:
        if not header.frames or header.number_of_frames != len(header.frames):
            raise RefusedError(
                Reason.MISSING_GEOMETRY,
                f"{header.number_of_frames} frames, geometry for {len(header.frames)}",
            )


def _check_repeats(headers: Sequence[InstanceHeader]) -> None:
    seen: dict[str, InstanceHeader] = {}
    for header in headers:
        first = seen.setdefault(header.sop_instance_uid, header)
        if (first.content_sha256, first.frames) != (header.content_sha256, header.frames):
            raise RefusedError(
                Reason.CONFLICTING_DUPLICATES,
                f"instance {header.sop_instance_uid} was received twice with different content",
            )
