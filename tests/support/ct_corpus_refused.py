"""Studies that must be refused, each with its reason."""

from __future__ import annotations

import copy
import struct
from typing import TYPE_CHECKING

import numpy as np
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    SecondaryCaptureImageStorage,
    generate_uid,
)
from support.ct_corpus import P001, Case, cells_of, height, renamed

from dicom_node.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pydicom import Dataset

    Make = Callable[[list[Dataset], Path], list[Dataset]]


def every(**values: object) -> Make:
    """Set attributes in each slice; None takes one away."""
    return lambda slices, _: [_changed(dataset, values) for dataset in slices]


def one(**values: object) -> Make:
    """Set attributes in one slice."""

    def make(slices: list[Dataset], _: Path) -> list[Dataset]:
        _changed(slices[7], values)
        return slices

    return make


def _changed(dataset: Dataset, values: dict[str, object]) -> Dataset:
    for keyword, value in values.items():
        if value is None:
            dataset.pop(keyword, None)
        else:
            setattr(dataset, keyword, value)
    return dataset


def moved(shift: Callable[[int, np.ndarray], np.ndarray]) -> Make:
    """Move each slice to where a function of its number and position says."""

    def make(slices: list[Dataset], _: Path) -> list[Dataset]:
        for number, dataset in enumerate(slices):
            position = np.array(dataset.ImagePositionPatient, float)
            dataset.ImagePositionPatient = [round(x, 6) for x in shift(number, position)]
        return slices

    return make


def without_slices(*numbers: int) -> Make:
    return lambda slices, _: [s for number, s in enumerate(slices) if number not in numbers]


def turned(degrees: float, *, positions: bool = False) -> Make:
    """Turn the planes about the patient's left-right axis, the positions with them or not."""

    def make(slices: list[Dataset], _: Path) -> list[Dataset]:
        angle = np.radians(degrees)
        column = [0.0, float(np.cos(angle)), float(np.sin(angle))]
        normal = np.cross([1.0, 0.0, 0.0], column)
        lowest = height(slices[0])
        for dataset in slices:
            dataset.ImageOrientationPatient = [1, 0, 0, *(round(x, 8) for x in column)]
            if positions:
                at = (height(dataset) - lowest) * normal
                dataset.ImagePositionPatient = [round(float(x), 6) for x in at]
        return slices

    return make


def another_image(slices: list[Dataset], _: Path) -> list[Dataset]:
    other = renamed(slices[7])
    other.PixelData = (cells_of(other) ^ 1).tobytes()
    return [*slices, other]


def two_time_points(slices: list[Dataset], _: Path) -> list[Dataset]:
    later = [renamed(dataset) for dataset in slices]
    for dataset in later:
        dataset.AcquisitionNumber = 2
        dataset.PixelData = (cells_of(dataset) ^ 3).tobytes()
    return [*slices, *later]


def short_pixels(slices: list[Dataset], _: Path) -> list[Dataset]:
    slices[7].PixelData = slices[7].PixelData[:-64]
    return slices


def cut_file(slices: list[Dataset], folder: Path) -> list[Dataset]:
    cut = slices.pop(7)
    cut.save_as(folder / "cut.dcm")
    content = (folder / "cut.dcm").read_bytes()
    (folder / "cut.dcm").write_bytes(content[:-500])
    return slices


def header_only(slices: list[Dataset], folder: Path) -> list[Dataset]:
    cut = slices.pop(7)
    cut.save_as(folder / "cut.dcm")
    content = (folder / "cut.dcm").read_bytes()
    (folder / "cut.dcm").write_bytes(
        content[: content.index(bytes.fromhex("2800100002000000")) + 4]
    )
    return slices


def codestreams(change: Callable[[bytes], bytes], syntax: str) -> Make:
    """Compress the slices and change the codestream of one."""

    def make(slices: list[Dataset], _: Path) -> list[Dataset]:
        for dataset in slices:
            dataset.compress(syntax, generate_instance_uid=False)
        (frame,) = generate_frames(slices[7].PixelData, number_of_frames=1)
        slices[7].PixelData = encapsulate([change(frame)])
        return slices

    return make


def other_size(frame: bytes) -> bytes:
    return frame.replace(struct.pack(">HH", 64, 64), struct.pack(">HH", 65500, 65500), 1)


