"""Segmentations that come back from a viewer, as highdicom and dcmqi write them."""

import gzip
import json
import subprocess

import numpy as np
import pytest
from highdicom.seg import Segmentation, SegmentDescription
from pydicom import dcmread
from pydicom.sr.coding import Code
from pydicom.uid import generate_uid
from support.judges import of_this_environment
from support.small_ct import write_small_ct
from support.synthetic_result import TINY_LESIONS, context_of, predict, tiny_series

from dicom_node.errors import SegmentationError
from dicom_node.objects.common_attributes import encode_file
from dicom_node.objects.corrected_segmentation import read_corrected_segmentation
from dicom_node.objects.segmentation import encode_segmentation
from dicom_node.reading.reader import read_ct_series

LESION = (
    Code("49755003", "SCT", "Morphologically Altered Structure"),
    Code("52988006", "SCT", "L"),
)
LUNG = (Code("123037004", "SCT", "Anatomical Structure"), Code("39607008", "SCT", "Lung"))
LUNG_AS_TISSUE = (Code("T-D0050", "SRT", "Tissue"), Code("T-28000", "SRT", "Lung"))
UNCODED = (Code("85756007", "SCT", "Tissue"), Code("85756007", "SCT", "Tissue"))
LABELS = predict(tiny_series(), TINY_LESIONS).lesion_mask.labels


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return write_small_ct(tmp_path_factory.mktemp("ct"))


@pytest.fixture(scope="module")
def series(files):
    return read_ct_series(files)


@pytest.fixture
def drawn(files, tmp_path):
    """Draw with highdicom as another program would, spoil it if asked, and give the file."""

    def draw(labels=LABELS > 0, segments=(LESION,), kind="BINARY", spoil=None, **options):
        dataset = Segmentation(
            [dcmread(path) for path in files],
            labels if kind == "FRACTIONAL" else labels.astype(np.uint8),
            kind,
            [
                SegmentDescription(number, f"drawn {number}", *coded, "MANUAL")
                for number, coded in enumerate(segments, 1)
            ],
            *(generate_uid(), 1, generate_uid(), 1, "Other", "Model", "1", "1"),
            **options,
        )
        if spoil is not None:
            spoil(dataset)
        path = tmp_path / "corrected.dcm"
        path.write_bytes(encode_file(dataset))
        return path

    return draw


def refusal(path, series):
    with pytest.raises(SegmentationError) as error:
        read_corrected_segmentation(path, series)
    assert str(error.value).startswith(path.name)
    return str(error.value)


def frames(dataset):
    return dataset.PerFrameFunctionalGroupsSequence


@pytest.mark.parametrize("multi_frame", [False, True])
def test_our_own_segmentation_comes_back_as_it_left(tmp_path, multi_frame):
    source = tiny_series(multi_frame=multi_frame)
    dataset = encode_segmentation(source, predict(source, TINY_LESIONS), context_of(source))
    path = tmp_path / "seg.dcm"
    path.write_bytes(encode_file(dataset))
    found = read_corrected_segmentation(path, source)
    assert np.array_equal(found.mask, LABELS > 0)
    assert found.sop_instance_uid == dataset.SOPInstanceUID
    assert not found.is_empty


def test_every_segment_of_lesions_counts_and_anatomy_does_not(series, drawn):
    labels = LABELS.copy()
    labels[labels == 0] = 3  # the lung that surrounds them
    path = drawn(labels, segments=(LESION, UNCODED, LUNG))
    found = read_corrected_segmentation(path, series)
    assert np.array_equal(found.mask, LABELS > 0)
    assert found.left_out == ("drawn 3 (Lung)",)


@pytest.mark.parametrize("coded", [LUNG, LUNG_AS_TISSUE])
def test_lungs_alone_are_not_a_cleared_study(series, drawn, coded):
    assert "holds no lesion, but drawn 1 (Lung)" in refusal(drawn(segments=(coded,)), series)


def test_a_segment_without_a_voxel_clears_the_series(series, drawn):
    path = drawn(np.zeros_like(LABELS, bool), omit_empty_frames=False)
    assert read_corrected_segmentation(path, series).is_empty


