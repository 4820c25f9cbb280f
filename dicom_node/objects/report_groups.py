"""The measurement groups of a report: one for the study, two for each lesion."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from highdicom.sr import (
    FindingSite,
    GraphicTypeValues,
    ImageRegion,
    Measurement,
    MeasurementsAndQualitativeEvaluations,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    QualitativeEvaluation,
    ReferencedSegment,
    SourceImageForRegion,
    SourceSeriesForSegmentation,
    TrackingIdentifier,
    VolumetricROIMeasurementsAndQualitativeEvaluations,
)

from dicom_node.objects import codes
from dicom_node.objects.outline import regions
from dicom_node.objects.provenance import UidRole
from dicom_node.objects.segmentation import tracking_identifier
from dicom_node.objects.slice_picture import body_box, choose_slices

if TYPE_CHECKING:
    from highdicom.sr import AlgorithmIdentification
    from numpy.typing import NDArray
    from pydicom import Dataset
    from pydicom.sr.coding import Code

    from dicom_node.objects.provenance import ResultContext
    from dicom_node.reading.ct_series import CtSeries, SliceReference
    from model.prediction import Finding, Prediction

STUDY_TRACKING_IDENTIFIER = "Lungwatch COVID-19 screening"
# More digits would pretend a precision that neither voxel nor network has.
_DECIMALS = 3

MeasurementGroup: TypeAlias = (
    MeasurementsAndQualitativeEvaluations
    | PlanarROIMeasurementsAndQualitativeEvaluations
    | VolumetricROIMeasurementsAndQualitativeEvaluations
)


def study_group(
    series: CtSeries,
    prediction: Prediction,
    context: ResultContext,
    algorithm: AlgorithmIdentification,
) -> MeasurementsAndQualitativeEvaluations:
    """Build the study's group (TID 1501): COVID-19 present or absent, how certain, which share.

    Certainty and operating point are percentages (DCM 111012). The extensible template is extended
    by an image region around the body on the most affected slice: viewers show figures only
    beside a region, and OHIF 3.13 fails on a group without one.
    """
    lesion_count = sum(finding.component_count for finding in prediction.findings)
    presence = codes.PRESENT if prediction.positive else codes.ABSENT
    group = MeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(
            context.uid(UidRole.STUDY_FINDING), STUDY_TRACKING_IDENTIFIER
        ),
        finding_type=codes.COVID_19,
        finding_sites=[FindingSite(codes.LUNG)],
        algorithm_id=algorithm,
        measurements=[
            _measure(codes.CERTAINTY_OF_FINDING, 100 * prediction.covid_probability, codes.PERCENT),
            _measure(codes.OPERATING_POINT, 100 * prediction.operating_point, codes.PERCENT),
            _measure(codes.NUMBER_OF_LESIONS, lesion_count, codes.NO_UNITS),
            _measure(
                codes.VOLUME,
                prediction.total_lesion_volume_ml,
                codes.CUBIC_CENTIMETER,
                derivation=codes.TOTAL,
            ),
            _measure(codes.LUNG_INVOLVEMENT, prediction.lung_involvement_percent, codes.PERCENT),
        ],
        qualitative_evaluations=[QualitativeEvaluation(codes.PRESENCE_OF_PROPERTY, presence)],
    )
    group[0].ContentSequence.append(_body_region(series, prediction))
    return group


def lesion_groups(
    series: CtSeries,
    prediction: Prediction,
    finding: Finding,
    segmentation: Dataset,
    context: ResultContext,
) -> list[MeasurementGroup]:
    """Build a lesion's groups, on its segment (TID 1411) and its largest slice (TID 1410).

    The algorithm is told once, in the study's group; the device observer holds for all.
    """
    tracking_uid = context.uid(UidRole.LESION, finding.segment_number)
    site = FindingSite(codes.LUNG, laterality=codes.LATERALITY[finding.laterality])
    volumetric = VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(tracking_uid, tracking_identifier(finding)),
        referenced_segment=ReferencedSegment(
            sop_class_uid=segmentation.SOPClassUID,
            sop_instance_uid=segmentation.SOPInstanceUID,
            segment_number=finding.segment_number,
            source_series=SourceSeriesForSegmentation(series.series_instance_uid),
        ),
        finding_category=codes.MORPHOLOGICALLY_ABNORMAL,
        finding_type=codes.LESION,
        finding_sites=[site],
        measurements=[
            _measure(codes.VOLUME, finding.volume_ml, codes.CUBIC_CENTIMETER),
            _measure(
                codes.ATTENUATION_COEFFICIENT,
                finding.mean_hu,
                codes.HOUNSFIELD_UNIT,
                derivation=codes.MEAN,
            ),
            _measure(
                codes.DIAMETER,
                finding.maximum_diameter_mm,
                codes.MILLIMETER,
                derivation=codes.MAXIMUM,
            ),
        ],
    )
    region, area_mm2 = _largest_region(series, prediction, finding)
    planar = PlanarROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=TrackingIdentifier(tracking_uid, tracking_identifier(finding)),
        referenced_region=region,
        finding_category=codes.MORPHOLOGICALLY_ABNORMAL,
        finding_type=codes.LESION,
        finding_sites=[site],
        measurements=[_measure(codes.AREA, area_mm2, codes.SQUARE_MILLIMETER)],
    )
    return [volumetric, planar]


def _body_region(series: CtSeries, prediction: Prediction) -> ImageRegion:
    (index,) = choose_slices(series, prediction, 1)
    left, top, right, bottom = body_box(series.volume, [index])
    corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
    return _polyline(series.slices[index], np.array(corners, np.float64))


def _largest_region(
    series: CtSeries, prediction: Prediction, finding: Finding
) -> tuple[ImageRegion, float]:
    """Outline of the lesion's largest region on its largest slice, and the region's area in mm2."""
    index = finding.largest_slice_index
    region = regions(prediction.lesion_mask.labels[index] == finding.segment_number)[0]
    _, row_spacing, column_spacing = series.volume.spacing_mm
    area_mm2 = region.pixel_count * row_spacing * column_spacing
    return _polyline(series.slices[index], region.outline), area_mm2


def _polyline(reference: SliceReference, points: NDArray[np.float64]) -> ImageRegion:
    frames = None if reference.frame_number is None else [reference.frame_number]
    return ImageRegion(
        graphic_type=GraphicTypeValues.POLYLINE,
        graphic_data=points,
        source_image=SourceImageForRegion(
            reference.sop_class_uid, reference.sop_instance_uid, frames
        ),
    )


def _measure(
    name: Code, value: float, unit: Code, *, derivation: Code | None = None
) -> Measurement:
    return Measurement(name=name, value=round(value, _DECIMALS), unit=unit, derivation=derivation)
