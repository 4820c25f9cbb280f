"""Headers and compressed frames read in a child process, which may die in our place.

A hostile or damaged data set can make a codec crash, hang, or ask for any amount of memory
(docs/decisions/0054-reading-in-a-child-process.md).
"""

from __future__ import annotations

import errno
import json
import os
import signal
import threading
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Self

import numpy as np

from dicom_node.errors import ConfigurationError, DicomNodeError, RefusedError
from dicom_node.reading.decoder_messages import WALL_CLOCK_FACTOR, Kind
from dicom_node.reading.decoder_process import DecoderEndedError, DecoderLimits, DecoderProcess
from dicom_node.reading.header import InstanceHeader
from dicom_node.reasons import Reason

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from dicom_node.reading.decoding import StoredPixels

# Somebody else ends a process by these: the kernel short of memory, or an operator.
_FROM_OUTSIDE = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP})


class Decoder:
    """Reads headers and decodes frames in a child process.

    The child is started with the first order, by executing Python anew: what this process holds,
    TensorFlow for one, is not forked. It serves until it is closed, or dies; then the next order
    starts another. Threads take turns.

    Parameters
    ----------
    limits
        What the child may take.
    """

    def __init__(self, limits: DecoderLimits | None = None) -> None:
        self._limits = limits or DecoderLimits()
        self._lock = threading.Lock()
        self._process: DecoderProcess | None = None

    @property
    def pid(self) -> int | None:
        """Process id of the child, None where there is none."""
        return self._process.pid if self._process is not None else None

    def read_header(self, path: Path, content_sha256: str = "") -> InstanceHeader:
        """Do what `header.read_header` does.

        Raises
        ------
        RefusedError
            As `header.read_header`; DECODER_FAILED where reading crashed or broke a limit.
        OSError
            If the file cannot be read, or somebody else ended the child: neither says anything
            about the instance.
        """
        with self._conversation(path.name) as child:
            child.order({"header": str(path), "content_sha256": content_sha256})
            kind, payload = child.receive(self._limits.seconds)
            if kind is not Kind.HEADER:
                raise _error_of(kind, payload)
        return InstanceHeader.from_json(json.loads(payload))

    def frames(self, pixels: StoredPixels) -> Iterator[NDArray[np.uint16]]:
        """Do what `decoding.compressed_frames` does.

        Raises
        ------
        RefusedError, ConfigurationError
            As `decoding.compressed_frames`; DECODER_FAILED where a codec crashed or broke a
            limit.
        OSError
            If the file cannot be read, or somebody else ended the child: neither says anything
            about the instance.
        """
        with self._conversation(f"instance {pixels.sop_instance_uid}") as child:
            child.order({"pixels": pixels.to_json()})
            while True:
                kind, payload = child.receive(self._limits.seconds)
                if kind is Kind.END:
                    return
                if kind is not Kind.FRAME:
                    raise _error_of(kind, payload)
                if len(payload) != pixels.frame_bytes:
                    raise DecoderEndedError(-signal.SIGABRT)
                yield np.frombuffer(payload, np.uint16).reshape(pixels.rows, pixels.columns)

    def close(self) -> None:
        """End the child, if there is one."""
        with self._lock:
            self._drop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _conversation(self, subject: str) -> Iterator[DecoderProcess]:
        """Give the child for one order; one that may have more to say about it is ended."""
        with self._lock:
            if self._process is None or self._process.owner != os.getpid():
                self._process = DecoderProcess(self._limits)
            settled = False
            try:
                yield self._process
                settled = True
            except DecoderEndedError as error:
                raise self._verdict(error.exit_code, subject) from error
            except RefusedError as error:
                # Where memory ran out nobody knows what the codec left behind.
                settled = error.reason is not Reason.DECODER_FAILED
                raise
            finally:
                if not settled:
                    self._drop()

    def _verdict(self, exit_code: int, subject: str) -> Exception:
        """Tell what the end of the child says about what it was reading."""
        if -exit_code in _FROM_OUTSIDE:
            return ChildProcessError(errno.ECHILD, "the decoding process was ended from outside")
        seconds = self._limits.seconds
        if exit_code == -signal.SIGPROF:
            what = f"took more than {seconds:g} seconds of processor time to read"
        elif exit_code == -signal.SIGALRM:
            what = f"took more than {WALL_CLOCK_FACTOR * seconds:g} seconds to read"
        else:
            how = signal.Signals(-exit_code).name if exit_code < 0 else f"exit code {exit_code}"
            what = f"made the decoder crash ({how})"
        return RefusedError(Reason.DECODER_FAILED, f"{subject} {what}")

    def _drop(self) -> None:
        if self._process is not None:
            self._process.end()
        self._process = None


@cache
def shared_decoder() -> Decoder:
    """Give the decoder of this process, for whoever has none of its own."""
    return Decoder()


def _error_of(kind: Kind, payload: bytearray) -> Exception:
    """Give the error that a reply tells of."""
    told = json.loads(payload)
    match kind:
        case Kind.REFUSED:
            reason, detail = told
            return RefusedError(Reason(reason), detail)
        case Kind.MISCONFIGURED:
            return ConfigurationError(told)
        case Kind.SYSTEM:
            number, text = told
            return OSError(number, text)
        case _:
            return DicomNodeError(f"{told} while it was read")
