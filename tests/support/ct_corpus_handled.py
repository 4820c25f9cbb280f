"""Studies that are odd and must be read all the same, most of them to the same volume."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np
from highdicom.legacy import LegacyConvertedEnhancedCTImage
from pydicom import Dataset
from pydicom.uid import (
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)
from support.ct_corpus import LIDC, P001, Case, cells_of, renamed
from support.ct_corpus_refused import every, moved, turned

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Make = Callable[[list[Dataset], Path], list[Dataset]]

TYPE_2 = (
    "AccessionNumber", "PatientBirthDate", "PatientID", "PatientName", "PatientSex",
    "ReferringPhysicianName", "StudyDate", "StudyID", "StudyTime",
)  # fmt: skip


def as_they_are(slices: list[Dataset], _: Path) -> list[Dataset]:
    return slices


def without(*keywords: str) -> Make:
    def make(slices: list[Dataset], _: Path) -> list[Dataset]:
        for dataset in slices:
            for keyword in keywords:
                if keyword in dataset:
                    delattr(dataset, keyword)
        return slices

    return make


def as_signed(slices: list[Dataset], _: Path) -> list[Dataset]:
    for dataset in slices:
        units = cells_of(dataset).astype(np.int32) + int(dataset.RescaleIntercept)
        dataset.PixelData = units.astype("<i2").tobytes()
        dataset.PixelRepresentation, dataset.RescaleIntercept = 1, 0
        dataset.BitsStored, dataset.HighBit = 16, 15
        for keyword in ("SmallestImagePixelValue", "LargestImagePixelValue", "PixelPaddingValue"):
            dataset.pop(keyword, None)
    return slices


def with_overlay_bits(slices: list[Dataset], _: Path) -> list[Dataset]:
    """Fill the bits above the stored ones, as old scanners did with overlays."""
    for dataset in slices:
        high = np.uint16(0xFFFF << dataset.BitsStored & 0xFFFF)
        dataset.PixelData = (cells_of(dataset) | high).tobytes()
    return slices


def with_odd_decimals(slices: list[Dataset], folder: Path) -> list[Dataset]:
    for number, dataset in enumerate(slices):
        path = folder / f"{number:03d}.dcm"
        dataset.PixelSpacing = ["0.87654321", "0.87654321"]
        dataset.RescaleSlope = "1.000"
        dataset.save_as(path)
        content = path.read_bytes()
        # Of equal length, so that nothing else has to change.
        content = content.replace(b"0.87654321", b"08765.e-04").replace(b"1.000", b" +1e0")
        path.write_bytes(content)
    return []


def twice_each(slices: list[Dataset], folder: Path) -> list[Dataset]:
    (folder / "again").mkdir()
    for number, dataset in enumerate(slices[::2]):
        dataset.save_as(folder / "again" / f"{number}.dcm")
    return slices


def one_image_twice(slices: list[Dataset], _: Path) -> list[Dataset]:
    return [*slices, renamed(slices[7])]


def with_another_kernel(slices: list[Dataset], _: Path) -> list[Dataset]:
    soft = [renamed(dataset) for dataset in slices]
    series = generate_uid()
    for dataset in soft:
        dataset.SeriesInstanceUID, dataset.SeriesNumber = series, 1
        dataset.Manufacturer, dataset.ConvolutionKernel = "SIEMENS", "B30f"
        dataset.PixelData = (cells_of(dataset) ^ 1).tobytes()
    for dataset in slices:
        dataset.Manufacturer, dataset.ConvolutionKernel = "SIEMENS", "B70f"
    return [*soft, *slices]


def as_multi_frame(slices: list[Dataset], _: Path) -> list[Dataset]:
    for dataset in slices:
        dataset.SpecificCharacterSet = "ISO_IR 192"
    return [
        LegacyConvertedEnhancedCTImage(
            legacy_datasets=slices,
            series_instance_uid=generate_uid(),
            series_number=9,
            sop_instance_uid=generate_uid(),
            instance_number=1,
        )
    ]


def with_a_frame_of_reference_each(slices: list[Dataset], _: Path) -> list[Dataset]:
    for dataset in slices:
        dataset.FrameOfReferenceUID = generate_uid()
    return slices


def with_scrambled_numbers(slices: list[Dataset], _: Path) -> list[Dataset]:
    for number, dataset in enumerate(slices):
        dataset.InstanceNumber = number * 7 % 26
        dataset.SliceLocation = str(-number)
    return slices[::-1]


def with_its_localizer(slices: list[Dataset], _: Path) -> list[Dataset]:
    scout = renamed(slices[0])
    scout.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    scout.ImageOrientationPatient = [1, 0, 0, 0, 0, -1]
    return [scout, *slices]


def with_another_study_object(slices: list[Dataset], _: Path) -> list[Dataset]:
    report = Dataset()
    report.file_meta = copy.deepcopy(slices[0].file_meta)
    report.SOPClassUID = report.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.88.67"
    report.SOPInstanceUID = report.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    report.StudyInstanceUID = slices[0].StudyInstanceUID
    report.SeriesInstanceUID, report.Modality = generate_uid(), "SR"
    return [*slices, report]


def compressed(syntax: str) -> Make:
    def make(slices: list[Dataset], _: Path) -> list[Dataset]:
        for dataset in slices:
            dataset.compress(syntax, generate_instance_uid=False)
        return slices

    return make


def in_implicit_vr(slices: list[Dataset], folder: Path) -> list[Dataset]:
    for number, dataset in enumerate(slices):
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        dataset["PixelData"].VR = "OW"
        dataset.save_as(folder / f"{number}.dcm", implicit_vr=True, little_endian=True)
    return []


def with_trailing_padding(slices: list[Dataset], folder: Path) -> list[Dataset]:
    for number, dataset in enumerate(slices):
        dataset.DataSetTrailingPadding = bytes(512)
        dataset.save_as(folder / f"{number}.dcm")
    return []


def with_padding(slices: list[Dataset], _: Path) -> list[Dataset]:
    """Pad the corner, as a round field of view does; LIDC writes 63536 on signed pixels."""
    for dataset in slices:
        cells = cells_of(dataset).copy()
        cells[:8, :8] = 63536
        dataset.PixelData = cells.tobytes()
        assert dataset.PixelPaddingValue == 63536
    return slices


def with_padding_no_pixel_can_hold(slices: list[Dataset], _: Path) -> list[Dataset]:
    for dataset in slices:
        dataset.pop("PixelPaddingValue", None)
        dataset.add_new("PixelPaddingValue", "DS", "1e30")
    return slices


SCRIPT = "<script>alert(1)</script>^"

HANDLED = (
    Case("lung_dx as it is", as_they_are, None),
    Case("LIDC as it is", as_they_are, None, series=LIDC),
    Case("P001 as it is, JPEG Lossless", as_they_are, None, series=P001),
    Case("padding of 63536 on signed pixels", with_padding, None, series=LIDC, same_volume=False),
    Case("padding that no pixel can hold", with_padding_no_pixel_can_hold, None),
    Case("signed pixels and intercept 0", as_signed, None),
    Case("bits above those stored", with_overlay_bits, None),
    Case("odd decimal strings", with_odd_decimals, None),
    Case("exact duplicates", twice_each, None),
    Case("one image under two UIDs", one_image_twice, None),
    Case("two kernels", with_another_kernel, None),
    Case("a multi-frame image", as_multi_frame, None),
    Case("a frame of reference for each slice", with_a_frame_of_reference_each, None),
    Case("numbers and locations that lie", with_scrambled_numbers, None),
    Case("no numbers", without("InstanceNumber", "SliceLocation", "SeriesNumber"), None),
    Case("no slice thickness", without("SliceThickness"), None),
    Case("a localizer in the series", with_its_localizer, None),
    Case("a dose report in the study", with_another_study_object, None),
    Case("no attributes of type 2", without(*TYPE_2), None),
    Case("no body part and no descriptions",
         without("BodyPartExamined", "SeriesDescription", "StudyDescription", "ProtocolName"),
         None),
    Case("an unknown character set", every(SpecificCharacterSet="ISO 9999"), None),
    Case("a script in a name", every(PatientName=SCRIPT, SeriesDescription=SCRIPT), None),
    Case("positions rounded to 0.01 mm", moved(lambda _, p: np.round(p + 1e-3, 2)), None),
    Case("slightly oblique", turned(3, positions=True), None),
    Case("feet first, prone", every(ImageOrientationPatient=[-1, 0, 0, 0, 1, 0]), None,
         same_volume=False),
    Case("Implicit VR Little Endian", in_implicit_vr, None),
    Case("trailing padding", with_trailing_padding, None),
    Case("RLE Lossless", compressed(RLELossless), None),
    Case("JPEG-LS Lossless", compressed(JPEGLSLossless), None),
    Case("JPEG 2000 Lossless", compressed(JPEG2000Lossless), None),
)  # fmt: skip
