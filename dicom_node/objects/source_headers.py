"""What the result objects take over from the source: tolerant of gaps, strict in what it gives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydicom import Dataset
from pydicom.uid import UID, CTImageStorage
from pydicom.valuerep import DSfloat

from dicom_node.objects.provenance import UUID_ROOT, uid_from_name
from dicom_node.reading import attributes
from dicom_node.reading.frames import frames_of
from dicom_node.reading.source_values import copy_valid

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from dicom_node.reading.ct_series import CtSeries

# Patient and study attributes (PS3.3 C.7.1.1, C.7.2.1, C.7.2.2), each with whether an object must
# carry it even when the source does not (type 2).
_TYPE_2 = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "ReferringPhysicianName",
    "StudyID",
    "StudyDate",
    "StudyTime",
)
_OPTIONAL = (
    "IssuerOfPatientID",
    "OtherPatientIDs",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
    "LongitudinalTemporalInformationModified",
    "StudyDescription",
    "ProcedureCodeSequence",
)
_EQUIPMENT = (
    "Manufacturer",
    "ManufacturerModelName",
    "SoftwareVersions",
    "DeviceSerialNumber",
    "StationName",
)
_LOSSY = ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod")
_STAND_IN_ROOT = "2.25."
_ENUMERATED = {
    "PatientSex": {"M", "F", "O"},
    "PatientIdentityRemoved": {"YES", "NO"},
    "LongitudinalTemporalInformationModified": {"UNMODIFIED", "MODIFIED", "REMOVED"},
}


def study_attributes(series: CtSeries) -> Dataset:
    """Patient and study attributes of a series, as the result objects carry them.

    Parameters
    ----------
    series
        The source series.

    Returns
    -------
    Dataset
        A new data set: all type 2 attributes present (empty where the source has none), values
        as `source_values.copy_valid` makes them.
    """
    source = series.sources[0]
    copied = Dataset()
    copy_valid(source, copied, (*_TYPE_2, *_OPTIONAL))
    for keyword, terms in _ENUMERATED.items():
        if copied.get(keyword) not in terms:
            copied.pop(keyword, None)
    methods = ("DeidentificationMethod", "DeidentificationMethodCodeSequence")
    if copied.get("PatientIdentityRemoved") == "YES" and not any(k in copied for k in methods):
        # One of them is required then (PS3.3 section C.7.1.1).
        copied.DeidentificationMethod = "Not told by the source"
    for keyword in _TYPE_2:
        if keyword not in copied:
            setattr(copied, keyword, "")
    return copied


def evidence_header(series: CtSeries) -> Dataset:
    """Header that highdicom's constructors take UIDs and acquisition equipment from.

    Patient and study are blank in it, since highdicom is stricter than senders are:
    `common_attributes.write_common_attributes` writes them from `study_attributes`.
    """
    source = series.sources[0]
    header = Dataset()
    header.SOPClassUID = CTImageStorage
    header.StudyInstanceUID = source.StudyInstanceUID
    header.SeriesInstanceUID = source.SeriesInstanceUID
    header.Modality = "CT"
    for keyword in _TYPE_2:
        setattr(header, keyword, None)
    copy_valid(source, header, (*_EQUIPMENT, *_LOSSY))
    return header


def slice_headers(series: CtSeries) -> list[Dataset]:
    """One single-frame CT header for each slice of the volume, in its order.

    Multi-frame sources are taken apart. All slices share one frame of reference, see
    `frame_of_reference_uid`. The SOP Instance UID of a slice is a stand-in that `slice_index`
    reads; true references are written from `CtSeries.slices`.

    Parameters
    ----------
    series
        The source series.

    Returns
    -------
    list of Dataset
        Headers as `evidence_header` gives them, with geometry (PS3.3 C.7.6.2) from the checked
        volume; positions are the source's.
    """
    shared = evidence_header(series)
    _add_shared_geometry(series, shared)
    headers = []
    for index, position in enumerate(_slice_positions(series)):
        header = Dataset()
        header.update(shared)
        header.SOPInstanceUID = f"{_STAND_IN_ROOT}{index}"
        header.ImagePositionPatient = position
        headers.append(header)
    return headers


def slice_index(stand_in_uid: str) -> int:
    """Index of the slice that a stand-in SOP Instance UID of `slice_headers` belongs to."""
    return int(stand_in_uid.removeprefix(_STAND_IN_ROOT))


def frame_of_reference_uid(series: CtSeries) -> str:
    """Choose the one frame of reference all slices of a series are put into: the first slice's.

    Where the series has none, or one that is no UID, one is derived from the series' UID. Series
    with another frame of reference for each slice:
    docs/decisions/0003-frame-of-reference-per-slice.md.
    """
    uid = UID(attributes.uid(series.sources[0], "FrameOfReferenceUID"))
    if uid.is_valid:
        return str(uid)
    return uid_from_name(UUID_ROOT, (series.series_instance_uid, "frame of reference"))


def _add_shared_geometry(series: CtSeries, header: Dataset) -> None:
    affine = series.volume.affine
    slice_spacing, row_spacing, column_spacing = series.volume.spacing_mm
    thickness = frames_of(series.sources[0])[0].slice_thickness or slice_spacing
    header.FrameOfReferenceUID = frame_of_reference_uid(series)
    header.PositionReferenceIndicator = ""
    header.Rows, header.Columns = series.volume.shape[1:]
    header.ImageOrientationPatient = _decimals(
        [*(affine[:3, 2] / column_spacing), *(affine[:3, 1] / row_spacing)]
    )
    header.PixelSpacing = _decimals([row_spacing, column_spacing])
    (header.SliceThickness,) = _decimals([thickness])
    (header.SpacingBetweenSlices,) = _decimals([slice_spacing])


def _slice_positions(series: CtSeries) -> Iterator[list[DSfloat]]:
    """Give the position of each slice: the source's own, for multi-frame that of the volume."""
    affine = series.volume.affine
    single_frame = series.slices[0].frame_number is None
    for index in range(len(series.slices)):
        own = frames_of(series.sources[index])[0].position if single_frame else None
        yield _decimals(own or affine[:3] @ (index, 0, 0, 1))


def _decimals(values: Iterable[float]) -> list[DSfloat]:
    return [DSfloat(float(value), auto_format=True) for value in values]