def test_without_references_the_position_places_a_frame(series, drawn):
    def forget_sources(dataset):
        for group in frames(dataset):
            del group.DerivationImageSequence

    found = read_corrected_segmentation(drawn(spoil=forget_sources), series)
    assert np.array_equal(found.mask, LABELS > 0)


def test_without_positions_the_reference_places_a_frame(series, drawn):
    def forget_positions(dataset):
        for group in frames(dataset):
            del group.PlanePositionSequence

    found = read_corrected_segmentation(drawn(spoil=forget_positions), series)
    assert np.array_equal(found.mask, LABELS > 0)


def test_rows_and_columns_that_run_the_other_way_are_turned(series, drawn):
    """As software does that keeps its volumes in another orientation."""

    def turn(dataset):
        shared = dataset.SharedFunctionalGroupsSequence[0]
        shared.PlaneOrientationSequence[0].ImageOrientationPatient = [-1, 0, 0, 0, -1, 0]
        row, column = (float(v) for v in shared.PixelMeasuresSequence[0].PixelSpacing)
        for group in frames(dataset):
            position = group.PlanePositionSequence[0].ImagePositionPatient
            position[0] = float(position[0]) + 95 * column
            position[1] = float(position[1]) + 63 * row
            del group.DerivationImageSequence

    turned = (LABELS > 0)[:, ::-1, ::-1]
    found = read_corrected_segmentation(drawn(turned, spoil=turn), series)
    assert np.array_equal(found.mask, LABELS > 0)


def test_a_fractional_segmentation_marks_half_and_more(series, drawn):
    fractions = np.where(LABELS == 1, 0.8, np.where(LABELS == 2, 0.3, 0.0))
    path = drawn(fractions, kind="FRACTIONAL", max_fractional_value=100)
    assert np.array_equal(read_corrected_segmentation(path, series).mask, LABELS == 1)


def test_a_label_map_is_read(series, drawn):
    path = drawn(LABELS, segments=(LUNG, LESION), kind="LABELMAP")
    assert np.array_equal(read_corrected_segmentation(path, series).mask, LABELS == 2)


def lying(dataset, step):
    for group in frames(dataset):
        position = group.PlanePositionSequence[0].ImagePositionPatient
        position[2] = float(position[2]) + step


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda d: setattr(d, "StudyInstanceUID", "1.2.3"), "belongs to study 1.2.3"),
        (lambda d: setattr(d, "FrameOfReferenceUID", "1.2.4"), "frame of reference is 1.2.4"),
        (
            lambda d: setattr(d.ReferencedSeriesSequence[0], "SeriesInstanceUID", "1.2.5"),
            "drawn on series 1.2.5",
        ),
        (
            lambda d: setattr(
                frames(d)[1].DerivationImageSequence[0].SourceImageSequence[0],
                "ReferencedSOPInstanceUID",
                "1.2.6",
            ),
            "frame 2 was drawn on instance 1.2.6",
        ),
        (lambda d: setattr(d, "Columns", 48), "64 rows and 48 columns, the slices 64 and 96"),
        (lambda d: setattr(d, "SegmentationType", "PAINTED"), "segmentation type is PAINTED"),
        (lambda d: delattr(d, "SegmentSequence"), "no segment at all"),
        (lambda d: setattr(d, "PixelData", d.PixelData[:100]), "cannot be decoded"),
        (lambda d: delattr(d, "PixelData"), "cannot be decoded"),
        (lambda d: frames(d).pop(), "frames and holds"),
        (lambda d: lying(d, 5.0), "beside slice"),
        (
            lambda d: setattr(
                d.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0],
                "PixelSpacing",
                [1.0, 1.0],
            ),
            "turned, shifted or scaled",
        ),
        (
            lambda d: delattr(d.SharedFunctionalGroupsSequence[0], "SegmentIdentificationSequence"),
            "frame 1 names no segment",
        ),
    ],
)
def test_what_was_drawn_on_something_else_is_refused(series, drawn, spoil, told):
    assert told in refusal(drawn(spoil=spoil), series)


def test_a_position_beyond_the_slices_is_refused(series, drawn):
    def lift(dataset):
        for group in frames(dataset):
            del group.DerivationImageSequence
        lying(dataset, 500.0)

    assert "beside the slices" in refusal(drawn(spoil=lift), series)


