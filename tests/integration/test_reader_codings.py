"""Every coding of the same pixels gives the same volume, or its coded reason."""

from __future__ import annotations

import struct
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from highdicom.legacy import LegacyConvertedEnhancedCTImage
from pydicom import dcmread
from pydicom.encaps import encapsulate, generate_frames
from pydicom.filereader import read_file_meta_info
from pydicom.uid import (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
    generate_uid,
)

from dicom_node.errors import RefusedError
from dicom_node.reading.decoding import READABLE_TRANSFER_SYNTAXES
from dicom_node.reading.header import read_header
from dicom_node.reading.pixels import PixelEncoding, hounsfield_table
from dicom_node.reading.reader import read_ct_series, read_headers
from dicom_node.reading.series import select_series
from dicom_node.reasons import Reason

if TYPE_CHECKING:
    from pydicom import Dataset


@pytest.fixture(scope="module")
def files(data_dir) -> list[Path]:
    return sorted((data_dir / "series/lung_dx-A0001-s3").glob("*.dcm"))


def reason_of(files: list[Path]) -> Reason:
    with pytest.raises(RefusedError) as refused:
        read_ct_series(files)
    return refused.value.reason


def save_all(datasets: list[Dataset], folder: Path) -> list[Path]:
    paths = [folder / f"{k}.dcm" for k in range(len(datasets))]
    for dataset, path in zip(datasets, paths, strict=True):
        dataset.save_as(path)
    return paths


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
def test_compressed_variants_have_the_same_digest(files, tmp_path, syntax):
    datasets = [dcmread(path) for path in files[:4]]
    for dataset in datasets:
        dataset.compress(syntax, generate_instance_uid=False)
    paths = save_all(datasets, tmp_path)
    assert dcmread(paths[0]).file_meta.TransferSyntaxUID == syntax
    assert read_ct_series(paths).digest == read_ct_series(files[:4]).digest


def test_a_fragmented_frame_is_joined(files, tmp_path):
    datasets = [dcmread(path) for path in files[:3]]
    for dataset in datasets:
        dataset.compress(RLELossless, generate_instance_uid=False)
        frames = list(generate_frames(dataset.PixelData, number_of_frames=1))
        dataset.PixelData = encapsulate(frames, fragments_per_frame=5)
    paths = save_all(datasets, tmp_path)
    assert read_ct_series(paths).digest == read_ct_series(files[:3]).digest


@pytest.fixture(scope="module")
def multi_frame(files, tmp_path_factory) -> Path:
    sources = [dcmread(path) for path in files]
    for source in sources:
        source.SpecificCharacterSet = "ISO_IR 192"
    image = LegacyConvertedEnhancedCTImage(
        legacy_datasets=sources,
        series_instance_uid=generate_uid(),
        series_number=9,
        sop_instance_uid=generate_uid(),
        instance_number=1,
    )
    path = tmp_path_factory.mktemp("multi-frame") / "legacy-converted.dcm"
    image.save_as(path)
    return path


def test_a_multi_frame_instance_gives_the_volume_of_its_single_frames(files, multi_frame):
    single, multi = read_ct_series(files), read_ct_series([multi_frame])
    assert np.array_equal(multi.volume.hounsfield, single.volume.hounsfield)
    assert np.allclose(multi.volume.affine, single.volume.affine)
    assert len(multi.sources) == 1
    assert sorted(s.frame_number for s in multi.slices) == list(range(1, 65))
    stored = dcmread(multi_frame)
    for k in (0, 30, 63):
        groups = stored.PerFrameFunctionalGroupsSequence[multi.slices[k].frame_number - 1]
        origin = groups.ConversionSourceAttributesSequence[0].ReferencedSOPInstanceUID
        assert origin == single.slices[k].sop_instance_uid


def test_a_multi_frame_instance_is_chosen(multi_frame):
    header = read_header(multi_frame)
    assert header.is_multi_frame
    assert len(header.frames) == 64
    assert header.pixel_data_complete
    assert type(header).from_json(header.to_json()) == header
    assert select_series([header]).reason is None


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless])
def test_a_compressed_multi_frame_instance(multi_frame, tmp_path, syntax):
    dataset = dcmread(multi_frame)
    dataset.compress(syntax, generate_instance_uid=False)
    dataset.save_as(tmp_path / "compressed.dcm")
    read = read_ct_series([tmp_path / "compressed.dcm"])
    assert read.digest == read_ct_series([multi_frame]).digest


