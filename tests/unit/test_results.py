"""The objects of a result together."""

import hashlib
import os
import subprocess
import sys
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import (
    Comprehensive3DSRStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)
from support.synthetic_result import TINY_LESIONS, context_of, predict, tiny_series

from dicom_node.objects.provenance import is_own_result
from dicom_node.objects.results import encode_result
from dicom_node.objects.summary_page import render_overlay
from dicom_node.reading.header import InstanceHeader

_TESTS = Path(__file__).resolve().parents[1]


def encode(series, lesions=TINY_LESIONS, **changes):
    return encode_result(series, predict(series, lesions), context_of(series, **changes))


def digest_of_a_result():
    return hashlib.sha256(b"".join(part.data for part in encode(tiny_series()))).hexdigest()


def test_objects_come_in_the_order_of_delivery():
    result = encode(tiny_series())

    assert [(part.kind, part.sop_class_uid) for part in result] == [
        ("seg", SegmentationStorage),
        ("summary", SecondaryCaptureImageStorage),
        ("sr", Comprehensive3DSRStorage),
    ]
    for part in result:
        dataset = dcmread(BytesIO(part.data))
        assert dataset.SOPInstanceUID == part.sop_instance_uid
        assert dataset.SeriesInstanceUID == part.series_instance_uid
        assert dataset.file_meta.MediaStorageSOPInstanceUID == part.sop_instance_uid
    assert len({part.series_instance_uid for part in result}) == 3


def test_without_a_lesion_there_is_no_segmentation():
    assert [part.kind for part in encode(tiny_series(), lesions=())] == ["summary", "sr"]


def test_encoding_again_gives_the_same_bytes():
    assert encode(tiny_series()) == encode(tiny_series())


def test_another_process_gives_the_same_bytes():
    script = "from unit.test_results import digest_of_a_result; print(digest_of_a_result())"
    environment = {
        **os.environ,
        "PYTHONHASHSEED": "4711",
        "PYTHONPATH": os.pathsep.join([str(_TESTS), str(_TESTS.parent)]),
    }
    other = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )

    assert other.stdout.strip() == digest_of_a_result()


def test_encoding_leaves_the_source_as_it_was():
    series = tiny_series()
    before = [source.to_json() for source in series.sources]
    encode(series)

    assert [source.to_json() for source in series.sources] == before


def test_every_object_is_recognised_when_it_comes_back():
    for part in encode(tiny_series()):
        assert is_own_result(InstanceHeader.from_dataset(dcmread(BytesIO(part.data))))


def test_the_summary_shows_the_page_and_no_patient():
    series = tiny_series()
    summary = dcmread(BytesIO(encode(series)[1].data))

    assert np.array_equal(
        summary.pixel_array, render_overlay(series, predict(series, TINY_LESIONS))
    )
    assert summary.BurnedInAnnotation == "NO"
    assert summary.ImageType[:2] == ["DERIVED", "SECONDARY"]
    assert len(summary.SourceImageSequence) > 0


@pytest.mark.parametrize("keyword", ["PatientName", "PatientID", "StudyDate"])
def test_no_identity_is_burnt_into_the_page(keyword):
    series = tiny_series()
    plain = render_overlay(series, predict(series, TINY_LESIONS))
    setattr(series.sources[0], keyword, "20200101")

    assert np.array_equal(plain, render_overlay(series, predict(series, TINY_LESIONS)))


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_texts_keep_to_their_length(kind):
    dataset = dcmread(BytesIO(encode(tiny_series())[kind].data))

    assert len(dataset.SeriesDescription) <= 64
    assert dataset.Manufacturer == "Lungwatch"
    assert dataset.SeriesNumber > 0
