"""What of a source's texts and codes enters the result objects, and in which form."""

from io import BytesIO

import pytest
from pydicom import Dataset, dcmread
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag
from support.synthetic_result import TINY_LESIONS, context_of, predict, tiny_series

from dicom_node.objects.provenance import Equipment
from dicom_node.objects.results import encode_result
from dicom_node.objects.source_headers import study_attributes


def as_received(keyword: str, value: bytes) -> RawDataElement:
    """An element as it stands in a file, its bytes not yet decoded."""
    return RawDataElement(
        Tag(tag_for_keyword(keyword)),
        dictionary_VR(keyword),
        len(value),
        value,
        0,
        is_implicit_VR=False,
        is_little_endian=True,
    )


def copied(
    character_set: str | list[str] | None = None, **values: bytes | list[Dataset]
) -> Dataset:
    series = tiny_series()
    (source, *_) = series.sources
    if character_set is not None:
        source.SpecificCharacterSet = character_set
    for keyword, value in values.items():
        if isinstance(value, bytes):
            source[tag_for_keyword(keyword)] = as_received(keyword, value)
        else:
            setattr(source, keyword, value)
    return study_attributes(series)


def code(**values: str) -> Dataset:
    item = Dataset()
    for keyword, value in values.items():
        setattr(item, keyword, value)
    return item


@pytest.mark.parametrize(
    ("character_set", "encoded", "name"),
    [
        (None, b"Muster^Erika", "Muster^Erika"),
        ("ISO_IR 100", "Müller^Zoë".encode("latin-1"), "Müller^Zoë"),
        ("ISO_IR 144", "Иванов^Иван".encode("iso8859-5"), "Иванов^Иван"),
        ("ISO_IR 192", "Müller^Иван".encode(), "Müller^Иван"),
        ("GB18030", "王^小东".encode("gb18030"), "王^小东"),
        (
            ["", "ISO 2022 IR 87"],
            b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B",
            "Yamada^Tarou=山田^太郎",
        ),
        ("ISO_IR_100", "Müller".encode("latin-1"), "Müller"),
        ("NO SUCH SET", b"Muster^Erika", "Muster^Erika"),
    ],
)
def test_names_are_decoded_from_the_character_set_of_the_source(character_set, encoded, name):
    assert copied(character_set, PatientName=encoded).PatientName == name


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("character_set", [None, "NO SUCH SET", "ISO_IR 192", "ISO 2022 IR 87"])
def test_bytes_that_break_the_character_set_cost_characters_not_the_name(character_set):
    name = str(copied(character_set, PatientName=b"Muster^Erika\xff\xfe").PatientName)

    assert name.startswith("Muster^Erika")
    assert name.encode()


@pytest.mark.parametrize("institution", ["Hôpital Zürich", "Больница № 3", "東京病院"])
def test_names_of_source_and_institution_arrive_together(institution):
    series = tiny_series()
    (source, *_) = series.sources
    source.SpecificCharacterSet = "ISO_IR 144"
    source["PatientName"] = as_received("PatientName", "Иванов".encode("iso8859-5"))
    equipment = Equipment("0.1.0", station_name="Röntgen 1", institution_name=institution)
    result = encode_result(
        series, predict(series, TINY_LESIONS), context_of(series, equipment=equipment)
    )

    for part in result:
        dataset = dcmread(BytesIO(part.data))
        assert dataset.SpecificCharacterSet == "ISO_IR 192"
        assert dataset.PatientName == "Иванов"
        assert dataset.InstitutionName == institution
        stations = [item.get("StationName") for item in dataset.ContributingEquipmentSequence]
        assert "Röntgen 1" in stations


@pytest.mark.parametrize(
    ("keyword", "given", "kept"),
    [
        ("PatientID", b"7" * 80, "7" * 64),
        ("AccessionNumber", b"A" * 40, "A" * 16),
        ("PatientID", b"4711\\4712", "4711/4712"),
        ("StudyDescription", b"Thorax\0\r\n low dose", "Thorax low dose"),
        ("PatientName", b"a^b^c^d^e^f^g=x=y=z", "a^b^c^d^e f g=x=y"),
        ("PatientName", b"b" * 70 + b"=", "b" * 64),
        ("OtherPatientIDs", b"1\\2", ["1", "2"]),
        ("StudyDate", b"2020.01.02", ""),
        ("PatientSex", b"U ", ""),
        ("StudyID", b"", ""),
    ],
)
def test_values_are_made_valid_or_left_empty(keyword, given, kept):
    assert copied(**{keyword: given})[keyword].value == kept


@pytest.mark.parametrize(
    ("keyword", "given"),
    [
        ("PatientAge", b"45"),
        ("PatientSize", b"1.7500000000000000000001"),
        ("PatientIdentityRemoved", b"PERHAPS "),
        ("ProcedureCodeSequence", [Dataset()]),
        ("ProcedureCodeSequence", [code(CodeValue="1", CodeMeaning="Chest")]),
        ("DeidentificationMethodCodeSequence", [Dataset()]),
        (
            "ProcedureCodeSequence",
            [code(CodeValue="X" * 17, CodingSchemeDesignator="99X", CodeMeaning="Chest")],
        ),
    ],
)
def test_values_that_say_nothing_valid_are_left_out(keyword, given):
    assert keyword not in copied(**{keyword: given})


def test_whole_codes_are_kept_among_broken_ones():
    whole = code(CodeValue="24627-2", CodingSchemeDesignator="LN", CodeMeaning="CT Chest")

    assert list(copied(ProcedureCodeSequence=[Dataset(), whole]).ProcedureCodeSequence) == [whole]


def test_a_removed_identity_keeps_saying_how_even_if_the_source_does_not():
    attributes = copied(
        PatientIdentityRemoved=b"YES ", DeidentificationMethodCodeSequence=[Dataset()]
    )

    assert attributes.DeidentificationMethod == "Not told by the source"
