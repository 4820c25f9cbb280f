"""The one way from a prediction to the objects that go to the PACS."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from dicom_node.objects.common_attributes import encode_file
from dicom_node.objects.report import encode_report
from dicom_node.objects.segmentation import encode_segmentation
from dicom_node.objects.summary_image import encode_summary_image

if TYPE_CHECKING:
    from pydicom import Dataset

    from dicom_node.objects.provenance import ResultContext
    from dicom_node.reading.ct_series import CtSeries
    from model.prediction import Prediction

ObjectKind = Literal["seg", "summary", "sr"]


@dataclass(frozen=True, slots=True)
class EncodedObject:
    """One object of a result, ready to be delivered.

    Attributes
    ----------
    kind
        Segmentation, summary image or structured report.
    data
        The object as a DICOM file (PS3.10), Explicit VR Little Endian.
    """

    kind: ObjectKind
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    data: bytes


def encode_result(
    series: CtSeries, prediction: Prediction, context: ResultContext
) -> tuple[EncodedObject, ...]:
    """Encode everything a prediction sends to the PACS; the same arguments give the same bytes.

    Parameters
    ----------
    series
        The source series.
    prediction
        What the network said of it.
    context
        Identity, time and equipment.

    Returns
    -------
    tuple of EncodedObject
        In the order of delivery: segmentation (none without a lesion), summary image, and last
        the report, which refers to the segmentation.
    """
    segmentation = encode_segmentation(series, prediction, context)
    summary = encode_summary_image(series, prediction, context)
    report = encode_report(series, prediction, segmentation, context)
    first = () if segmentation is None else (_encode("seg", segmentation),)
    return (*first, _encode("summary", summary), _encode("sr", report))


def _encode(kind: ObjectKind, dataset: Dataset) -> EncodedObject:
    return EncodedObject(
        kind=kind,
        sop_class_uid=str(dataset.SOPClassUID),
        sop_instance_uid=str(dataset.SOPInstanceUID),
        series_instance_uid=str(dataset.SeriesInstanceUID),
        data=encode_file(dataset),
    )
