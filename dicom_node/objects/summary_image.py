"""The summary page as a secondary capture, for viewers that show no segmentation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from highdicom.sc import SCImage
from highdicom.sr import CodedConcept
from pydicom import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from dicom_node.objects import codes
from dicom_node.objects.common_attributes import instance_attributes, write_common_attributes
from dicom_node.objects.provenance import MANUFACTURER, MODEL_NAME, UidRole
from dicom_node.objects.slice_picture import choose_slices
from dicom_node.objects.source_headers import evidence_header
from dicom_node.objects.summary_page import PICTURES, STATUS, render_overlay

if TYPE_CHECKING:
    from dicom_node.objects.provenance import ResultContext
    from dicom_node.reading.ct_series import CtSeries
    from model.prediction import Prediction

SERIES_NUMBER = 9002
SERIES_DESCRIPTION = "Lungwatch summary - FOR REVIEW"


def encode_summary_image(
    series: CtSeries, prediction: Prediction, context: ResultContext
) -> Dataset:
    """Encode the summary page of a prediction.

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
    Dataset
        Secondary Capture Image Storage (PS3.3 A.8.1), RGB in Explicit VR Little Endian. Nothing
        burnt in identifies the patient.
    """
    header = evidence_header(series)
    image = SCImage(
        pixel_array=render_overlay(series, prediction),
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=("L", "P"),
        study_instance_uid=header.StudyInstanceUID,
        series_instance_uid=context.uid(UidRole.SUMMARY_SERIES),
        series_number=SERIES_NUMBER,
        series_description=SERIES_DESCRIPTION,
        sop_instance_uid=context.uid(UidRole.SUMMARY),
        transfer_syntax_uid=ExplicitVRLittleEndian,
        **instance_attributes(context),
    )
    # A page of several slices and text has no direction of its own.
    image.PatientOrientation = []
    image.BodyPartExamined = "CHEST"
    image.ConversionType = "WSD"
    image.SecondaryCaptureDeviceManufacturer = MANUFACTURER
    image.SecondaryCaptureDeviceManufacturerModelName = MODEL_NAME
    image.DateOfSecondaryCapture = image.ContentDate
    image.TimeOfSecondaryCapture = image.ContentTime
    image.BurnedInAnnotation = "NO"
    image.RecognizableVisualFeatures = "NO"
    image.LossyImageCompression = "00"
    image.DerivationDescription = f"Slices with AI lesion outlines and figures; {STATUS}"
    image.SourceImageSequence = _shown_sources(series, prediction)
    write_common_attributes(image, series, context)
    return image


def _shown_sources(series: CtSeries, prediction: Prediction) -> list[Dataset]:
    items = []
    for index in choose_slices(series, prediction, PICTURES):
        reference = series.slices[index]
        item = Dataset()
        item.ReferencedSOPClassUID = reference.sop_class_uid
        item.ReferencedSOPInstanceUID = reference.sop_instance_uid
        if reference.frame_number is not None:
            item.ReferencedFrameNumber = reference.frame_number
        item.PurposeOfReferenceCodeSequence = [CodedConcept.from_code(codes.SOURCE_FOR_MONTAGE)]
        items.append(item)
    return items
