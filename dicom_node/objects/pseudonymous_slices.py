"""Slices of a CT volume as new CT images that say nothing of the patient, for training data."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING

from highdicom.seg import (
    SegmentAlgorithmTypeValues,
    Segmentation,
    SegmentationTypeValues,
    SegmentDescription,
)
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

from dicom_node.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from dicom_node.objects import codes
from dicom_node.objects.common_attributes import encode_file
from dicom_node.objects.provenance import MANUFACTURER, MODEL_NAME, UUID_ROOT, uid_from_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from model.volume import CtVolume

_MOMENTS = (
    *("ContentDate", "ContentTime", "InstanceCreationDate", "InstanceCreationTime"),
    *("SeriesDate", "SeriesTime"),
)


@dataclass(frozen=True, slots=True)
class Pseudonym:
    """Names that stand for a patient and a study.

    Attributes
    ----------
    patient, study
        Keys from which nobody can tell patient or study who does not hold the secret they were
        made with. All UIDs are derived from `study`.
    """

    patient: str
    study: str


def encode_slice(volume: CtVolume, index: int, pseudonym: Pseudonym) -> bytes:
    """Encode one slice as a CT Image Storage file (PS3.3 section A.3.3).

    It is made from pixels and geometry alone, so nothing of the source's header, known or
    private, can slip through. Pixels
    are Hounsfield units; burnt-in text, which CT slices do not have, would stay.

    Parameters
    ----------
    volume
        The series.
    index
        Slice of it.
    pseudonym
        Stands for patient and study.

    Returns
    -------
    bytes
        A DICOM file in Explicit VR Little Endian; the same bytes for the same arguments.
    """
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.file_meta.ImplementationClassUID = IMPLEMENTATION_CLASS_UID
    image.file_meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    image.SOPClassUID = CTImageStorage
    image.SOPInstanceUID = _uid(pseudonym, f"instance {index}")
    _describe_subject(image, pseudonym)
    _describe_plane(image, volume, index)
    _describe_pixels(image, volume.hounsfield[index])
    return encode_file(image)


def encode_lesions(slices: Sequence[bytes], mask: NDArray[np.bool_], pseudonym: Pseudonym) -> bytes:
    """Encode lesions on the slices of one study as a DICOM Segmentation, also where there are none.

    Parameters
    ----------
    slices
        What `encode_slice` gave.
    mask
        Boolean array of (slices, rows, columns) in their order.
    pseudonym
        As the slices'.

    Returns
    -------
    bytes
        A DICOM file that the reader of corrected segmentations understands; the same bytes for
        the same arguments.
    """
    segmentation = Segmentation(
        source_images=[dcmread(BytesIO(each)) for each in slices],
        pixel_array=mask.astype("uint8"),
        segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=[
            SegmentDescription(
                segment_number=1,
                segment_label="Lesions",
                segmented_property_category=codes.MORPHOLOGICALLY_ABNORMAL,
                segmented_property_type=codes.LESION,
                algorithm_type=SegmentAlgorithmTypeValues.MANUAL,
            )
        ],
        series_instance_uid=_uid(pseudonym, "lesion series"),
        series_number=2,
        sop_instance_uid=_uid(pseudonym, "lesions"),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name=MODEL_NAME,
        software_versions="",
        device_serial_number="",
        omit_empty_frames=bool(mask.any()),
    )
    # Dates would differ each time, and tell when a patient's study was reviewed.
    for keyword in _MOMENTS:
        if keyword in segmentation:
            setattr(segmentation, keyword, "")
    if "ContributingEquipmentSequence" in segmentation:
        del segmentation.ContributingEquipmentSequence
    dimension = _uid(pseudonym, "dimension organization")
    segmentation.DimensionOrganizationSequence[0].DimensionOrganizationUID = dimension
    for item in segmentation.DimensionIndexSequence:
        item.DimensionOrganizationUID = dimension
    return encode_file(segmentation)


def _describe_subject(image: Dataset, pseudonym: Pseudonym) -> None:
    image.PatientName = f"{pseudonym.patient}^"
    image.PatientID = pseudonym.patient
    image.PatientBirthDate = image.PatientSex = ""
    image.PatientIdentityRemoved = "YES"
    image.DeidentificationMethod = "Pixels and geometry alone are kept"
    image.StudyInstanceUID = _uid(pseudonym, "study")
    image.StudyDate = image.StudyTime = image.StudyID = ""
    image.AccessionNumber = image.ReferringPhysicianName = ""
    image.Modality = "CT"
    image.SeriesInstanceUID = _uid(pseudonym, "series")
    image.SeriesNumber = 1
    image.FrameOfReferenceUID = _uid(pseudonym, "frame of reference")
    image.PositionReferenceIndicator = ""
    image.Manufacturer = ""


def _describe_plane(image: Dataset, volume: CtVolume, index: int) -> None:
    position = volume.affine @ (index, 0, 0, 1)
    along_row = volume.affine[:3, 2] / volume.spacing_mm[2]
    along_column = volume.affine[:3, 1] / volume.spacing_mm[1]
    image.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    image.InstanceNumber = index + 1
    image.AcquisitionNumber = 1
    image.KVP = None
    image.ImagePositionPatient = [f"{value:.3f}" for value in position[:3]]
    image.ImageOrientationPatient = [f"{v:.6f}" for v in (*along_row, *along_column)]
    image.PixelSpacing = [f"{step:.6g}" for step in volume.spacing_mm[1:]]
    image.SliceThickness = f"{volume.spacing_mm[0]:.6g}"


def _describe_pixels(image: Dataset, pixels: NDArray[np.int16]) -> None:
    image.SamplesPerPixel = 1
    image.PhotometricInterpretation = "MONOCHROME2"
    image.Rows, image.Columns = pixels.shape
    image.BitsAllocated = image.BitsStored = 16
    image.HighBit = 15
    image.PixelRepresentation = 1
    image.RescaleIntercept, image.RescaleSlope, image.RescaleType = "0", "1", "HU"
    image.PixelData = pixels.astype("<i2").tobytes()


def _uid(pseudonym: Pseudonym, part: str) -> UID:
    return UID(uid_from_name(UUID_ROOT, (pseudonym.study, part)))
