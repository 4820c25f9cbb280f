"""Segmentations of small series, read back with pydicom."""

from datetime import UTC, datetime

import numpy as np
import pytest
from pydicom.dataelem import RawDataElement
from pydicom.pixels import pixel_array
from pydicom.tag import Tag
from pydicom.uid import UID, ExplicitVRLittleEndian, SegmentationStorage
from support.synthetic_result import TINY_LESIONS, context_of, predict, tiny_series

from dicom_node.objects.segmentation import encode_segmentation
from dicom_node.objects.source_headers import frame_of_reference_uid


def encode(series, lesions=TINY_LESIONS, **changes):
    return encode_segmentation(series, predict(series, lesions), context_of(series, **changes))


def frames_of(segmentation):
    """Segment number, source item and voxels of each frame."""
    for item, voxels in zip(
        segmentation.PerFrameFunctionalGroupsSequence, pixel_array(segmentation), strict=True
    ):
        number = item.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        yield number, item.DerivationImageSequence[0].SourceImageSequence[0], voxels


def test_no_lesion_makes_no_segmentation():
    assert encode(tiny_series(), lesions=()) is None


@pytest.mark.parametrize("multi_frame", [False, True])
def test_each_frame_refers_to_the_slice_its_voxels_come_from(multi_frame):
    series = tiny_series(multi_frame=multi_frame)
    labels = predict(series, TINY_LESIONS).lesion_mask.labels
    found = np.zeros_like(labels)

    for number, source, voxels in frames_of(encode(series)):
        (index,) = (
            index
            for index, reference in enumerate(series.slices)
            if source.ReferencedSOPInstanceUID == reference.sop_instance_uid
            and source.get("ReferencedFrameNumber") == reference.frame_number
        )
        assert source.ReferencedSOPClassUID == series.slices[index].sop_class_uid
        found[index][voxels == 1] = number

    assert np.array_equal(found, labels)


def test_frames_without_lesion_are_omitted():
    segmentation = encode(tiny_series())

    assert all(voxels.any() for _, _, voxels in frames_of(segmentation))


@pytest.mark.parametrize("multi_frame", [False, True])
def test_frames_lie_where_their_slices_lie(multi_frame):
    series = tiny_series(multi_frame=multi_frame)
    segmentation = encode(series)
    positions = {
        tuple(item.PlanePositionSequence[0].ImagePositionPatient)
        for item in segmentation.PerFrameFunctionalGroupsSequence
    }
    shared = segmentation.SharedFunctionalGroupsSequence[0]

    expected = {tuple(series.volume.affine[:3] @ (index, 0, 0, 1)) for index in range(4, 9)}
    assert positions <= expected
    assert shared.PixelMeasuresSequence[0].PixelSpacing == [1.5, 1.25]
    assert shared.PlaneOrientationSequence[0].ImageOrientationPatient == [1, 0, 0, 0, 1, 0]


def test_segments_say_what_they_are_and_who_found_them():
    series = tiny_series()
    segmentation = encode(series)
    first, second = segmentation.SegmentSequence

    assert segmentation.SOPClassUID == SegmentationStorage
    assert segmentation.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert segmentation.SegmentationType == "BINARY"
    assert first.SegmentLabel == "Lesion 1, right lung"
    assert first.SegmentAlgorithmType == "AUTOMATIC"
    region = second.AnatomicRegionSequence[0]
    assert region.CodeMeaning == "Lung"
    assert region.AnatomicRegionModifierSequence[0].CodeMeaning == "Left"
    assert first.TrackingUID != second.TrackingUID
    assert first.RecommendedDisplayCIELabValue != second.RecommendedDisplayCIELabValue


def test_a_frame_of_reference_for_each_slice_becomes_one():
    series = tiny_series()
    for index, source in enumerate(series.sources):
        source.FrameOfReferenceUID = f"1.2.3.{500 + index}"

    assert encode(series).FrameOfReferenceUID == "1.2.3.500"
    assert series.sources[5].FrameOfReferenceUID == "1.2.3.505", "the source stays as it is"


def test_without_a_frame_of_reference_one_is_derived():
    series = tiny_series(multi_frame=True)

    assert encode(series).FrameOfReferenceUID == frame_of_reference_uid(series)
    assert frame_of_reference_uid(series).startswith("2.25.")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_odd_values_of_the_source_neither_stop_a_result_nor_enter_it():
    series = tiny_series()
    source = series.sources[0]
    source.PatientID = "MRN 4711 with a number longer than sixty-four characters, which some have"
    source.PatientName = "single"
    source.PatientBirthDate = "01.02.1960"
    source.PatientSex = "U"
    source.StudyTime = "noon"
    source.PatientAge = "sixty"

    segmentation = encode(series)

    assert segmentation.PatientID == source.PatientID[:64].strip()
    assert segmentation.PatientName == "single"
    for keyword in ("PatientBirthDate", "PatientSex", "StudyTime", "AccessionNumber", "StudyID"):
        assert segmentation[keyword].is_empty, keyword
    assert "PatientAge" not in segmentation
    assert source.PatientSex == "U", "the source stays as it is"


@pytest.mark.parametrize("spelling", ["abc ", "1.2500000000000000001 ", ""])
def test_geometry_is_written_anew_however_the_source_spells_it(spelling):
    series = tiny_series()
    for source in series.sources:
        for tag, text in ((0x00180050, spelling), (0x00280030, "0.150000000000000000e+01\\01.25")):
            source[tag] = RawDataElement(
                Tag(tag),
                "DS",
                len(text),
                text.encode(),
                0,
                is_implicit_VR=False,
                is_little_endian=True,
            )

    measures = encode(series).SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]

    assert measures.PixelSpacing == [1.5, 1.25]
    expected = {"1.2500000000000000001 ": 1.25}.get(spelling, 5.0)
    assert measures.SliceThickness == expected


def test_a_frame_of_reference_that_is_no_uid_is_replaced():
    series = tiny_series()
    for source in series.sources:
        source.FrameOfReferenceUID = "1.2.003.1"

    assert UID(encode(series).FrameOfReferenceUID).is_valid


def test_times_come_from_the_screening():
    moment = datetime(2020, 2, 29, 23, 59, 59, 500, tzinfo=UTC)
    segmentation = encode(tiny_series(), created_at=moment)

    assert str(segmentation.ContentDate) == str(segmentation.SeriesDate) == "20200229"
    assert str(segmentation.InstanceCreationTime) == "235959.000500"
    for item in segmentation.ContributingEquipmentSequence:
        assert str(item.ContributionDateTime) == "20200229235959.000500+0000"