def test_neither_reference_nor_position_is_refused(series, drawn):
    def forget(dataset):
        for group in frames(dataset):
            del group.DerivationImageSequence
            del group.PlanePositionSequence

    assert "neither a source image nor a position" in refusal(drawn(spoil=forget), series)


def test_a_ct_image_and_a_text_are_no_segmentation(series, files, tmp_path):
    assert "its modality is CT" in refusal(files[0], series)
    text = tmp_path / "notes.txt"
    text.write_text("lesion in the left lower lobe")
    assert "cannot be parsed" in refusal(text, series)


@pytest.fixture(scope="module")
def dcmqi_files(data_dir):
    return sorted((data_dir / "odd/seg-sr-refs/dcmqi-ct-3slice").glob("*.dcm"))


def test_an_organ_that_dcmqi_wrote_is_no_lesion(data_dir, dcmqi_files):
    liver = data_dir / "odd/seg-sr-refs/dcmqi-liver-seg.dcm"
    assert "holds no lesion, but Liver (Liver)" in refusal(liver, read_ct_series(dcmqi_files))
    assert "belongs to study" in refusal(
        data_dir / "odd/seg-sr-refs/seg.dcm", read_ct_series(dcmqi_files)
    )


@pytest.mark.parametrize("flipped", [False, True])
def test_what_dcmqi_writes_of_an_itk_image_is_read(dcmqi_files, tmp_path, flipped):
    """With the image's rows from back to front as well, as some software keeps them."""
    series = read_ct_series(dcmqi_files)
    mask = np.zeros(series.volume.shape, np.uint8)
    mask[1, 100:140, 200:260] = 1
    mask[2, 300:320, 90:95] = 1
    image = tmp_path / "mask.nrrd"
    _write_nrrd(image, mask, series.volume.affine, flipped=flipped)
    path = tmp_path / "seg.dcm"
    subprocess.run(
        [
            of_this_environment("itkimage2segimage"),
            *("--inputImageList", image, "--inputDICOMList", ",".join(map(str, dcmqi_files))),
            *("--inputMetadata", _metadata(tmp_path), "--outputDICOM", path, "--skip", "1"),
        ],
        check=True,
        capture_output=True,
    )
    assert dcmread(path).Manufacturer != "Lungwatch"
    assert np.array_equal(read_corrected_segmentation(path, series).mask, mask > 0)


def _write_nrrd(path, mask, affine, *, flipped):
    directions = [affine[:3, axis] for axis in (2, 1, 0)]
    origin = affine[:3, 3]
    if flipped:
        origin = (affine @ [0, mask.shape[1] - 1, 0, 1])[:3]
        directions[1] = -directions[1]
        mask = mask[:, ::-1]
    vectors = [f"({','.join(f'{v:.10g}' for v in vector)})" for vector in (*directions, origin)]
    header = [
        *("NRRD0004", "type: uint8", "dimension: 3", "space: left-posterior-superior"),
        f"sizes: {' '.join(str(size) for size in mask.shape[::-1])}",
        f"space directions: {' '.join(vectors[:3])}",
        *("kinds: domain domain domain", "encoding: gzip", f"space origin: {vectors[3]}"),
    ]
    path.write_bytes("\n".join(header).encode() + b"\n\n" + gzip.compress(mask.tobytes()))


def _metadata(folder):
    def code(value, scheme, meaning):
        return {"CodeValue": value, "CodingSchemeDesignator": scheme, "CodeMeaning": meaning}

    path = folder / "metadata.json"
    segment = {
        "labelID": 1,
        "SegmentDescription": "lesion",
        "SegmentAlgorithmType": "MANUAL",
        "SegmentedPropertyCategoryCodeSequence": code(
            "49755003", "SCT", "Morphologically Altered Structure"
        ),
        "SegmentedPropertyTypeCodeSequence": code("52988006", "SCT", "Lesion"),
    }
    facts = {
        "ContentCreatorName": "Reader^One",
        "ClinicalTrialSeriesID": "1",
        "ClinicalTrialTimePointID": "1",
        "SeriesDescription": "corrected",
        "SeriesNumber": "300",
        "InstanceNumber": "1",
        "BodyPartExamined": "CHEST",
    }
    path.write_text(json.dumps({**facts, "segmentAttributes": [[segment]]}))
    return path
