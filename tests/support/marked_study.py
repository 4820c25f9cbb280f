"""A chest CT with a mark in every attribute that can hold text, however deep it lies."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pydicom import Dataset, dcmread
from pydicom.datadict import DicomDictionary
from pydicom.dataelem import DataElement
from pydicom.sequence import Sequence
from pydicom.uid import generate_uid
from support.small_ct import write_small_ct

if TYPE_CHECKING:
    from pathlib import Path

    from model.volume import CtVolume

# Letters and digits that nothing else in a system is likely to write.
MARK = "ZZQ9"
_DIGITS = "7713177"
MARKS = re.compile(rf"{MARK}|{_DIGITS}|17713177", re.IGNORECASE)

# A mark of the form each value representation asks for (PS3.5 section 6.2).
_MARKED = {
    "AE": f"{MARK}AE",
    "AS": "771Y",
    "CS": f"{MARK}_CODE",
    "DA": "17713177",
    "DS": f"{_DIGITS}.5",
    "DT": f"17711231{_DIGITS[:4]}",
    "IS": _DIGITS,
    "LO": f"{MARK} long string",
    "LT": f"{MARK} long text\nof two lines",
    "PN": f"{MARK}^Given^Middle^Dr^={MARK}^Ideographic={MARK}^Phonetic",
    "SH": f"{MARK} short",
    "ST": f"{MARK} short text",
    "TM": f"{_DIGITS[:6]}",
    "UC": f"{MARK} unlimited characters",
    "UI": f"1.2.{_DIGITS}.1",
    "UN": f"{MARK} unknown".encode(),
    "UR": f"https://{MARK}.example/{_DIGITS}",
    "UT": f"{MARK} unlimited text",
}
# Text that decides whether and how a series is read; and numbers, dates and UIDs of the standard,
# which would be wrong with a mark: these go into private attributes and the patient's.
_KEPT = {
    *("SpecificCharacterSet", "ImageType", "Modality", "PatientPosition", "RescaleType"),
    *("PhotometricInterpretation", "BodyPartExamined", "LossyImageCompression", "FrameType"),
    *("PixelPresentation", "VolumetricProperties", "ConversionType", "QueryRetrieveLevel"),
    *("InstanceAvailability", "SOPInstanceStatus", "BurnedInAnnotation"),
}
_FREE_TEXT = {"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"}
_PERSONAL = {
    "PatientBirthDate": "DA",
    "PatientBirthTime": "TM",
    "PatientAge": "AS",
    "LastMenstrualDate": "DA",
    "ScheduledStudyStartDate": "DA",
    "IssueDateOfImagingServiceRequest": "DA",
}
_SEQUENCES = (
    "RequestAttributesSequence",
    "OtherPatientIDsSequence",
    "ReferencedPatientSequence",
    "PatientBreedCodeSequence",
    "PerformedProtocolCodeSequence",
)


def write_marked_study(folder: Path, volume: CtVolume | None = None) -> tuple[str, list[Path]]:
    """Write a marked study; give its Study Instance UID and its files."""
    paths = write_small_ct(folder, volume=volume)
    marked = Dataset()
    mark(marked)
    study_uid, series_uid = generate_uid(), generate_uid()
    for path in paths:
        dataset = dcmread(path)
        dataset.update(marked)
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study_uid, series_uid
        dataset.SOPInstanceUID = generate_uid()
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.save_as(path)
    return study_uid, paths


def mark(dataset: Dataset) -> None:
    """Put a mark into every text attribute of the dictionary, private ones and sequences."""
    for tag, (vr, multiplicity, _, retired, keyword) in DicomDictionary.items():
        if (
            vr in _FREE_TEXT
            and keyword not in _KEPT
            and not retired
            and multiplicity.startswith("1")
            and tag >> 16 > 0x0002
        ):
            dataset.add_new(tag, vr, _MARKED[vr])
    for keyword, vr in _PERSONAL.items():
        setattr(dataset, keyword, _MARKED[vr])
    for depth, keyword in enumerate(_SEQUENCES, start=1):
        setattr(dataset, keyword, Sequence([_nested(depth)]))
    block = dataset.private_block(0x0011, f"{MARK} PRIVATE", create=True)
    for offset, (vr, value) in enumerate(_MARKED.items(), start=1):
        block.add_new(offset, vr, value)
    block.add_new(0x80, "SQ", Sequence([_nested(3)]))
    # What breaks the rules of its value representation is what libraries complain of, with words.
    dataset.add_new(0x00101040, "LO", f"{MARK} {'too long ' * 12}")
    dataset.add(DataElement(0x00102180, "SH", f"{MARK} too long for SH", validation_mode=0))
    dataset.add(DataElement(0x00101030, "DS", "", validation_mode=0))


def _nested(depth: int) -> Dataset:
    item = Dataset()
    item.CodeMeaning = f"{MARK} meaning {depth}"
    item.PatientName = _MARKED["PN"]
    item.PatientID = f"{MARK}-{depth}"
    if depth > 1:
        item.ScheduledProtocolCodeSequence = Sequence([_nested(depth - 1)])
    return item
