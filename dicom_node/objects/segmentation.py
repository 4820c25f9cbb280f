"""Lesions of a prediction as a DICOM Segmentation (PS3.3 section A.51)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from highdicom.color import CIELabColor
from highdicom.seg import (
    SegmentAlgorithmTypeValues,
    Segmentation,
    SegmentationTypeValues,
    SegmentDescription,
)
from highdicom.sr import CodedConcept
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from dicom_node.objects import codes
from dicom_node.objects.colours import lesion_colour
from dicom_node.objects.common_attributes import (
    algorithm_identification,
    instance_attributes,
    write_common_attributes,
)
from dicom_node.objects.provenance import MANUFACTURER, UidRole
from dicom_node.objects.source_headers import slice_headers, slice_index
from model.prediction import Laterality

if TYPE_CHECKING:
    from highdicom import AlgorithmIdentificationSequence

    from dicom_node.objects.provenance import ResultContext
    from dicom_node.reading.ct_series import CtSeries, SliceReference
    from model.prediction import Finding, Prediction

SERIES_NUMBER = 9001
SERIES_DESCRIPTION = "Lungwatch lesions - FOR REVIEW"
_SIDES = {
    Laterality.LEFT: "left lung",
    Laterality.RIGHT: "right lung",
    Laterality.BILATERAL: "both lungs",
}


def encode_segmentation(
    series: CtSeries, prediction: Prediction, context: ResultContext
) -> Dataset | None:
    """Encode the lesions of a prediction as one BINARY segmentation, one segment for each.

    Frames without a voxel of their segment are omitted. Frames refer to the slices of the source
    they lie on.

    Parameters
    ----------
    series
        The source series.
    prediction
        What the network said of it; its lesion mask lies on the grid of `series.volume`.
    context
        Identity, time and equipment.

    Returns
    -------
    Dataset or None
        Segmentation Storage in Explicit VR Little Endian, or None where there is no lesion: the
        standard has no segmentation without a segment.
    """
    if not prediction.findings:
        return None
    headers = slice_headers(series)
    algorithm = algorithm_identification(context)
    segmentation = Segmentation(
        source_images=headers,
        pixel_array=prediction.lesion_mask.labels,
        segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=[
            _describe_segment(finding, context, algorithm) for finding in prediction.findings
        ],
        series_instance_uid=context.uid(UidRole.SEGMENTATION_SERIES),
        series_number=SERIES_NUMBER,
        series_description=SERIES_DESCRIPTION,
        sop_instance_uid=context.uid(UidRole.SEGMENTATION),
        content_label="LUNG_LESIONS",
        content_description="Lung lesions found by AI, not verified",
        transfer_syntax_uid=ExplicitVRLittleEndian,
        omit_empty_frames=True,
        **instance_attributes(context),
    )
    _name_dimension_organization(segmentation, context.uid(UidRole.DIMENSION_ORGANIZATION))
    _refer_to_sources(segmentation, series)
    segmentation.ContentCreatorName = f"{MANUFACTURER}^"
    write_common_attributes(segmentation, series, context)
    return segmentation


def lesion_label(finding: Finding) -> str:
    """Name of a lesion as viewers list it, at most 64 characters."""
    side = _SIDES[finding.laterality]
    if finding.component_count > 1:
        return f"{finding.component_count} smaller lesions, {side}"
    return f"Lesion {finding.segment_number}, {side}"


def tracking_identifier(finding: Finding) -> str:
    """Tracking ID of a lesion, the same in segmentation and report."""
    return f"Lungwatch lesion {finding.segment_number}"


def _describe_segment(
    finding: Finding, context: ResultContext, algorithm: AlgorithmIdentificationSequence
) -> SegmentDescription:
    description = SegmentDescription(
        segment_number=finding.segment_number,
        segment_label=lesion_label(finding),
        segmented_property_category=codes.MORPHOLOGICALLY_ABNORMAL,
        segmented_property_type=codes.LESION,
        algorithm_type=SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=algorithm,
        tracking_uid=context.uid(UidRole.LESION, finding.segment_number),
        tracking_id=tracking_identifier(finding),
        anatomic_regions=[codes.LUNG],
        display_color=CIELabColor.from_rgb(*lesion_colour(finding.segment_number)),
    )
    laterality = CodedConcept.from_code(codes.LATERALITY[finding.laterality])
    description.AnatomicRegionSequence[0].AnatomicRegionModifierSequence = [laterality]
    return description


def _name_dimension_organization(segmentation: Dataset, uid: str) -> None:
    segmentation.DimensionOrganizationSequence[0].DimensionOrganizationUID = uid
    for item in segmentation.DimensionIndexSequence:
        item.DimensionOrganizationUID = uid


def _refer_to_sources(segmentation: Dataset, series: CtSeries) -> None:
    """Write the true source references in place of the stand-ins of `slice_headers`."""
    sources = (
        frame.DerivationImageSequence[0].SourceImageSequence[0]
        for frame in segmentation.PerFrameFunctionalGroupsSequence
    )
    # Frames of several segments on one slice share the same item.
    for source in {id(source): source for source in sources}.values():
        reference = series.slices[slice_index(source.ReferencedSOPInstanceUID)]
        source.update(_source_reference(reference))
        if reference.frame_number is not None:
            source.ReferencedFrameNumber = reference.frame_number
    instances = {reference.sop_instance_uid: reference for reference in series.slices}
    references = [_source_reference(reference) for reference in instances.values()]
    segmentation.SourceImageSequence = references
    segmentation.ReferencedSeriesSequence[0].ReferencedInstanceSequence = references


def _source_reference(reference: SliceReference) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = reference.sop_class_uid
    item.ReferencedSOPInstanceUID = reference.sop_instance_uid
    return item
