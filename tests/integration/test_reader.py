"""Whole series from real files: the same volume in any order and coding, or the coded reason."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import generate_uid

from dicom_node.errors import RefusedError
from dicom_node.reading.header import InstanceHeader, read_header
from dicom_node.reading.limits import ReadLimits
from dicom_node.reading.reader import read_ct_series, read_headers
from dicom_node.reading.series import select_series
from dicom_node.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pydicom import Dataset

    from dicom_node.reading.ct_series import CtSeries

LUNG_DX = "series/lung_dx-A0001-s3"
SERIES = {
    LUNG_DX: (64, 5.0, 0.841796875),
    "series/lidc-idri-0001": (133, 2.5, 0.703125),
    "series/covidctmd-P001": (148, 2.0, 0.748046875),
}


def instances_of(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.dcm"))


@pytest.fixture(scope="module")
def lung_dx_files(data_dir) -> list[Path]:
    return instances_of(data_dir / LUNG_DX)


@pytest.fixture(scope="module")
def lung_dx(lung_dx_files) -> CtSeries:
    return read_ct_series(lung_dx_files)


@pytest.fixture
def lung_dx_copy(lung_dx_files, tmp_path) -> Path:
    for path in lung_dx_files[:8]:
        shutil.copy(path, tmp_path)
    return tmp_path


def reason_of(folder: Path, **arguments) -> Reason:
    with pytest.raises(RefusedError) as refused:
        read_ct_series(instances_of(folder), **arguments)
    return refused.value.reason


@pytest.mark.parametrize("folder", SERIES)
def test_real_series_are_chosen_and_read(data_dir, folder):
    slices, spacing, pixel_spacing = SERIES[folder]
    files = instances_of(data_dir / folder)
    content = read_headers([data_dir / folder])
    selection = select_series([header for _, header in content.instances])
    assert selection.reason is None
    series = read_ct_series(files, selection.chosen)
    assert series.volume.shape == (slices, 512, 512)
    assert series.volume.spacing_mm == pytest.approx((spacing, pixel_spacing, pixel_spacing))
    assert series.series_instance_uid == selection.chosen
    assert len({s.FrameOfReferenceUID for s in series.sources}) == 1
    for k in (0, slices // 2, slices - 1):
        source = series.sources[k]
        assert source.SOPInstanceUID == series.slices[k].sop_instance_uid
        assert "PixelData" not in source
        assert (series.volume.affine @ [k, 0, 0, 1])[:3] == pytest.approx(
            [float(x) for x in source.ImagePositionPatient], abs=0.02
        )


@pytest.mark.parametrize("folder", SERIES)
def test_hounsfield_units_are_those_of_pydicom(data_dir, folder):
    files = instances_of(data_dir / folder)
    series = read_ct_series(files)
    by_uid = {ds.SOPInstanceUID: ds for ds in map(dcmread, files[::20])}
    compared = 0
    for k, reference in enumerate(series.slices):
        if (dataset := by_uid.get(reference.sop_instance_uid)) is not None:
            stored = dataset.pixel_array.astype(int)
            expected = stored * int(dataset.RescaleSlope) + int(dataset.RescaleIntercept)
            # LIDC writes its padding value of -2000 as the unsigned 63536.
            expected[stored == -2000] = -1024
            assert np.array_equal(series.volume.hounsfield[k], expected)
            compared += 1
    assert compared == len(by_uid)


def test_padding_of_lidc_becomes_air(data_dir, tmp_path):
    files = instances_of(data_dir / "series/lidc-idri-0001")[:2]
    dataset = dcmread(files[0])
    assert dataset.PixelPaddingValue == 63536
    assert dataset.PixelRepresentation == 1
    set_pixel(dataset, 63536)
    dataset.save_as(tmp_path / "padded.dcm")
    series = read_ct_series([tmp_path / "padded.dcm", files[1]])
    k = [s.sop_instance_uid for s in series.slices].index(dataset.SOPInstanceUID)
    assert series.volume.hounsfield[k].flat[1000] == -1024


def test_the_order_of_the_files_does_not_matter(lung_dx_files, lung_dx):
    again = read_ct_series(lung_dx_files[::-1])
    assert again.digest == lung_dx.digest
    assert again.slices == lung_dx.slices
    assert np.array_equal(again.volume.hounsfield, lung_dx.volume.hounsfield)


def test_progress_runs_to_one(lung_dx_files):
    seen: list[float] = []
    read_ct_series(lung_dx_files[:8], progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == pytest.approx(1.0)


def test_one_changed_pixel_changes_the_digest(lung_dx_copy):
    before = read_ct_series(instances_of(lung_dx_copy)).digest
    edit(lung_dx_copy, 3, lambda ds: set_pixel(ds, 700))
    assert read_ct_series(instances_of(lung_dx_copy)).digest != before


def test_exact_duplicates_are_left_out(lung_dx_copy):
    before = read_ct_series(instances_of(lung_dx_copy))
    files = instances_of(lung_dx_copy)
    shutil.copy(files[2], lung_dx_copy / "sent-twice.dcm")
    dataset = dcmread(files[5])
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.InstanceNumber = 999
    dataset.save_as(lung_dx_copy / "same-image.dcm")
    after = read_ct_series(instances_of(lung_dx_copy))
    assert after.digest == before.digest
    assert len(after.sources) == 8
    assert read_ct_series(instances_of(lung_dx_copy)[::-1]).digest == before.digest


def edit(folder: Path, index: int, change: Callable[[Dataset], None]) -> None:
    path = instances_of(folder)[index]
    dataset = dcmread(path)
    change(dataset)
    dataset.save_as(path)


def set_pixel(dataset: Dataset, value: int) -> None:
    cells = np.frombuffer(dataset.PixelData, "<u2").copy()
    cells[1000] = value
    dataset.PixelData = cells.tobytes()


def without(keyword: str) -> Callable[[Dataset], None]:
    return lambda dataset: dataset.__delattr__(keyword)


def setting(keyword: str, value: object) -> Callable[[Dataset], None]:
    return lambda dataset: dataset.__setattr__(keyword, value)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (without("RescaleSlope"), Reason.MISSING_RESCALE),
        (without("RescaleIntercept"), Reason.MISSING_RESCALE),
        (without("ImageOrientationPatient"), Reason.MISSING_GEOMETRY),
        (without("ImagePositionPatient"), Reason.MISSING_GEOMETRY),
        (without("PixelSpacing"), Reason.MISSING_GEOMETRY),
        (without("PixelData"), Reason.SHORT_PIXEL_DATA),
        (setting("PixelData", b"\0" * 1000), Reason.SHORT_PIXEL_DATA),
        (setting("BitsAllocated", 8), Reason.UNDECODABLE_PIXELS),
        (setting("SamplesPerPixel", 3), Reason.SHORT_PIXEL_DATA),
        (setting("ImageOrientationPatient", [0, 1, 0, 0, 0, -1]), Reason.MIXED_ORIENTATIONS),
        (
            setting("ImagePositionPatient", [-228.036842, -93.0631599, -137.0]),
            Reason.IRREGULAR_SPACING,
        ),
        (setting("Rows", 256), Reason.MIXED_ORIENTATIONS),
        (setting("GantryDetectorTilt", 12), Reason.GANTRY_TILT),
    ],
)
def test_one_spoilt_instance_refuses_its_series(lung_dx_copy, change, reason):
    edit(lung_dx_copy, 3, change)
    assert reason_of(lung_dx_copy) is reason


def test_a_missing_slice_is_refused(lung_dx_copy):
    instances_of(lung_dx_copy)[4].unlink()
    assert reason_of(lung_dx_copy) is Reason.MISSING_SLICES


def test_a_file_cut_anywhere_is_refused(lung_dx_copy):
    path = instances_of(lung_dx_copy)[2]
    whole = path.read_bytes()
    for length in (0, 100, 140, 400, 1500, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert reason_of(lung_dx_copy) in {
            Reason.NOT_DICOM,
            Reason.MISSING_ATTRIBUTES,
            Reason.MISSING_GEOMETRY,
            Reason.MISSING_RESCALE,
            Reason.SHORT_PIXEL_DATA,
            Reason.UNDECODABLE_PIXELS,
            Reason.MIXED_ORIENTATIONS,
        }


@pytest.mark.filterwarnings("ignore")
def test_damaged_bytes_end_in_a_volume_or_a_reason(lung_dx_copy):
    """Whatever a sender writes, nothing but a refusal comes out of the reader."""
    random = np.random.default_rng(1)
    path = instances_of(lung_dx_copy)[2]
    whole = np.frombuffer(path.read_bytes(), np.uint8)
    outcomes = set()
    for _ in range(150):
        damaged = whole.copy()
        places = random.integers(128, whole.size - 512 * 512 * 2, random.choice([1, 5, 20]))
        damaged[places] = random.integers(0, 256, places.size)
        path.write_bytes(damaged.tobytes())
        try:
            header = read_header(path)
            assert InstanceHeader.from_json(header.to_json()) == header
            outcomes.add(read_ct_series([path, path]).digest)
        except RefusedError as error:
            outcomes.add(error.reason)
    assert {Reason.NOT_DICOM, Reason.MISSING_ATTRIBUTES, Reason.TOO_FEW_SLICES} <= outcomes


@pytest.mark.parametrize("depth", [33, 300, 20_000])
def test_deeply_nested_sequences_are_refused(lung_dx_copy, depth):
    path = instances_of(lung_dx_copy)[2]
    content = path.read_bytes()
    # Request Attributes Sequence and its item, both of undefined length, in each other.
    nested = bytes.fromhex("40007502fffffffffeff00e0ffffffff") * depth
    pixel_data = content.index(bytes.fromhex("e07f1000"))
    path.write_bytes(content[:pixel_data] + nested + content[pixel_data:])
    assert reason_of(lung_dx_copy) is Reason.TOO_LARGE


def test_another_image_at_the_same_place_is_a_conflict(lung_dx_copy):
    dataset = dcmread(instances_of(lung_dx_copy)[5])
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    set_pixel(dataset, 123)
    dataset.save_as(lung_dx_copy / "repeated.dcm")
    assert reason_of(lung_dx_copy) is Reason.CONFLICTING_DUPLICATES


@pytest.mark.parametrize(
    "limits",
    [
        ReadLimits(rows=511),
        ReadLimits(columns=511),
        ReadLimits(frames=7),
        # Of all its files together; one alone would be read.
        ReadLimits(elements=1000),
        ReadLimits(value_bytes=10_000),
    ],
)
def test_ceilings(lung_dx_copy, limits):
    assert reason_of(lung_dx_copy, limits=limits) is Reason.TOO_LARGE


def test_a_huge_declared_matrix_is_refused_before_it_is_allocated(lung_dx_copy):
    for index in range(8):
        edit(lung_dx_copy, index, setting("Rows", 65535))
    assert reason_of(lung_dx_copy) is Reason.TOO_LARGE


def test_the_wanted_series_is_found_among_others(lung_dx_files, data_dir, lung_dx):
    others = instances_of(data_dir / "odd/seg-sr-refs/dcmqi-ct-3slice")
    files = [*others, *lung_dx_files]
    assert read_ct_series(files).digest == lung_dx.digest
    uid = InstanceHeader.from_dataset(dcmread(others[0])).series_instance_uid
    assert read_ct_series(files, uid).volume.shape == (3, 512, 512)
    with pytest.raises(RefusedError) as refused:
        read_ct_series(files, "1.2.3")
    assert refused.value.reason is Reason.NOT_CT


ODD = {
    "enhanced-multiframe": {Reason.DERIVED_IMAGE, Reason.TOO_FEW_SLICES},
    "missing-attrs": {Reason.TOO_FEW_SLICES},
    "sagittal-midrc-000906": {Reason.NOT_AXIAL},
    "head-philips": {Reason.NOT_CHEST},
    "seg-sr-refs": {Reason.NOT_CT, Reason.TOO_FEW_SLICES},
    "ts-matrix-ge-slice": {Reason.UNSUPPORTED_TRANSFER_SYNTAX},
}


@pytest.mark.parametrize("folder", ODD)
def test_every_odd_study_is_refused_with_its_reason(data_dir, folder):
    content = read_headers([data_dir / "odd" / folder])
    studies: dict[str, list[InstanceHeader]] = {}
    for _, header in content.instances:
        studies.setdefault(header.study_instance_uid, []).append(header)
    selections = [select_series(headers) for headers in studies.values()]
    assert {selection.reason for selection in selections} == ODD[folder]
    assert all(selection.chosen is None for selection in selections)


def test_every_odd_file_is_accounted_for(data_dir):
    content = read_headers([data_dir / "odd"])
    files = {path for path in (data_dir / "odd").rglob("*") if path.is_file()}
    read = {path for path, _ in content.instances}
    refused = {file.path: file.reason for file in content.refused}
    assert files - read - set(refused) == {data_dir / "odd/head-philips/DIRFILE"}
    assert {reason for path, reason in refused.items() if "LICENSE" in path.name} == {
        Reason.NOT_DICOM
    }
    assert [r for p, r in refused.items() if "Deflated" in p.name] == [
        Reason.UNSUPPORTED_TRANSFER_SYNTAX
    ]


def test_the_head_phantom_is_tilted_as_well(data_dir):
    files = sorted((data_dir / "odd/head-philips").glob("I*"))
    with pytest.raises(RefusedError) as refused:
        read_ct_series(files)
    assert refused.value.reason is Reason.NOT_AXIAL


def test_a_series_that_takes_too_long_is_refused(lung_dx_copy):
    assert reason_of(lung_dx_copy, limits=ReadLimits(seconds=0.0)) is Reason.DECODER_FAILED
