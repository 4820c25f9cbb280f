"""Real series with lesions, judged by dicom3tools, dcmqi, DCMTK and PixelMed."""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag
from pydicom.uid import Comprehensive3DSRStorage
from support.judges import (
    dciodvfy_errors,
    dcmqi_groups,
    dcmqi_segments,
    dcmtk_complaints,
    pixelmed_verdict,
)
from support.synthetic_result import (
    ONE_LESION,
    THREE_LESIONS,
    TINY_LESIONS,
    Ellipsoid,
    context_of,
    predict,
    read_single_frame_series,
    tiny_series,
)

from dicom_node.objects.provenance import Equipment, PredecessorReport
from dicom_node.objects.results import encode_result
from dicom_node.objects.summary_page import render_overlay
from dicom_node.reading.ct_series import CtSeries
from dicom_node.reading.reader import read_ct_series
from model.prediction import Laterality, Prediction

SMALL_LESION = (Ellipsoid((0.5, 0.5, 0.4), (1.2, 6, 5), Laterality.LEFT),)
PREDECESSOR = PredecessorReport("1.2.3.1", "1.2.3.20", Comprehensive3DSRStorage, "1.2.3.21")


@dataclass(frozen=True, eq=False)
class WrittenResult:
    series: CtSeries
    prediction: Prediction
    files: dict[str, Path]


def write(folder: Path, series: CtSeries, lesions, *, probability=0.87, **changes) -> WrittenResult:
    prediction = predict(series, lesions, probability=probability)
    files = {}
    for part in encode_result(series, prediction, context_of(series, **changes)):
        files[part.kind] = folder / f"{part.kind}.dcm"
        files[part.kind].write_bytes(part.data)
    return WrittenResult(series, prediction, files)


@pytest.fixture(scope="module")
def philips(data_dir):
    return read_single_frame_series(data_dir / "series" / "lung_dx-A0001-s3")


@pytest.fixture(scope="module")
def lidc(data_dir):
    """A frame of reference of its own for each slice, and no study time."""
    return read_single_frame_series(data_dir / "series" / "lidc-idri-0001")


@pytest.fixture(scope="module")
def legacy_converted(data_dir):
    """One multi-frame instance with its three slices as frames."""
    folder = data_dir / "odd" / "enhanced-multiframe"
    return read_ct_series([folder / "legacy-converted-enhanced-ct.dcm"])


@pytest.fixture(scope="module")
def multi_frame():
    return tiny_series(multi_frame=True)


SPOILT = {
    "AccessionNumber": b"A" * 40,
    "FrameOfReferenceUID": b"abc\0",
    "Manufacturer": b"M" * 80,
    "PatientAge": b"45",
    "PatientID": b"4711\\" + b"7" * 80,
    "PatientName": "Müller^Jörg^^^^Dr.".encode("latin-1"),
    "PatientSex": b"U ",
    "PatientIdentityRemoved": b"YES ",
    "SliceThickness": b"abc ",
    "SoftwareVersions": b"a\\" + b"b" * 80,
    "StudyDate": b"2020.01.02",
    "StudyDescription": b"Thorax\r\nlow dose",
    "StudyTime": b"noon",
}


@pytest.fixture(scope="module")
def spoilt(data_dir, tmp_path_factory):
    """The real series as a careless sender would spell it."""
    folder = tmp_path_factory.mktemp("spoilt")
    for path in (data_dir / "series" / "lung_dx-A0001-s3").glob("*.dcm"):
        dataset = dcmread(path)
        dataset.pop("SpecificCharacterSet", None)
        for keyword in ("DeidentificationMethodCodeSequence", "ProcedureCodeSequence"):
            setattr(dataset, keyword, [Dataset()])
        dataset.pop("DeidentificationMethod", None)
        for keyword, value in SPOILT.items():
            vr, tag = dictionary_VR(keyword), Tag(tag_for_keyword(keyword))
            dataset[tag] = RawDataElement(
                tag, vr, len(value), value, 0, is_implicit_VR=False, is_little_endian=True
            )
        dataset.save_as(folder / path.name)
    return read_ct_series(sorted(folder.iterdir()))


