"""A prediction as a structured report: Comprehensive 3D SR with root TID 1500."""

from __future__ import annotations

from typing import TYPE_CHECKING

from highdicom.coding_schemes import CodingSchemeIdentificationItem
from highdicom.sr import (
    AlgorithmIdentification,
    Comprehensive3DSR,
    DeviceObserverIdentifyingAttributes,
    MeasurementReport,
    ObservationContext,
    ObserverContext,
)
from pydicom import Dataset
from pydicom.sr.codedict import codes as standard_codes

from dicom_node.objects import codes
from dicom_node.objects.common_attributes import instance_attributes, write_common_attributes
from dicom_node.objects.provenance import MANUFACTURER, MODEL_NAME, UidRole
from dicom_node.objects.report_groups import lesion_groups, study_group
from dicom_node.objects.source_headers import evidence_header

if TYPE_CHECKING:
    from dicom_node.objects.provenance import PredecessorReport, ResultContext
    from dicom_node.objects.report_groups import MeasurementGroup
    from dicom_node.reading.ct_series import CtSeries
    from model.prediction import Prediction

SERIES_NUMBER = 9003
SERIES_DESCRIPTION = "Lungwatch report - FOR REVIEW"


def encode_report(
    series: CtSeries,
    prediction: Prediction,
    segmentation: Dataset | None,
    context: ResultContext,
) -> Dataset:
    """Encode the prediction as a preliminary, complete and unverified report.

    Parameters
    ----------
    series
        The source series, listed as evidence.
    prediction
        What the network said of it.
    segmentation
        Its lesions from `encode_segmentation`, or None where there are none.
    context
        Identity, time and equipment; names the superseded report of a later revision.

    Returns
    -------
    Dataset
        Comprehensive 3D SR (PS3.3 A.35.13): a TID 1501 group for the study, and for each lesion a
        TID 1411 group on its segment and a TID 1410 group on its largest slice, with the same
        tracking UID, since viewers draw the one or the other.
    """
    groups: list[MeasurementGroup] = [
        study_group(series, prediction, context, _algorithm(prediction, context))
    ]
    if segmentation is not None:
        for finding in prediction.findings:
            groups += lesion_groups(series, prediction, finding, segmentation, context)
    content = MeasurementReport(
        observation_context=_observation_context(context),
        # TID 1500 takes it from CID 100, which names no region; the chest is in the performed
        # procedure below.
        procedure_reported=codes.CT_PROCEDURE,
        imaging_measurements=groups,
        title=standard_codes.DCM.ImagingMeasurementReport,
    )
    report = Comprehensive3DSR(
        evidence=_evidence(series, segmentation),
        content=content,
        series_instance_uid=context.uid(UidRole.REPORT_SERIES),
        series_number=SERIES_NUMBER,
        series_description=SERIES_DESCRIPTION,
        sop_instance_uid=context.uid(UidRole.REPORT),
        is_complete=True,
        is_final=False,
        is_verified=False,
        performed_procedure_codes=[codes.CT_CHEST],
        previous_versions=_previous_versions(context.predecessor),
        coding_schemes=[
            CodingSchemeIdentificationItem(
                designator=codes.PRIVATE_SCHEME,
                name=codes.PRIVATE_SCHEME_NAME,
                responsible_organization=MANUFACTURER,
            )
        ],
        **instance_attributes(context),
    )
    write_common_attributes(report, series, context)
    return report


def _algorithm(prediction: Prediction, context: ResultContext) -> AlgorithmIdentification:
    return AlgorithmIdentification(
        name=context.model.name,
        version=context.model.version,
        parameters=[
            f"operating_point={prediction.operating_point:g}",
            f"weights_sha256={context.model.sha256}",
        ],
        family=codes.ARTIFICIAL_INTELLIGENCE,
    )


def _observation_context(context: ResultContext) -> ObservationContext:
    device = DeviceObserverIdentifyingAttributes(
        uid=context.device_uid,
        name=context.equipment.station_name,
        manufacturer_name=MANUFACTURER,
        model_name=MODEL_NAME,
        serial_number=context.model.sha256[:16],
    )
    return ObservationContext(
        observer_device_context=ObserverContext(
            observer_type=standard_codes.DCM.Device, observer_identifying_attributes=device
        )
    )


def _evidence(series: CtSeries, segmentation: Dataset | None) -> list[Dataset]:
    evidence = []
    shared = evidence_header(series)
    for reference in {slice_.sop_instance_uid: slice_ for slice_ in series.slices}.values():
        header = Dataset()
        header.update(shared)
        header.SOPClassUID = reference.sop_class_uid
        header.SOPInstanceUID = reference.sop_instance_uid
        evidence.append(header)
    return evidence if segmentation is None else [*evidence, segmentation]


def _previous_versions(predecessor: PredecessorReport | None) -> list[Dataset] | None:
    if predecessor is None:
        return None
    header = Dataset()
    header.StudyInstanceUID = predecessor.study_instance_uid
    header.SeriesInstanceUID = predecessor.series_instance_uid
    header.SOPClassUID = predecessor.sop_class_uid
    header.SOPInstanceUID = predecessor.sop_instance_uid
    return [header]