def as_jpeg_baseline(slices: list[Dataset], _: Path) -> list[Dataset]:
    for dataset in slices:
        dataset.compress(JPEGLSLossless, generate_instance_uid=False)
        dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    return slices


def as_secondary_capture(slices: list[Dataset], _: Path) -> list[Dataset]:
    for dataset in slices:
        dataset.SOPClassUID = SecondaryCaptureImageStorage
        dataset.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    return slices


def in_three_colours(slices: list[Dataset], _: Path) -> list[Dataset]:
    for dataset in slices:
        dataset.SamplesPerPixel, dataset.PlanarConfiguration = 3, 0
        dataset.PhotometricInterpretation = "RGB"
        dataset.PixelData *= 3
    return slices


def nested(slices: list[Dataset], folder: Path) -> list[Dataset]:
    for number, dataset in enumerate(slices):
        path = folder / f"{number}.dcm"
        dataset.save_as(path)
        content = path.read_bytes()
        at = content.index(bytes.fromhex("2800020002000000"))
        sequence = bytes.fromhex("40007502fffffffffeff00e0ffffffff")
        path.write_bytes(content[:at] + sequence * 20_000 + content[at:])
    return []


def a_letter(_: list[Dataset], folder: Path) -> list[Dataset]:
    (folder / "letter.txt").write_text("dear colleague, please find attached\n" * 20)
    return []


def other_bytes_under_a_uid(slices: list[Dataset], folder: Path) -> list[Dataset]:
    """Send a changed image again; the folder's name lets it come last."""
    other = copy.deepcopy(slices[7])
    other.PixelData = (cells_of(other) ^ 1).tobytes()
    (folder / "later").mkdir()
    other.save_as(folder / "later" / "other.dcm")
    return slices


def half_as_far(number: int, position: np.ndarray) -> np.ndarray:
    """Let the upper half lie at half the distance."""
    return position - [0, 0, max(0, number - 13) * 2.5]


def a_few_slices_of_another_matrix(slices: list[Dataset], _: Path) -> list[Dataset]:
    for dataset in slices[20:]:
        dataset.PixelData = cells_of(dataset)[:32].tobytes()
        dataset.Rows = 32
    return slices


HEAD = {"BodyPartExamined": "HEAD", "SeriesDescription": "", "ProtocolName": "Head routine"}
ABDOMEN = {
    "BodyPartExamined": None,
    "SeriesDescription": "ABDOMEN 5.0 B30f",
    "ProtocolName": "",
    "StudyDescription": "",
}