ABROAD = Equipment("0.1.0", station_name="Röntgen 1", institution_name="Hôpital Zürich, Больница")

CASES = {
    "several lesions": ("philips", THREE_LESIONS, {}),
    "one lesion": ("philips", ONE_LESION, {}),
    "no lesion": ("philips", (), {"probability": 0.04}),
    "revision": ("philips", ONE_LESION, {"revision": 2, "predecessor": PREDECESSOR}),
    "lidc": ("lidc", THREE_LESIONS, {}),
    "legacy converted": ("legacy_converted", SMALL_LESION, {}),
    "multi-frame": ("multi_frame", TINY_LESIONS, {}),
    "spoilt": ("spoilt", ONE_LESION, {"equipment": ABROAD}),
}


@pytest.fixture(scope="module", params=CASES)
def result(request, tmp_path_factory):
    series, lesions, changes = CASES[request.param]
    folder = tmp_path_factory.mktemp(series)
    return write(folder, request.getfixturevalue(series), lesions, **changes)


def lesion_mask_of(segments, series: CtSeries) -> np.ndarray:
    """Put dcmqi's cropped segments back into the volume, by their position alone."""
    mask = np.zeros(series.volume.shape, np.uint8)
    to_index = np.linalg.inv(series.volume.affine)
    for number, segment in enumerate(segments, start=1):
        assert np.allclose(segment.spacing, series.volume.spacing_mm, atol=1e-3)
        corner = to_index @ [*segment.origin, 1]
        first = np.rint(corner[:3]).astype(int)
        assert np.allclose(corner[:3], first, atol=1e-2)
        place = tuple(slice(a, a + n) for a, n in zip(first, segment.voxels.shape, strict=True))
        mask[place][segment.voxels != 0] = number
    return mask


def test_dicom3tools_finds_no_error(result):
    errors = {kind: dciodvfy_errors(path) for kind, path in result.files.items()}

    assert errors == {kind: [] for kind in result.files}


def test_dcmqi_returns_exactly_our_voxels(result, tmp_path):
    if "seg" not in result.files:
        assert result.prediction.findings == ()
        return
    segments = dcmqi_segments(result.files["seg"], tmp_path)

    mask = lesion_mask_of(segments, result.series)
    assert np.array_equal(mask, result.prediction.lesion_mask.labels)


def test_dcmqi_returns_our_groups(result, tmp_path):
    groups = dcmqi_groups(result.files["sr"], tmp_path)
    study = groups[0]
    volumes = [
        float(item["value"])
        for group in groups[1:]
        for item in group["measurementItems"]
        if item["quantity"]["CodeMeaning"] == "Volume"
    ]

    assert study["TrackingIdentifier"] == "Lungwatch COVID-19 screening"
    values = {
        item["quantity"]["CodeMeaning"]: float(item["value"]) for item in study["measurementItems"]
    }
    probability = 100 * result.prediction.covid_probability
    assert values["Certainty of Finding"] == pytest.approx(probability)
    expected = [finding.volume_ml for finding in result.prediction.findings]
    assert volumes == pytest.approx(expected, abs=1e-3)


def test_dcmtk_reads_every_object(result, tmp_path):
    complaints = [
        *dcmtk_complaints("dsrdump", "-Ec", str(result.files["sr"])),
        *dcmtk_complaints("dsr2html", str(result.files["sr"]), str(tmp_path / "report.html")),
        *(
            line
            for path in result.files.values()
            for line in dcmtk_complaints("dcmdump", str(path))
        ),
    ]

    assert complaints == []


