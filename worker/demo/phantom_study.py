"""The synthetic chest as a study of CT Image Storage objects, plainly labelled synthetic."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from worker.demo.phantom import build_phantom

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from model.volume import CtVolume

PATIENT_ID = "LUNGWATCH-PHANTOM"
_NAMESPACE = uuid.UUID("6f7f2f0e-3b53-5b1a-9c55-1f0d4c3a9e21")
_DATE, _TIME = "20200301", "120000"


def write_phantom_study(folder: Path, seed: int = 0) -> list[Path]:
    """Write the synthetic chest as one axial series of single-frame CT images.

    UIDs follow from the seed: the same phantom sent twice is the same study.

    Parameters
    ----------
    folder
        Where the files go; made when absent.
    seed
        As for `build_phantom`.

    Returns
    -------
    list of Path
        One file for each slice, from foot to head.
    """
    folder.mkdir(parents=True, exist_ok=True)
    volume = build_phantom(seed).volume
    paths = []
    for index, pixels in enumerate(volume.hounsfield):
        path = folder / f"phantom-{index + 1:03d}.dcm"
        _image(volume, index, pixels, seed).save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def _image(volume: CtVolume, index: int, pixels: NDArray[np.int16], seed: int) -> Dataset:
    """One instance after the CT Image IOD (PS3.3 section A.3.3)."""
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.SOPClassUID = CTImageStorage
    image.SOPInstanceUID = _uid(seed, f"instance {index}")
    _describe_patient_and_study(image, seed)
    _describe_series(image, volume, seed)
    _describe_plane(image, volume, index)
    _describe_pixels(image, pixels)
    return image


def _describe_patient_and_study(image: Dataset, seed: int) -> None:
    image.PatientName = "SYNTHETIC^PHANTOM"
    image.PatientID = PATIENT_ID
    image.PatientBirthDate = ""
    image.PatientSex = ""
    image.QualityControlSubject = "YES"
    image.StudyInstanceUID = _uid(seed, "study")
    image.StudyDate = _DATE
    image.StudyTime = _TIME
    image.StudyID = str(seed)
    image.StudyDescription = "SYNTHETIC chest CT, not a patient"
    image.AccessionNumber = ""
    image.ReferringPhysicianName = ""


def _describe_series(image: Dataset, volume: CtVolume, seed: int) -> None:
    image.Modality = "CT"
    image.SeriesInstanceUID = _uid(seed, "series")
    image.SeriesNumber = 2
    image.SeriesDate = _DATE
    image.SeriesTime = _TIME
    image.SeriesDescription = "SYNTHETIC PHANTOM axial lung"
    image.BodyPartExamined = "CHEST"
    image.PatientPosition = "HFS"
    image.FrameOfReferenceUID = _uid(seed, "frame of reference")
    image.PositionReferenceIndicator = ""
    image.Manufacturer = "Lungwatch"
    image.ManufacturerModelName = "Synthetic chest phantom"
    image.SoftwareVersions = "1"
    image.KVP = "120"
    image.ConvolutionKernel = "LUNG"
    image.SliceThickness = f"{volume.spacing_mm[0]:g}"
    image.SpacingBetweenSlices = f"{volume.spacing_mm[0]:g}"


def _describe_plane(image: Dataset, volume: CtVolume, index: int) -> None:
    position = volume.affine @ (index, 0, 0, 1)
    image.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    image.InstanceNumber = index + 1
    image.AcquisitionNumber = 1
    image.AcquisitionDate = _DATE
    image.AcquisitionTime = _TIME
    image.ContentDate = _DATE
    image.ContentTime = _TIME
    image.ImageComments = "SYNTHETIC PHANTOM, computed, not a patient"
    image.ImagePositionPatient = [f"{value:.3f}" for value in position[:3]]
    image.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
    image.SliceLocation = f"{position[2]:.3f}"
    image.PixelSpacing = [f"{volume.spacing_mm[1]:g}", f"{volume.spacing_mm[2]:g}"]


def _describe_pixels(image: Dataset, pixels: NDArray[np.int16]) -> None:
    image.SamplesPerPixel = 1
    image.PhotometricInterpretation = "MONOCHROME2"
    image.Rows, image.Columns = pixels.shape
    image.BitsAllocated = 16
    image.BitsStored = 16
    image.HighBit = 15
    image.PixelRepresentation = 1
    image.RescaleIntercept = "0"
    image.RescaleSlope = "1"
    image.RescaleType = "HU"
    image.WindowCenter = "-600"
    image.WindowWidth = "1500"
    image.PixelData = pixels.astype("<i2").tobytes()


def _uid(seed: int, part: str) -> str:
    """UID from a UUID (PS3.5 section B.2), the same for the same phantom."""
    return f"2.25.{uuid.uuid5(_NAMESPACE, f'{seed} {part}').int}"
