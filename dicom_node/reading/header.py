"""The facts about one received instance, without pixels: for assembly, selection and worklist."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import asdict, dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any, Self

from pydicom import config, dcmread, filereader
from pydicom.filereader import read_preamble
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    EnhancedCTImageStorage,
    ExplicitVRBigEndian,
    LegacyConvertedEnhancedCTImageStorage,
    MediaStorageDirectoryStorage,
)

from dicom_node.errors import RefusedError, is_from_system
from dicom_node.reading import attributes
from dicom_node.reading.frames import FrameHeader, frames_of, shared_decimal, shared_text
from dicom_node.reading.pixel_data import PixelDataExtent, locate_pixel_data
from dicom_node.reading.structure import Structure, survey
from dicom_node.reasons import Reason
from dicom_node.sop_classes import CT_SOP_CLASSES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path
    from typing import BinaryIO

    from pydicom import Dataset

# Read tolerantly: our own checks decide, and pydicom's warnings would put the values of patients
# into logs.
config.settings.reading_validation_mode = config.IGNORE

# A dozen short elements; what does not fit is none.
_LONGEST_FILE_META = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceHeader:
    """One instance without its pixels; empty text and None stand for what the sender left out.

    Attributes
    ----------
    image_type
        Values of Image Type (PS3.3 section C.8.2.1.1.1).
    gantry_tilt
        Gantry/Detector Tilt in degrees.
    frames
        One for each frame, in frame order; a single-frame instance has one.
    pixel_data_complete
        Whether the pixel data is as long as declared; None for an object without an image, or
        where only a data set was at hand.
    content_sha256
        Hexadecimal digest of the stored bytes where the spool knows it, else empty.
    """

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    transfer_syntax_uid: str = ""
    frame_of_reference_uid: str = ""
    modality: str = ""
    image_type: tuple[str, ...] = ()
    patient_id: str = ""
    patient_name: str = ""
    patient_birth_date: str = ""
    patient_sex: str = ""
    accession_number: str = ""
    study_id: str = ""
    study_date: str = ""
    study_time: str = ""
    study_description: str = ""
    referring_physician_name: str = ""
    institution_name: str = ""
    series_number: int | None = None
    series_description: str = ""
    protocol_name: str = ""
    body_part_examined: str = ""
    instance_number: int | None = None
    acquisition_number: int | None = None
    manufacturer: str = ""
    manufacturer_model_name: str = ""
    convolution_kernel: str = ""
    gantry_tilt: float | None = None
    rows: int | None = None
    columns: int | None = None
    number_of_frames: int = 1
    frames: tuple[FrameHeader, ...] = ()
    pixel_data_complete: bool | None = None
    content_sha256: str = ""

    @property
    def is_multi_frame(self) -> bool:
        """Whether the SOP class holds its frames in functional groups."""
        return self.sop_class_uid in _MULTI_FRAME

    @classmethod
    def from_dataset(
        cls,
        dataset: Dataset,
        *,
        pixel_data_complete: bool | None = None,
        content_sha256: str = "",
    ) -> Self:
        """Take the facts from a data set.

        Raises
        ------
        RefusedError
            MISSING_ATTRIBUTES if one of the four UIDs that identify an instance is absent,
            TOO_LARGE for a CT of more frames than `frames.MOST_FRAMES`.
        """
        uids = {name: attributes.uid(dataset, keyword) for name, keyword in _IDENTITY.items()}
        if missing := [_IDENTITY[name] for name, found in uids.items() if not found]:
            raise RefusedError(
                Reason.MISSING_ATTRIBUTES, f"{', '.join(missing)} absent or not a UID"
            )
        file_meta = getattr(dataset, "file_meta", None)
        syntax = attributes.uid(file_meta, "TransferSyntaxUID") if file_meta else ""
        return cls(
            **uids,
            **{name: attributes.text(dataset, keyword) for name, keyword in _TEXTS.items()},
            transfer_syntax_uid=syntax,
            frame_of_reference_uid=attributes.uid(dataset, "FrameOfReferenceUID"),
            image_type=attributes.texts(dataset, "ImageType"),
            series_number=attributes.integer(dataset, "SeriesNumber"),
            instance_number=attributes.integer(dataset, "InstanceNumber"),
            acquisition_number=attributes.integer(dataset, "AcquisitionNumber"),
            body_part_examined=shared_text(dataset, "BodyPartExamined"),
            convolution_kernel=shared_text(dataset, "ConvolutionKernel"),
            gantry_tilt=shared_decimal(dataset, "GantryDetectorTilt"),
            rows=attributes.integer(dataset, "Rows"),
            columns=attributes.integer(dataset, "Columns"),
            number_of_frames=attributes.integer(dataset, "NumberOfFrames") or 1,
            # Of other objects nobody asks, and a SEG may have any number of them.
            frames=frames_of(dataset) if uids["sop_class_uid"] in CT_SOP_CLASSES else (),
            pixel_data_complete=pixel_data_complete,
            content_sha256=content_sha256,
        )

    def to_json(self) -> dict[str, Any]:
        """Give a plain dictionary of JSON types; `from_json` gives the equal header back."""
        return {name: _plain(found) for name, found in asdict(self).items()}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Self:
        """Build the header that `to_json` wrote."""
        frames = (
            FrameHeader(**{name: _frozen(found) for name, found in frame.items()})
            for frame in stored["frames"]
        )
        return cls(
            **{
                **stored,
                "image_type": tuple(stored["image_type"]),
                "frames": tuple(frames),
            }
        )


_MULTI_FRAME = (EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage)
_IDENTITY = {
    "sop_class_uid": "SOPClassUID",
    "sop_instance_uid": "SOPInstanceUID",
    "study_instance_uid": "StudyInstanceUID",
    "series_instance_uid": "SeriesInstanceUID",
}
_TEXTS = {
    "modality": "Modality",
    "patient_id": "PatientID",
    "patient_name": "PatientName",
    "patient_birth_date": "PatientBirthDate",
    "patient_sex": "PatientSex",
    "accession_number": "AccessionNumber",
    "study_id": "StudyID",
    "study_date": "StudyDate",
    "study_time": "StudyTime",
    "study_description": "StudyDescription",
    "referring_physician_name": "ReferringPhysicianName",
    "institution_name": "InstitutionName",
    "series_description": "SeriesDescription",
    "protocol_name": "ProtocolName",
    "manufacturer": "Manufacturer",
    "manufacturer_model_name": "ManufacturerModelName",
}


def read_header(path: Path, *, content_sha256: str = "") -> InstanceHeader:
    """Read the facts of a stored instance, up to its pixels.

    Parameters
    ----------
    path
        A DICOM file (PS3.10).
    content_sha256
        Digest of the file's bytes, if the caller knows it.

    Raises
    ------
    RefusedError
        NOT_DICOM for anything that is no DICOM file, NOT_CT for a DICOMDIR,
        UNSUPPORTED_TRANSFER_SYNTAX for a deflated data set (a small file may inflate without
        bound), TOO_LARGE for one beyond `structure.Ceilings` or `frames.MOST_FRAMES`,
        MISSING_ATTRIBUTES where an identifying UID is absent.
    """
    dataset, extent, _ = read_dataset(path)
    # One that breaks off may have lost its image attributes along with its image.
    is_image = "Rows" in dataset or attributes.uid(dataset, "SOPClassUID") in CT_SOP_CLASSES
    return InstanceHeader.from_dataset(
        dataset,
        pixel_data_complete=(extent is not None and extent.complete) if is_image else None,
        content_sha256=content_sha256,
    )


def read_dataset(path: Path) -> tuple[Dataset, PixelDataExtent | None, Structure]:
    """Read a data set up to its pixels, find where in the file these lie, and tell its bounds.

    Of a file that breaks off before its pixels, the elements before the break are read.

    Raises
    ------
    RefusedError
        As `read_header`.
    OSError
        If the file cannot be read at all: that says nothing about what it holds.
    """
    with _parsing(path), path.open("rb") as file:
        meta, begins = read_file_meta(file)
        syntax = attributes.uid(meta, "TransferSyntaxUID")
        if attributes.uid(meta, "MediaStorageSOPClassUID") == MediaStorageDirectoryStorage:
            raise RefusedError(Reason.NOT_CT, f"{path.name} is a DICOMDIR, an index without images")
        if syntax == DeflatedExplicitVRLittleEndian:
            raise RefusedError(
                Reason.UNSUPPORTED_TRANSFER_SYNTAX, f"{path.name} is a deflated data set"
            )
        file.seek(begins)
        structure = survey(
            file,
            implicit=_is_implicit(file.peek(6)[4:6]),
            big_endian=syntax == ExplicitVRBigEndian,
        )
        file.seek(0)
        # Lengths that lead beyond the end of a file are memory asked for in vain.
        source = file if structure.whole else BytesIO(file.read(structure.end))
        dataset = dcmread(source, stop_before_pixels=True)
        file.seek(structure.end)
        return dataset, locate_pixel_data(file, dataset), structure


def read_file_meta(file: BinaryIO) -> tuple[Dataset, int]:
    """Read the File Meta Information (PS3.10 section 7.1), and tell where it ends."""
    head = BytesIO(file.read(_LONGEST_FILE_META))
    read_preamble(head, force=False)
    meta = filereader.read_dataset(
        head,
        is_implicit_VR=False,
        is_little_endian=True,
        stop_when=lambda tag, _vr, _length: tag.group != 2,
    )
    return meta, head.tell()


def _is_implicit(vr: bytes) -> bool:
    """Tell whether the first element has no VR, by pydicom's rule; senders name a wrong syntax."""
    return not (vr.isalpha() and vr.isupper())


@contextmanager
def _parsing(path: Path) -> Iterator[None]:
    """Turn whatever pydicom raises on damaged content into a refusal."""
    try:
        yield
    except (RefusedError, MemoryError):
        raise
    except Exception as error:
        if is_from_system(error):
            raise
        detail = f"{path.name} cannot be parsed as DICOM ({type(error).__name__})"
        raise RefusedError(Reason.NOT_DICOM, detail) from error


def _plain(found: Any) -> Any:  # noqa: ANN401
    if isinstance(found, dict):
        return {name: _plain(item) for name, item in found.items()}
    return [_plain(item) for item in found] if isinstance(found, tuple) else found


def _frozen(found: Any) -> Any:  # noqa: ANN401
    return tuple(found) if isinstance(found, list) else found
