"""The parent's side of a decoder's child process: starting it, its two pipes, and its end."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import select
import signal
import subprocess
import sys
import time
import weakref
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dicom_node
from dicom_node.reading.decoder_messages import HEAD_BYTES, WALL_CLOCK_FACTOR, Kind, unpack_head

_START_SECONDS = 60.0
# The child ends itself at its limit; one that was stopped cannot.
_GRACE_SECONDS = 5.0
# Linux lets anybody have a pipe of this size; a frame of 512 x 512 fits twice.
_PIPE_BYTES = 1 << 20
# No header is as long; a longer reply is the work of a child gone mad.
_LONGEST_REPLY = 1 << 28
# The child gets no secrets: what it reads may take it over.
_INHERITED = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PYTHONHOME", "TZ")


@dataclass(frozen=True, slots=True)
class DecoderLimits:
    """What the child process may take.

    Attributes
    ----------
    memory_bytes
        Its address space, which bounds its memory.
    seconds
        Of processor time, for one header or one compressed frame; `WALL_CLOCK_FACTOR` times that
        on the clock.
    """

    memory_bytes: int = 1 << 30
    seconds: float = 20.0


class DecoderEndedError(Exception):
    """The child is no more.

    Attributes
    ----------
    exit_code
        As of `subprocess.Popen`: that of SIGPROF where it computed for too long, of SIGALRM where
        it took too long on the clock, or had to be killed since it did not answer.
    """

    def __init__(self, exit_code: int) -> None:
        super().__init__(f"exit code {exit_code}")
        self.exit_code = exit_code


class DecoderProcess:
    """A child process that serves `decoder_child`.

    Parameters
    ----------
    limits
        What it may take.

    Attributes
    ----------
    owner
        Id of the process that started it: a fork of that one must leave it alone.

    Raises
    ------
    ChildProcessError
        If it does not start.
    """

    def __init__(self, limits: DecoderLimits) -> None:
        self.owner = os.getpid()
        self._replies, theirs = os.pipe()
        try:
            with suppress(OSError):
                fcntl.fcntl(theirs, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
            self._process = _start(limits, theirs)
        except BaseException:
            os.close(self._replies)
            raise
        finally:
            os.close(theirs)
        self._end = weakref.finalize(self, _end, self._process, self._replies, self.owner)
        self._poll = select.poll()
        self._poll.register(self._replies, select.POLLIN)
        try:
            self.receive(_START_SECONDS)
        except DecoderEndedError as error:
            self.end()
            raise ChildProcessError(errno.ECHILD, "the decoding process does not start") from error

    @property
    def pid(self) -> int:
        """Process id of the child."""
        return self._process.pid

    def order(self, order: dict[str, Any]) -> None:
        """Send an order.

        Raises
        ------
        DecoderEndedError
            If nobody takes it.
        """
        assert self._process.stdin is not None  # noqa: S101 - it was opened as a pipe
        try:
            self._process.stdin.write(json.dumps(order).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise DecoderEndedError(self._exit_code()) from None

    def receive(self, seconds: float) -> tuple[Kind, bytearray]:
        """Wait for the next reply, which may take so many seconds of processor time.

        Raises
        ------
        DecoderEndedError
            If there is none, or none in time.
        """
        deadline = time.monotonic() + WALL_CLOCK_FACTOR * seconds + _GRACE_SECONDS
        try:
            kind, length = unpack_head(self._read(HEAD_BYTES, deadline))
        except ValueError as error:
            raise DecoderEndedError(-signal.SIGABRT) from error
        if length > _LONGEST_REPLY:
            raise DecoderEndedError(-signal.SIGABRT)
        return kind, self._read(length, deadline)

    def end(self) -> None:
        """End it, whatever it does; safe to call twice."""
        self._end()

    def _read(self, count: int, deadline: float) -> bytearray:
        content = bytearray(count)
        view = memoryview(content)
        while view:
            if not self._poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise DecoderEndedError(-signal.SIGALRM)
            got = os.readv(self._replies, [view])
            if got == 0:
                raise DecoderEndedError(self._exit_code())
            view = view[got:]
        return content

    def _exit_code(self) -> int:
        """Give the exit code of a child that closed its pipe."""
        try:
            return self._process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            return -signal.SIGABRT


def _start(limits: DecoderLimits, replies: int) -> subprocess.Popen[bytes]:
    arguments = map(str, (limits.memory_bytes, limits.seconds, replies))
    environment = {name: os.environ[name] for name in _INHERITED if name in os.environ} | {
        "PYTHONPATH": str(Path(str(dicom_node.__file__)).parents[1]),
        # Threads and arenas of malloc reserve address space, which is what the limit counts.
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "MALLOC_ARENA_MAX": "1",
    }
    try:
        return subprocess.Popen(
            # Without -P a module in the working folder could stand in for one of ours.
            [sys.executable, "-P", "-m", "dicom_node.reading.decoder_child", *arguments],
            env=environment,
            stdin=subprocess.PIPE,
            # Codecs write what they like, values of patients among it.
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(replies,),
            # Ctrl-C is for the parent: this one ends with it.
            start_new_session=True,
        )
    except OSError as error:
        # Whatever it is, it is none of the file's that is to be read.
        msg = f"the decoding process does not start: {error.strerror}"
        raise ChildProcessError(errno.ECHILD, msg) from error


def _end(process: subprocess.Popen[bytes], replies: int, owner: int) -> None:
    if os.getpid() != owner:
        return
    process.kill()
    process.wait()
    if process.stdin is not None:
        with suppress(OSError):
            process.stdin.close()
    os.close(replies)
