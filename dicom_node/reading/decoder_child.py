"""The child process of a decoder: headers and codestreams of strangers, within limits, one by one.

``python -m dicom_node.reading.decoder_child MEMORY_BYTES SECONDS DESCRIPTOR``: orders come on the
standard input, replies go to the descriptor. It ends with its standard input.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dicom_node.errors import ConfigurationError, RefusedError, is_from_system
from dicom_node.reading.decoder_messages import WALL_CLOCK_FACTOR, Kind, send
from dicom_node.reading.decoding import StoredPixels, compressed_frames
from dicom_node.reading.header import read_header
from dicom_node.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Iterator


def main() -> None:
    """Serve orders until the parent closes the pipe."""
    memory_bytes, seconds, replies = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    # A dump would hold images of patients, and nothing is to be written but replies.
    for limit in (resource.RLIMIT_CORE, resource.RLIMIT_FSIZE):
        resource.setrlimit(limit, (0, 0))
    for number in (signal.SIGALRM, signal.SIGPROF):
        signal.signal(number, signal.SIG_DFL)
    send(replies, Kind.READY)
    for line in sys.stdin.buffer:
        kind, content = _answer(json.loads(line), replies, seconds)
        send(replies, kind, json.dumps(content).encode())


def _answer(order: dict[str, Any], replies: int, seconds: float) -> tuple[Kind, Any]:
    """Do what was ordered and give the last reply to it."""
    try:
        if "pixels" in order:
            _send_frames(StoredPixels.from_json(order["pixels"]), replies, seconds)
            return Kind.END, None
        with _at_most(seconds):
            header = read_header(Path(order["header"]), content_sha256=order["content_sha256"])
            return Kind.HEADER, header.to_json()
    except Exception as error:  # noqa: BLE001 - whatever it is, the parent has to hear of it
        return _told(error)


def _told(error: Exception) -> tuple[Kind, Any]:
    if isinstance(error, RefusedError):
        return Kind.REFUSED, [error.reason.value, error.detail]
    if isinstance(error, MemoryError):
        return Kind.REFUSED, [Reason.DECODER_FAILED.value, "needs more memory than it may take"]
    if isinstance(error, ConfigurationError):
        return Kind.MISCONFIGURED, str(error)
    if isinstance(error, OSError) and is_from_system(error):
        return Kind.SYSTEM, [error.errno, error.strerror]
    return Kind.FAILED, type(error).__name__


def _send_frames(pixels: StoredPixels, replies: int, seconds: float) -> None:
    frames = compressed_frames(pixels)
    while True:
        with _at_most(seconds):
            frame = next(frames, None)
        if frame is None:
            return
        # The parent may be slow to take it: that is no fault of the instance's.
        send(replies, Kind.FRAME, memoryview(frame.tobytes()))


@contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """Let the kernel end this process if it computes for longer, in native code as well."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, WALL_CLOCK_FACTOR * seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.setitimer(signal.ITIMER_PROF, 0)


if __name__ == "__main__":
    main()