def test_a_cut_multi_frame_instance_is_refused(multi_frame, tmp_path):
    path = tmp_path / "cut.dcm"
    path.write_bytes(multi_frame.read_bytes()[:-1000])
    assert reason_of([path]) is Reason.SHORT_PIXEL_DATA


def matrix_files(data_dir: Path) -> list[Path]:
    return sorted((data_dir / "odd/ts-matrix-ge-slice").glob("*.dcm"))


def test_each_transfer_syntax_of_the_matrix_is_decoded_or_refused(data_dir, tmp_path):
    reference = dcmread(data_dir / "odd/ts-matrix-ge-slice/CTImage.dcm")
    stored = reference.pixel_array.astype(int)
    expected = np.where(stored == -32768, -1024, np.clip(stored - 1024, -32768, 32767))
    decoded, refused = set(), set()
    for path in matrix_files(data_dir):
        syntax = read_file_meta_info(path).TransferSyntaxUID
        if syntax in READABLE_TRANSFER_SYNTAXES:
            volume = read_ct_series(twice(path, tmp_path)).volume
            assert np.array_equal(volume.hounsfield[0], expected), path.name
            decoded.add(syntax)
        else:
            assert reason_of([path]) is Reason.UNSUPPORTED_TRANSFER_SYNTAX, path.name
            refused.add(syntax)
    assert decoded == READABLE_TRANSFER_SYNTAXES
    assert len(refused) == 8


def twice(path: Path, folder: Path) -> list[Path]:
    """Make a series of two slices from one, since a single slice has no spacing."""
    second = dcmread(path)
    second.SOPInstanceUID = second.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    second.ImagePositionPatient = [*second.ImagePositionPatient[:2], 9.7]
    second.save_as(folder / path.name)
    return [path, folder / path.name]


def spoilt(files: list[Path], folder: Path, frame: bytes, syntax: str) -> list[Path]:
    dataset = dcmread(files[0])
    dataset.compress(syntax, generate_instance_uid=False)
    dataset.PixelData = encapsulate([frame])
    dataset.save_as(folder / "spoilt.dcm")
    return [folder / "spoilt.dcm", files[1]]


def test_garbage_in_a_codestream_is_undecodable(files, tmp_path):
    for syntax in (RLELossless, JPEGLSLossless, JPEG2000Lossless):
        assert reason_of(spoilt(files, tmp_path, b"garbage " * 99, syntax)) is (
            Reason.UNDECODABLE_PIXELS
        )


def test_a_codestream_without_its_end_is_not_decoded(data_dir, tmp_path):
    paths = sorted((data_dir / "series/covidctmd-P001").glob("*.dcm"))[:2]
    dataset = dcmread(paths[0])
    (frame,) = generate_frames(dataset.PixelData, number_of_frames=1)
    dataset.PixelData = encapsulate([frame[:-200]])
    dataset.save_as(tmp_path / "cut.dcm")
    assert read_header(tmp_path / "cut.dcm").pixel_data_complete
    with pytest.raises(RefusedError, match="ends before its end marker"):
        read_ct_series([tmp_path / "cut.dcm", paths[1]])


def test_a_codestream_of_another_size_is_not_decoded(files, tmp_path):
    dataset = dcmread(files[0])
    dataset.compress(JPEGLSLossless, generate_instance_uid=False)
    (frame,) = generate_frames(dataset.PixelData, number_of_frames=1)
    size = frame.index(struct.pack(">HH", 512, 512))
    huge = frame[:size] + struct.pack(">HH", 65500, 65500) + frame[size + 4 :]
    with pytest.raises(RefusedError, match="does not declare one component of 512 x 512"):
        read_ct_series(spoilt(files, tmp_path, huge, JPEGLSLossless))


def test_compressed_data_beyond_the_native_size_is_too_large(files, tmp_path):
    bomb = struct.pack("<16I", 2, 64, 100, *([0] * 13)) + b"\x81\0" * 1_000_000
    assert reason_of(spoilt(files, tmp_path, bomb, RLELossless)) is Reason.TOO_LARGE


def test_a_cut_compressed_instance_is_refused(data_dir, tmp_path):
    paths = sorted((data_dir / "series/covidctmd-P001").glob("*.dcm"))[:2]
    cut = tmp_path / "cut.dcm"
    cut.write_bytes(paths[0].read_bytes()[:-5000])
    assert read_header(cut).pixel_data_complete is False
    assert reason_of([cut, paths[1]]) is Reason.SHORT_PIXEL_DATA


