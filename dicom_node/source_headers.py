"""What the result objects take over from the source: tolerant of gaps, strict in what it gives."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from pydicom import Dataset
from pydicom.config import RAISE
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.multival import MultiValue
from pydicom.uid import CTImageStorage
from pydicom.valuerep import DSfloat, validate_value

from dicom_node.provenance import UUID_ROOT, uid_from_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from dicom_node.ct_series import CtSeries

_log = logging.getLogger(__name__)

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
# Values with a closed form; one that breaks it is left out. Names and identifiers are never
# touched: the result must be filed with its patient, however the source spells that.
_STRICT_VRS = frozenset({"DA", "TM", "AS", "DS", "CS"})
_STAND_IN_ROOT = "2.25."
_SEXES = frozenset({"M", "F", "O"})


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
        that break their VR left out, the source's character set for its texts.
    """
    source = series.sources[0]
    attributes = Dataset()
    _copy_valid(source, attributes, ("SpecificCharacterSet", *_TYPE_2, *_OPTIONAL))
    if attributes.get("PatientSex") not in _SEXES:
        attributes.pop("PatientSex", None)
    for keyword in _TYPE_2:
        if keyword not in attributes:
            setattr(attributes, keyword, "")
    return attributes


def evidence_header(series: CtSeries) -> Dataset:
    """Header that highdicom's constructors take UIDs and acquisition equipment from.

    Patient and study are blank in it: `object_identity.settle` writes them from
    `study_attributes`, so that no odd spelling of a name or a date in the source stops a result.
    """
    source = series.sources[0]
    header = Dataset()
    header.SOPClassUID = CTImageStorage
    header.StudyInstanceUID = source.StudyInstanceUID
    header.SeriesInstanceUID = source.SeriesInstanceUID
    header.Modality = "CT"
    for keyword in _TYPE_2:
        setattr(header, keyword, None)
    _copy_valid(source, header, (*_EQUIPMENT, *_LOSSY))
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
        Headers as `evidence_header` gives them, with geometry (PS3.3 C.7.6.2); positions as in
        the source.
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

    Where the series has none, one is derived from its UID. Series with another frame of reference
    for each slice: docs/decisions/0003-frame-of-reference-per-slice.md.
    """
    uid = series.sources[0].get("FrameOfReferenceUID")
    return str(uid or uid_from_name(UUID_ROOT, (series.series_instance_uid, "frame of reference")))


def _add_shared_geometry(series: CtSeries, header: Dataset) -> None:
    source = series.sources[0]
    affine = series.volume.affine
    slice_spacing, row_spacing, column_spacing = series.volume.spacing_mm
    header.FrameOfReferenceUID = frame_of_reference_uid(series)
    header.PositionReferenceIndicator = ""
    header.Rows, header.Columns = series.volume.shape[1:]
    header.ImageOrientationPatient = source.get("ImageOrientationPatient") or _decimals(
        [*(affine[:3, 2] / column_spacing), *(affine[:3, 1] / row_spacing)]
    )
    header.PixelSpacing = source.get("PixelSpacing") or _decimals([row_spacing, column_spacing])
    header.SliceThickness = source.get("SliceThickness") or _decimals([slice_spacing])[0]
    header.SpacingBetweenSlices = _decimals([slice_spacing])[0]


def _slice_positions(series: CtSeries) -> list[Sequence[DSfloat]]:
    if series.slices[0].frame_number is None:
        return [source.ImagePositionPatient for source in series.sources]
    affine = series.volume.affine
    return [_decimals(affine[:3] @ (index, 0, 0, 1)) for index in range(len(series.slices))]


def _decimals(values: Iterable[float]) -> list[DSfloat]:
    return [DSfloat(float(value), auto_format=True) for value in values]


def _copy_valid(source: Dataset, header: Dataset, keywords: Iterable[str]) -> None:
    for keyword in keywords:
        if keyword not in source:
            continue
        element = _with_standard_vr(source[keyword])
        if not _is_valid(element):
            _log.warning("%s of the source breaks its VR and is left out", keyword)
            continue
        header[element.tag] = element


def _with_standard_vr(element: DataElement) -> DataElement:
    vr = dictionary_VR(element.tag)
    return element if vr == element.VR else DataElement(element.tag, vr, element.value)


def _is_valid(element: DataElement) -> bool:
    if isinstance(element.value, bytes):
        return False
    if element.VR not in _STRICT_VRS:
        return True
    values = element.value if isinstance(element.value, MultiValue) else [element.value]
    try:
        for value in values:
            validate_value(element.VR, str(value or ""), RAISE)
    except ValueError:
        return False
    return True