R = Reason
REFUSED = (
    Case("a slice is missing", without_slices(9), R.MISSING_SLICES),
    Case("two slices are missing", without_slices(9, 10), R.MISSING_SLICES),
    Case("one slice lies 2 mm off", moved(lambda k, p: np.add(p, [0, 0, 2.0 * (k == 9)])),
         R.IRREGULAR_SPACING),
    Case("two spacings", moved(half_as_far), R.IRREGULAR_SPACING),
    Case("a slice beside the others", moved(lambda k, p: np.add(p, [9.0 * (k == 9), 0, 0])),
         R.IRREGULAR_SPACING),
    Case("all slices at one place", moved(lambda _, p: p * [1, 1, 0]), R.TOO_FEW_SLICES),
    Case("a declared gantry tilt", every(GantryDetectorTilt="-12.5"), R.GANTRY_TILT),
    Case("a tilt in the positions", moved(lambda k, p: np.add(p, [0, 0.5 * k, 0])), R.GANTRY_TILT),
    Case("a tilt in the orientation", turned(8), R.GANTRY_TILT),
    Case("another image at a place", another_image, R.CONFLICTING_DUPLICATES),
    Case("other bytes under a known UID", other_bytes_under_a_uid, R.CONFLICTING_DUPLICATES),
    Case("two points in time", two_time_points, R.CONFLICTING_DUPLICATES),
    Case("a slice of another orientation", one(ImageOrientationPatient=[0, 1, 0, 0, 0, -1]),
         R.MIXED_ORIENTATIONS),
    Case("a slice of another pixel spacing", one(PixelSpacing=[0.5, 0.5]), R.MIXED_ORIENTATIONS),
    Case("slices of another matrix", a_few_slices_of_another_matrix, R.MIXED_ORIENTATIONS),
    Case("a localizer", every(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), R.LOCALIZER),
    Case("a maximum intensity projection", every(ImageType=["DERIVED", "SECONDARY", "MIP"]),
         R.DERIVED_IMAGE),
    Case("no Hounsfield units", every(RescaleType="OD"), R.DERIVED_IMAGE),
    Case("sagittal", every(ImageOrientationPatient=[0, 1, 0, 0, 0, -1]), R.NOT_AXIAL),
    Case("coronal", every(ImageOrientationPatient=[1, 0, 0, 0, 0, -1]), R.NOT_AXIAL),
    Case("an oblique reformat", turned(30, positions=True), R.NOT_AXIAL),
    Case("a head", every(**HEAD), R.NOT_CHEST),
    Case("an abdomen", every(**ABDOMEN), R.NOT_CHEST),
    Case("too short for a chest", moved(lambda k, p: p - [0, 0, 4.0 * k]), R.NOT_CHEST),
    Case("too few slices", lambda slices, _: slices[:12], R.TOO_FEW_SLICES),
    Case("no orientation", every(ImageOrientationPatient=None), R.MISSING_GEOMETRY),
    Case("no orientation in one slice", one(ImageOrientationPatient=None), R.MISSING_GEOMETRY),
    Case("no position", every(ImagePositionPatient=None), R.MISSING_GEOMETRY),
    Case("no pixel spacing", every(PixelSpacing=None), R.MISSING_GEOMETRY),
    Case("pixel spacing of zero", every(PixelSpacing=[0, 0]), R.MISSING_GEOMETRY),
    Case("an orientation of no unit vectors", every(ImageOrientationPatient=[2, 0, 0, 0, 2, 0]),
         R.MISSING_GEOMETRY),
    Case("no rescale slope", every(RescaleSlope=None), R.MISSING_RESCALE),
    Case("no rescale slope in one slice", one(RescaleSlope=None), R.MISSING_RESCALE),
    Case("no rescale intercept", every(RescaleIntercept=None), R.MISSING_RESCALE),
    Case("a rescale slope of zero", every(RescaleSlope=0), R.MISSING_RESCALE),
    Case("pixel data that is too short", short_pixels, R.SHORT_PIXEL_DATA),
    Case("a file that breaks off in its pixels", cut_file, R.SHORT_PIXEL_DATA),
    Case("a file that breaks off in its header", header_only, R.MISSING_GEOMETRY),
    Case("a slice without pixels", one(PixelData=None), R.SHORT_PIXEL_DATA),
    Case("a codestream of garbage", codestreams(lambda _: b"garbage " * 99, JPEG2000Lossless),
         R.UNDECODABLE_PIXELS),
    Case("a codestream without its end", codestreams(lambda f: f[:-40], JPEGLSLossless),
         R.UNDECODABLE_PIXELS),
    Case("a codestream of another size", codestreams(other_size, JPEGLSLossless),
         R.UNDECODABLE_PIXELS),
    Case("compressed pixels as large as a bomb", codestreams(lambda f: f * 900, JPEGLSLossless),
         R.TOO_LARGE),
    Case("a lossy transfer syntax", as_jpeg_baseline, R.UNSUPPORTED_TRANSFER_SYNTAX),
    Case("17 of 16 bits stored", every(BitsStored=17, HighBit=16), R.UNDECODABLE_PIXELS),
    Case("three colours", in_three_colours, R.UNDECODABLE_PIXELS),
    Case("a matrix of 65,535 rows", every(Rows=65535), R.TOO_LARGE),
    Case("20,000 sequences in each other", nested, R.TOO_LARGE),
    Case("a secondary capture", as_secondary_capture, R.NOT_CT),
    Case("another modality", every(Modality="PT"), R.NOT_CT),
    Case("no Series Instance UID", every(SeriesInstanceUID=None), R.MISSING_ATTRIBUTES),
    Case("a SOP Instance UID that is a path", every(SOPInstanceUID="../../etc/passwd"),
         R.MISSING_ATTRIBUTES),
    Case("no DICOM", a_letter, R.NOT_DICOM),
    Case("a missing slice, compressed", without_slices(9), R.MISSING_SLICES, series=P001),
)  # fmt: skip

__all__ = ["REFUSED", "every", "generate_uid", "moved", "one"]