def test_a_decompression_bomb_is_refused_unread(data_dir):
    (deflated,) = (p for p in matrix_files(data_dir) if "Deflated" in p.name)
    content = read_headers([deflated])
    assert [r.reason for r in content.refused] == [Reason.UNSUPPORTED_TRANSFER_SYNTAX]


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
def test_signed_and_unsigned_pixels_agree(files, tmp_path, syntax):
    datasets = [dcmread(path) for path in files[:3]]
    for dataset in datasets:
        units = dataset.pixel_array.astype(np.int16) - 1024
        dataset.PixelData = units.tobytes()
        dataset.PixelRepresentation, dataset.RescaleIntercept = 1, 0
        dataset.BitsStored, dataset.HighBit = 16, 15
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset["PixelData"].VR = "OW"
    for k, dataset in enumerate(datasets):
        dataset.save_as(
            tmp_path / f"{k}.dcm", implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=True
        )
    signed = read_ct_series(sorted(tmp_path.glob("*.dcm")))
    assert signed.digest == read_ct_series(files[:3]).digest


@pytest.mark.parametrize(
    ("encoding", "slope", "intercept", "cell", "expected"),
    [
        (PixelEncoding(12, 11, signed=False), 1.0, -1024.0, 0xF000 | 24, -1000),
        (PixelEncoding(12, 11, signed=True), 1.0, 0.0, 0x0FFF, -1),
        (PixelEncoding(16, 15, signed=True), 1.0, -1024.0, 0xFC18, -2024),
        (PixelEncoding(16, 15, signed=True, padding=(-2000, -2000)), 1.0, 0.0, 0xF830, -1024),
        (PixelEncoding(16, 15, signed=False, padding=(10, 20)), 1.0, 0.0, 15, -1024),
        (PixelEncoding(16, 15, signed=False), 1.000244, -1024.0, 4095, 3072),
        (PixelEncoding(16, 15, signed=False), 0.5, 0.0, 3, 2),
        (PixelEncoding(16, 15, signed=False), 1.0, 0.0, 65535, 32767),
        (PixelEncoding(16, 15, signed=True), 2.0, 0.0, 0x8000, -32768),
        (PixelEncoding(12, 15, signed=False), 1.0, 0.0, 0x0010, 1),
    ],
)
def test_hounsfield_table(encoding, slope, intercept, cell, expected):
    assert hounsfield_table(encoding, slope, intercept)[cell] == expected


@pytest.mark.parametrize(("slope", "intercept"), [(None, 0.0), (1.0, None), (0.0, 0.0)])
def test_no_table_without_rescale(slope, intercept):
    with pytest.raises(RefusedError) as refused:
        hounsfield_table(PixelEncoding(16, 15, signed=True), slope, intercept)
    assert refused.value.reason is Reason.MISSING_RESCALE


@pytest.mark.parametrize(
    ("syntax", "modules", "package"),
    [
        (RLELossless, ["pylibjpeg"], "pylibjpeg-rle"),
        (JPEGLSLossless, ["jpeg_ls", "gdcm"], "pyjpegls"),
    ],
)
def test_a_missing_decoder_is_named_and_no_fault_of_the_study(
    files, tmp_path, syntax, modules, package
):
    dataset = dcmread(files[0])
    dataset.compress(syntax, generate_instance_uid=False)
    (path,) = save_all([dataset], tmp_path)
    script = (
        "import sys; sys.modules.update(dict.fromkeys(sys.argv[1].split()))\n"
        "from pathlib import Path\n"
        "from dicom_node.errors import ConfigurationError\n"
        "from dicom_node.reading.decoding import StoredPixels, compressed_frames\n"
        "from dicom_node.reading.header import read_dataset\n"
        "path = Path(sys.argv[2])\n"
        "dataset, extent, _ = read_dataset(path)\n"
        "try: next(compressed_frames(StoredPixels.of(path, dataset, extent.offset)))\n"
        "except ConfigurationError as error: print(error)\n"
    )
    without = subprocess.run(
        [sys.executable, "-c", script, " ".join(modules), str(path)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
    )

    assert syntax.name in without.stdout
    assert package in without.stdout


def test_a_codec_that_panics_refuses_the_instance(files, tmp_path):
    """pylibjpeg-rle, in Rust, raises no Exception where a segment holds twice the pixels."""
    plane = b"\x81\0" * (512 * 512 // 128)
    segments = struct.pack("<16I", 2, 64, 64 + 2 * len(plane), *([0] * 13)) + plane * 3
    with pytest.raises(RefusedError, match="makes the decoder panic") as refused:
        read_ct_series(spoilt(files, tmp_path, segments, RLELossless))
    assert refused.value.reason is Reason.UNDECODABLE_PIXELS
