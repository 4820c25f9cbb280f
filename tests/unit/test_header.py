"""What is kept of an instance, whatever its sender wrote."""

from __future__ import annotations

import json

import pytest
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian

from dicom_node.errors import RefusedError
from dicom_node.reading.frames import MOST_FRAMES
from dicom_node.reading.header import InstanceHeader, read_header
from dicom_node.reasons import Reason


def minimal() -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = CTImageStorage
    dataset.SOPInstanceUID = "1.2.3.4.5"
    dataset.StudyInstanceUID = "1.2.3"
    dataset.SeriesInstanceUID = "1.2.3.4"
    return dataset


def test_four_uids_are_enough():
    header = InstanceHeader.from_dataset(minimal())
    assert header.modality == ""
    assert header.patient_name == ""
    assert header.rows is None
    assert header.frames[0].position is None
    assert header.pixel_data_complete is None


@pytest.mark.parametrize(
    "keyword", ["SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"]
)
@pytest.mark.parametrize("value", [None, "", "../../etc/passwd"])
@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
def test_an_instance_without_identity_is_refused(keyword, value):
    dataset = minimal()
    if value is None:
        del dataset[keyword]
    else:
        setattr(dataset, keyword, value)
    with pytest.raises(RefusedError) as refused:
        InstanceHeader.from_dataset(dataset)
    assert refused.value.reason is Reason.MISSING_ATTRIBUTES
    assert keyword in refused.value.detail


def written(tmp_path, dataset, **raw):
    """Write a data set whose text elements hold the given bytes, as careless senders do."""
    path = tmp_path / "instance.dcm"
    for keyword in raw:
        setattr(dataset, keyword, "1\\2\\3" if keyword == "ImagePositionPatient" else "1")
    dataset.save_as(path, enforce_file_format=True)
    content = path.read_bytes()
    for keyword, value in raw.items():
        old = dataset[keyword]
        tag = old.tag.group.to_bytes(2, "little") + old.tag.element.to_bytes(2, "little")
        start = content.index(tag + old.VR.encode())
        length = int.from_bytes(content[start + 6 : start + 8], "little")
        padded = value + b" " * (len(value) % 2)
        content = (
            content[: start + 6]
            + len(padded).to_bytes(2, "little")
            + padded
            + content[start + 8 + length :]
        )
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"006.445312e-01", 0.6445312),
        (b" 2.5", 2.5),
        (b"001.000000E+00", 1.0),
        (b"2,5", None),
        (b"n/a", None),
        (b"nan", None),
        (b"1\\2", None),
        (b"", None),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_odd_decimal_strings(tmp_path, raw, expected):
    header = read_header(written(tmp_path, minimal(), SliceThickness=raw))
    assert header.frames[0].slice_thickness == expected


def test_odd_values_are_not_repeated_in_warnings(tmp_path, recwarn):
    dataset = minimal()
    path = written(tmp_path, dataset, PatientBirthDate=b"DOE^JANE", PatientID=b"X" * 99)
    read_header(path)
    assert [str(w.message) for w in recwarn if "DOE" in str(w.message)] == []


@pytest.mark.filterwarnings("ignore")
def test_a_bad_character_set_does_not_stop_the_reading(tmp_path):
    path = written(
        tmp_path, minimal(), SpecificCharacterSet=b"ISO_IR 999", PatientName=b"M\xfcller^\xff"
    )
    assert read_header(path).patient_name.startswith("M")


@pytest.mark.parametrize(("sop_class", "refused"), [(EnhancedCTImageStorage, True), ("1.2", False)])
def test_frames_without_end_are_refused_unread_and_those_of_other_objects_not_asked_for(
    sop_class, refused
):
    dataset = minimal()
    dataset.SOPClassUID = sop_class
    dataset.PerFrameFunctionalGroupsSequence = [Dataset()] * (MOST_FRAMES + 1)
    if not refused:
        assert InstanceHeader.from_dataset(dataset).frames == ()
        return
    with pytest.raises(RefusedError) as refusal:
        InstanceHeader.from_dataset(dataset)
    assert refusal.value.reason == "too_large"


def test_json_round_trip():
    dataset = minimal()
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.PatientName = "Müller^Änne"
    dataset.ImagePositionPatient = [1.5, 2, -3]
    dataset.PixelSpacing = [0.7, 0.7]
    dataset.Rows, dataset.Columns = 512, 512
    header = InstanceHeader.from_dataset(dataset, pixel_data_complete=True, content_sha256="ab")
    assert InstanceHeader.from_json(json.loads(json.dumps(header.to_json()))) == header


@pytest.mark.parametrize("content", [b"", b"just text", b"\0" * 128 + b"DICM", b"DICM" * 99])
def test_what_is_no_dicom_file_is_refused(tmp_path, content):
    path = tmp_path / "posing.dcm"
    path.write_bytes(content)
    with pytest.raises(RefusedError) as refused:
        read_header(path)
    assert refused.value.reason in {Reason.NOT_DICOM, Reason.MISSING_ATTRIBUTES}
    assert str(tmp_path) not in refused.value.detail


def test_a_file_that_cannot_be_opened_is_no_refusal(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_header(tmp_path / "absent.dcm")
