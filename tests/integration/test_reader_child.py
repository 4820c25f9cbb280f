"""A decoder's child process: what it gives, how it ends, and that its end harms nobody else."""

from __future__ import annotations

import errno
import os
import select
import signal
import struct
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless

from dicom_node.errors import RefusedError
from dicom_node.reading.decoder import Decoder
from dicom_node.reading.decoder_process import DecoderLimits, DecoderProcess
from dicom_node.reading.decoding import StoredPixels, compressed_frames
from dicom_node.reading.header import read_dataset, read_header
from dicom_node.reading.reader import read_ct_series
from dicom_node.reasons import Reason


@pytest.fixture(scope="module")
def files(data_dir) -> list[Path]:
    return sorted((data_dir / "series/covidctmd-P001").glob("*.dcm"))


@pytest.fixture(scope="module")
def decoder():
    with Decoder() as decoder:
        yield decoder


def pixels_of(path: Path) -> StoredPixels:
    dataset, extent, _ = read_dataset(path)
    return StoredPixels.of(path, dataset, extent.offset)


@pytest.fixture
def many_frames(data_dir, tmp_path) -> StoredPixels:
    """Forty times one frame, so that no pipe holds all of it."""
    path = tmp_path / "many.dcm"
    dataset = dcmread(sorted((data_dir / "series/lung_dx-A0001-s3").glob("*.dcm"))[0])
    dataset.compress(JPEGLSLossless, generate_instance_uid=False)
    (frame,) = generate_frames(dataset.PixelData, number_of_frames=1)
    dataset.NumberOfFrames = 40
    dataset.PixelData = encapsulate([frame] * 40)
    dataset.save_as(path)
    return pixels_of(path)


def test_the_child_decodes_what_this_process_would(files, decoder, many_frames):
    for pixels in (pixels_of(files[0]), many_frames):
        ours = list(compressed_frames(pixels))
        theirs = list(decoder.frames(pixels))
        assert len(ours) == pixels.frames
        assert np.array_equal(ours, theirs)


def test_the_child_reads_headers_as_this_process_would(files, decoder):
    assert decoder.read_header(files[0], "abc") == read_header(files[0], content_sha256="abc")


def test_one_child_serves_many_orders(files, decoder):
    decoder.read_header(files[0])
    first = decoder.pid
    series = read_ct_series(files[:2], decoder=decoder)
    assert series.volume.shape == (2, 512, 512)
    assert decoder.pid == first


def test_a_refusal_of_the_child_is_that_of_this_process(files, decoder, tmp_path):
    (tmp_path / "letter.txt").write_text("dear colleague")
    with pytest.raises(RefusedError) as refused:
        decoder.read_header(tmp_path / "letter.txt")
    assert refused.value.reason is Reason.NOT_DICOM
    with pytest.raises(FileNotFoundError):
        decoder.read_header(tmp_path / "absent.dcm")
    assert decoder.read_header(files[0]).rows == 512


@pytest.mark.parametrize("signal_", [signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS])
def test_a_crash_is_a_refusal_and_the_next_order_is_served(decoder, many_frames, files, signal_):
    frames = decoder.frames(many_frames)
    next(frames)
    os.kill(decoder.pid, signal_)
    with pytest.raises(RefusedError, match=signal_.name) as refused:
        list(frames)
    assert refused.value.reason is Reason.DECODER_FAILED
    assert many_frames.sop_instance_uid in refused.value.detail
    assert decoder.read_header(files[0]).rows == 512


def test_a_child_that_somebody_else_ends_says_nothing_about_the_instance(decoder, many_frames):
    frames = decoder.frames(many_frames)
    next(frames)
    os.kill(decoder.pid, signal.SIGKILL)
    with pytest.raises(ChildProcessError) as ended:
        list(frames)
    assert ended.value.errno == errno.ECHILD
    assert len(list(decoder.frames(many_frames))) == 40


def test_what_takes_too_long_is_refused(files):
    with Decoder(DecoderLimits(seconds=0.0005)) as hasty, pytest.raises(RefusedError) as refused:
        list(hasty.frames(pixels_of(files[0])))
    assert refused.value.reason is Reason.DECODER_FAILED
    assert "0.0015 seconds" in refused.value.detail