def test_dcmtk_shows_the_summary_as_it_was_drawn(result, tmp_path):
    png = tmp_path / "summary.png"
    assert dcmtk_complaints("dcmj2pnm", "+on", str(result.files["summary"]), str(png)) == []

    with Image.open(png) as image:
        shown = np.asarray(image.convert("RGB"))
    assert np.array_equal(shown, render_overlay(result.series, result.prediction))


@pytest.mark.parametrize("result", ["several lesions", "no lesion", "spoilt"], indirect=True)
def test_pixelmed_finds_a_valid_tid_1500(result):
    verdict = pixelmed_verdict(result.files["sr"])

    assert "TID_1500" in verdict.template
    assert verdict.errors == []


class TestBrokenObjects:
    """A judge that lets everything pass is none: each is shown what it has to catch."""

    @pytest.fixture
    def written(self, tmp_path) -> WrittenResult:
        return write(tmp_path, tiny_series(), TINY_LESIONS)

    @staticmethod
    def spoil(path: Path) -> Dataset:
        return dcmread(BytesIO(path.read_bytes()))

    def test_dicom3tools_catches_a_segment_without_its_algorithm(self, written, tmp_path):
        dataset = self.spoil(written.files["seg"])
        del dataset.SegmentSequence[0].SegmentAlgorithmType
        dataset.save_as(tmp_path / "broken.dcm")

        assert any("SegmentAlgorithmType" in e for e in dciodvfy_errors(tmp_path / "broken.dcm"))

    def test_dcmqi_catches_frames_that_lie_a_slice_off(self, written, tmp_path):
        dataset = self.spoil(written.files["seg"])
        for frame in dataset.PerFrameFunctionalGroupsSequence:
            x, y, z = frame.PlanePositionSequence[0].ImagePositionPatient
            frame.PlanePositionSequence[0].ImagePositionPatient = [x, y, z + 5]
        dataset.save_as(tmp_path / "broken.dcm")
        segments = dcmqi_segments(tmp_path / "broken.dcm", tmp_path)

        mask = lesion_mask_of(segments, written.series)
        assert not np.array_equal(mask, written.prediction.lesion_mask.labels)

    def test_dcmqi_catches_a_single_wrong_voxel(self, written, tmp_path):
        dataset = self.spoil(written.files["seg"])
        pixels = bytearray(dataset.PixelData)
        pixels[len(pixels) // 3] ^= 1
        dataset.PixelData = bytes(pixels)
        dataset.save_as(tmp_path / "broken.dcm")
        segments = dcmqi_segments(tmp_path / "broken.dcm", tmp_path)

        mask = lesion_mask_of(segments, written.series)
        assert not np.array_equal(mask, written.prediction.lesion_mask.labels)

    def test_dicom3tools_catches_a_summary_without_its_conversion_type(self, written, tmp_path):
        dataset = self.spoil(written.files["summary"])
        del dataset.ConversionType
        dataset.save_as(tmp_path / "broken.dcm")

        assert any("ConversionType" in e for e in dciodvfy_errors(tmp_path / "broken.dcm"))

    def test_only_pixelmed_catches_a_procedure_outside_its_context_group(self, written, tmp_path):
        dataset = self.spoil(written.files["sr"])
        (procedure,) = (
            item
            for item in dataset.ContentSequence
            if item.ConceptNameCodeSequence[0].CodeMeaning == "Procedure reported"
        )
        procedure.ConceptCodeSequence[0].CodeValue = "24627-2"
        dataset.save_as(tmp_path / "broken.dcm")

        assert dciodvfy_errors(tmp_path / "broken.dcm") == []
        assert any("24627-2" in error for error in pixelmed_verdict(tmp_path / "broken.dcm").errors)

    def test_dcmtk_catches_a_report_with_a_forbidden_relationship(self, written, tmp_path):
        dataset = self.spoil(written.files["sr"])
        dataset.ContentSequence[-1].RelationshipType = "SELECTED FROM"
        dataset.save_as(tmp_path / "broken.dcm")

        assert dcmtk_complaints("dsrdump", str(tmp_path / "broken.dcm")) != []
