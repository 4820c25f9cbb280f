"""The bounds of data sets: those that pydicom sees in whole ones, and ceilings on the others."""

from __future__ import annotations

import struct
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset, dcmread
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence

from dicom_node.errors import RefusedError
from dicom_node.reading.structure import Ceilings, survey
from dicom_node.reasons import Reason


def element(tag: str, value: bytes, vr: str = "LO") -> bytes:
    return bytes.fromhex(tag) + vr.encode() + struct.pack("<H", len(value)) + value


def nested(depth: int, *, undefined: bool) -> bytes:
    content = element("08000401", b"leaf")
    for _ in range(depth):
        if undefined:
            content = (
                (bytes.fromhex("40007502") + b"SQ\0\0" + bytes.fromhex("fffffffffeff00e0ffffffff"))
                + content
                + bytes.fromhex("feff0de000000000feffdde000000000")
            )
        else:
            item = bytes.fromhex("feff00e0") + struct.pack("<I", len(content)) + content
            content = bytes.fromhex("40007502") + b"SQ\0\0" + struct.pack("<I", len(item)) + item
    return content


def walk(content: bytes, *, implicit: bool = False, **ceilings: int):
    return survey(BytesIO(content), implicit=implicit, ceilings=Ceilings(**ceilings))


@pytest.mark.parametrize("undefined", [True, False])
def test_sequences_end_where_they_say(undefined):
    content = nested(5, undefined=undefined) + element("10001000", b"name", "PN")
    assert walk(content)[:2] == (len(content), True)
    pixels = bytes.fromhex("e07f1000") + b"OW\0\0" + struct.pack("<I", 4) + b"1234"
    assert walk(content + pixels)[:2] == (len(content), True)


@pytest.mark.parametrize("undefined", [True, False])
def test_depth_has_a_ceiling(undefined):
    assert walk(nested(4, undefined=undefined), depth=4).whole
    with pytest.raises(RefusedError) as refused:
        walk(nested(5, undefined=undefined), depth=4)
    assert refused.value.reason is Reason.TOO_LARGE


def test_elements_and_bytes_have_ceilings():
    content = element("10001000", b"name") * 10
    assert walk(content, elements=10, value_bytes=40).whole
    for ceilings in ({"elements": 9}, {"value_bytes": 39}):
        with pytest.raises(RefusedError):
            walk(content, **ceilings)


@pytest.mark.parametrize(
    "length", [0xFFFFFFFE, 0x7FFFFFFF, 5], ids=["four GB", "two GB", "one byte more"]
)
def test_a_length_beyond_the_end_breaks_off_at_its_element(length):
    before = element("10001000", b"name")
    content = before + bytes.fromhex("09001010") + b"OB\0\0" + struct.pack("<I", length) + b"1234"
    assert walk(content)[:2] == (len(before), False)


def test_a_sequence_that_overruns_its_parent_ends_with_it():
    inner = bytes.fromhex("feff00e0") + struct.pack("<I", 999) + element("08000401", b"leaf")
    content = bytes.fromhex("40007502") + b"SQ\0\0" + struct.pack("<I", len(inner)) + inner
    content += element("10001000", b"name")
    assert walk(content)[:2] == (len(content), True)


def data_sets():
    leaves = st.builds(
        lambda words: make(PatientName=words, StudyID="1"), st.text("abc", max_size=9)
    )
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=3).map(
            lambda items: make(RequestAttributesSequence=Sequence(items), PatientID="x")
        ),
        max_leaves=8,
    )


def make(**values: object) -> Dataset:
    dataset = Dataset()
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    return dataset


@given(data_sets(), st.booleans(), st.booleans(), st.data())
def test_what_pydicom_writes_is_whole_and_its_beginnings_are_not(
    dataset, implicit, undefined, data
):
    for sequence in dataset.get("RequestAttributesSequence", ()):
        sequence.is_undefined_length_sequence_item = undefined
    content = encoded(dataset, implicit=implicit)
    assert walk(content, implicit=implicit)[:2] == (len(content), True)
    cut = data.draw(st.integers(0, len(content) - 1))
    end, whole, *_ = walk(content[:cut], implicit=implicit)
    assert end <= cut
    assert whole == (end == cut)
    # What lies before the break is what pydicom reads of it.
    before = dcmread(BytesIO(content[:end]), force=True) if end else Dataset()
    assert all(dataset[found.tag] == found for found in before)


def encoded(dataset: Dataset, *, implicit: bool) -> bytes:
    from pydicom.filebase import DicomBytesIO

    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = implicit, True
    write_dataset(buffer, dataset)
    return buffer.getvalue()


@given(st.binary(max_size=400), st.booleans())
def test_garbage_ends_somewhere(content, implicit):
    end, whole, *_ = walk(content, implicit=implicit)
    assert 0 <= end <= len(content)
    assert whole or end < len(content)