def test_what_computes_too_long_is_refused(files, tmp_path):
    content = files[0].read_bytes()
    at = content.index(bytes.fromhex("28000200"))
    sequence = bytes.fromhex("40007502") + b"SQ\0\0" + b"\xff" * 4
    items = bytes.fromhex("feff00e000000000") * 100_000 + bytes.fromhex("feffdde000000000")
    (tmp_path / "items.dcm").write_bytes(content[:at] + sequence + items + content[at:])
    with Decoder(DecoderLimits(seconds=0.2)) as hasty:
        with pytest.raises(RefusedError, match="took more than") as refused:
            hasty.read_header(tmp_path / "items.dcm")
        assert refused.value.reason is Reason.DECODER_FAILED
        assert hasty.read_header(files[0]).rows == 512


def test_a_child_that_stands_still_is_refused(monkeypatch, many_frames):
    monkeypatch.setattr("dicom_node.reading.decoder_process._GRACE_SECONDS", 0.2)
    with Decoder(DecoderLimits(seconds=0.5)) as decoder:
        frames = decoder.frames(many_frames)
        next(frames)
        stopped = decoder.pid
        os.kill(stopped, signal.SIGSTOP)
        with pytest.raises(RefusedError, match="took more"):
            list(frames)
        assert not Path(f"/proc/{stopped}").exists()


def precinct_bomb(frame: bytes) -> bytes:
    """Let a JPEG 2000 codestream part its image into precincts of one pixel (ISO 15444-1 A.6.1).

    A decoder keeps hundreds of bytes for each of them.
    """
    at = frame.index(b"\xff\x52")
    length, style = struct.unpack_from(">HB", frame, at + 2)
    levels = frame[at + 9]
    precincts = bytes(levels + 1)
    cod = struct.pack(">HHB", 0xFF52, length + len(precincts), style | 1)
    return frame[:at] + cod + frame[at + 5 : at + 2 + length] + precincts + frame[at + 2 + length :]


def test_a_codestream_that_asks_for_memory_gets_what_is_allowed(files, tmp_path, data_dir):
    dataset = dcmread(sorted((data_dir / "series/lung_dx-A0001-s3").glob("*.dcm"))[0])
    dataset.compress(JPEG2000Lossless, generate_instance_uid=False)
    (frame,) = generate_frames(dataset.PixelData, number_of_frames=1)
    dataset.PixelData = encapsulate([precinct_bomb(frame)])
    dataset.save_as(tmp_path / "bomb.dcm")
    with Decoder(DecoderLimits(memory_bytes=300 << 20)) as small:
        with pytest.raises(RefusedError) as refused:
            list(small.frames(pixels_of(tmp_path / "bomb.dcm")))
        assert refused.value.reason in {Reason.DECODER_FAILED, Reason.UNDECODABLE_PIXELS}
        assert len(list(small.frames(pixels_of(files[0])))) == 1


def test_a_reader_that_gives_up_half_way_leaves_the_decoder_usable(decoder, many_frames):
    with closing(decoder.frames(many_frames)) as frames:
        next(frames)
    assert len(list(decoder.frames(many_frames))) == 40


def test_a_child_that_cannot_start_is_no_fault_of_the_instance(files, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(ChildProcessError):
        Decoder().read_header(files[0])


def test_the_child_inherits_no_secrets_and_writes_no_file(monkeypatch):
    monkeypatch.setenv("LUNGWATCH_DATABASE_URL", "postgresql://user:secret@host/lungwatch")
    child = DecoderProcess(DecoderLimits())
    try:
        environment = Path(f"/proc/{child.pid}/environ").read_bytes()
        limits = Path(f"/proc/{child.pid}/limits").read_text().splitlines()
    finally:
        child.end()
    assert b"secret" not in environment
    assert [line.split()[3:5] for line in limits if line.startswith("Max file size")] == [
        ["0", "0"]
    ]
    assert [line.split()[3:4] for line in limits if "address space" in line] == [[str(1 << 30)]]
    assert not Path(f"/proc/{child.pid}").exists()


def test_the_child_ends_with_its_parent(files):
    script = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from dicom_node.reading.decoder import shared_decoder\n"
        "shared_decoder().read_header(Path(sys.argv[1]))\n"
        "print(shared_decoder().pid, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script, str(files[0])],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    child = int(ended.stdout)
    with suppress(ProcessLookupError):
        readable, _, _ = select.select([os.pidfd_open(child)], [], [], 10)
        assert readable, "it lives on"
