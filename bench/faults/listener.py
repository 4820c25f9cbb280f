"""The listener alone in a process of its own: small, quick to start, to be traced and killed.

python -m bench.faults.listener SPOOL PORT MINIMUM_FREE_BYTES [CERTIFICATE KEY AUTHORITIES]
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from support.services import require, skip_or_fail

from bench.faults.results import REPOSITORY
from dicom_node.config import ListenerConfig
from dicom_node.receiving.listener import Listener
from dicom_node.receiving.spool import Spool
from dicom_node.tls import TlsFiles
from worker.embedded.process import ServiceProcess, free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator

AE_TITLE = "LUNGWATCH"
_TRACER_SECONDS = 30


class ListenerProcess:
    """A listener over a spool, on a port of its own.

    Parameters
    ----------
    folder
        For the log, and for the spool unless that is given.
    spool
        Root of the spool.
    minimum_free_bytes
        Its watermark.
    tls
        With what it speaks TLS; None: it does not.
    """

    def __init__(
        self,
        folder: Path,
        *,
        spool: Path | None = None,
        minimum_free_bytes: int = 0,
        tls: TlsFiles | None = None,
    ) -> None:
        self.spool = spool or folder / "spool"
        (self.port,) = free_ports(1)
        files = (tls.certificate, tls.key, tls.authorities) if tls else ()
        arguments = (self.spool, str(self.port), str(minimum_free_bytes), *files)
        self._command = [sys.executable, "-m", "bench.faults.listener", *arguments]
        self._service = ServiceProcess("listener", folder / "listener.log")

    @property
    def pid(self) -> int:
        """Process id."""
        return self._service.pid

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended since."""
        return self._service.running

    def start(self) -> float:
        """Start it and return the seconds until it listens."""
        started = time.monotonic()
        self._service.start(self._command, self._listens, cwd=REPOSITORY)
        return time.monotonic() - started

    def stop(self) -> None:
        """Let it end in good order."""
        self._service.stop()

    def kill(self) -> None:
        """End it with SIGKILL; ended already is fine."""
        self._service.kill()

    def _listens(self) -> bool:
        # A connection would show in a trace; the kernel's table of listening sockets does not.
        listening = f":{self.port:04X} 00000000:0000 0A"
        return listening in Path("/proc/net/tcp").read_text()


@contextlib.contextmanager
def traced(pid: int, *options: str | Path) -> Iterator[None]:
    """Trace a process and all its threads with strace; the process has to end within the block.

    The caller is skipped, as a test is, where strace is missing or may not trace.

    Parameters
    ----------
    pid
        The process; its calls are counted from here on, those of each thread apart.
    *options
        strace's. An option ``--seccomp-bpf`` would keep it from injecting signals.
    """
    program = require("strace")
    probe = subprocess.run([program, "-o", "/dev/null", "true"], capture_output=True, check=False)
    if probe.returncode != 0:
        skip_or_fail("strace may not trace here: the kernel or a container forbids ptrace")
    command = [program, "-f", "-qq", "-p", str(pid), *options]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL) as tracer:
        try:
            while not all(_is_traced(thread) for thread in Path(f"/proc/{pid}/task").iterdir()):
                time.sleep(0.005)
            yield
            tracer.wait(_TRACER_SECONDS)
        finally:
            # Asked to end in good order, strace would wait for ever for a process that is dying.
            tracer.kill()


def _is_traced(thread: Path) -> bool:
    try:
        return "TracerPid:\t0\n" not in (thread / "status").read_text()
    except FileNotFoundError:
        return True


def main(spool: Path, port: int, minimum_free_bytes: int, tls: TlsFiles | None) -> None:
    """Listen until SIGTERM."""
    config = ListenerConfig(
        ae_title=AE_TITLE,
        host="127.0.0.1",
        port=port,
        spool_dir=spool,
        allowed_calling_ae_titles=frozenset({"STORESCU"}),
        minimum_free_bytes=minimum_free_bytes,
        tls=tls,
    )
    # Blocked before there are threads, which inherit it.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    listener = Listener(config, Spool(spool))
    listener.start()
    signal.sigwait({signal.SIGTERM})
    listener.stop()


if __name__ == "__main__":
    names = ("certificate", "key", "authorities")
    files = dict(zip(names, map(Path, sys.argv[4:]), strict=False))
    main(
        Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), TlsFiles(**files) if files else None
    )
