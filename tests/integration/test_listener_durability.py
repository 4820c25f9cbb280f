"""What was answered with success is on disk: the order of system calls, and kill -9."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pydicom import dcmread
from support.services import require

from dicom_node.receiving.spool import Spool
from worker.embedded.process import ServiceProcess, free_ports

if TYPE_CHECKING:
    from support.storescu import Storescu

_REPOSITORY = Path(__file__).resolve().parents[2]
_LISTENER = """
import signal, sys
from pathlib import Path
from dicom_node.config import ListenerConfig
from dicom_node.receiving.listener import Listener
from dicom_node.receiving.spool import Spool

root, port = Path(sys.argv[1]), int(sys.argv[2])
config = ListenerConfig(
    ae_title="LUNGWATCH", host="127.0.0.1", port=port, spool_dir=root,
    allowed_calling_ae_titles=frozenset({"STORESCU"}), minimum_free_bytes=0,
)
listener = Listener(config, Spool(root))
listener.start()
signal.sigwait({signal.SIGTERM})
listener.stop()
"""


# What storescu -v prints for a file that was answered with success.
_ANSWERED = re.compile(r"Sending file: (\S+)\n(?:(?!I: Sending file).*\n)*?.*\(Success\)")


class ListenerProcess:
    """The listener in a process of its own, which can be traced and killed."""

    def __init__(self, folder: Path, *tracer: str | Path) -> None:
        self.spool = Spool(folder / "spool")
        (self.port,) = free_ports(1)
        self._command = [*tracer, sys.executable, "-c", _LISTENER, self.spool.root, str(self.port)]
        self._service = ServiceProcess("listener", folder / "listener.log")

    def start(self) -> None:
        self._service.start(self._command, self._answers, cwd=_REPOSITORY)

    def stop(self) -> None:
        self._service.stop()

    def kill(self) -> None:
        os.kill(self._service.pid, signal.SIGKILL)
        self._service.kill()

    def _answers(self) -> bool:
        # A connection would show in the trace; the kernel's table of listening sockets does not.
        listening = f":{self.port:04X} 00000000:0000 0A"
        return listening in Path("/proc/net/tcp").read_text()


_CALL = re.compile(
    r"^\d+ +(?:"
    r"fsync\(\d+<(?P<synced>[^>]+)>"
    r'|rename\("[^"]+", "(?P<target>[^"]+)"'
    r'|sendto\(\d+<[^>]*>, "\\(?P<pdu>\d))'
)


def events(trace: str, spool: Spool) -> list[str]:
    """The calls that matter, in their order: file, rename, folder, answer."""
    found = []
    for line in trace.splitlines():
        call = _CALL.match(line)
        if call is None:
            continue
        if call["synced"] and call["synced"].startswith(str(spool.root / "incoming")):
            found.append("file")
        elif call["synced"] == str(spool.root / "inbox"):
            found.append("folder")
        elif call["target"] and call["target"].startswith(str(spool.root / "inbox")):
            found.append("rename")
        elif call["pdu"] == "4":
            found.append("answer")
    return found


def test_success_is_answered_after_file_and_folder_are_synchronised(
    data_dir: Path, storescu: Storescu, tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    calls = "trace=fsync,rename,sendto"
    strace = require("strace")
    probe = subprocess.run([strace, "-o", "/dev/null", "true"], capture_output=True, check=False)
    if probe.returncode != 0:
        pytest.skip("strace may not trace here")
    listener = ListenerProcess(
        tmp_path, strace, "-D", "-f", "-y", "-s", "1", "-e", calls, "-o", trace
    )
    listener.start()
    files = sorted((data_dir / "series" / "lung_dx-A0001-s3").glob("*.dcm"))[:20]
    try:
        storescu.send(*files, port=listener.port, called="LUNGWATCH", options=())
    finally:
        listener.stop()
    assert len(list(listener.spool.inbox())) == len(files)
    expected = ["file", "rename", "folder", "answer"] * len(files)
    assert events(trace.read_text(), listener.spool) == expected


def test_kill_in_mid_series_loses_nothing_that_was_answered(
    data_dir: Path, storescu: Storescu, tmp_path: Path
) -> None:
    """Three kills at three depths; what storescu saw answered is whole, and no orphan stays."""
    listener = ListenerProcess(tmp_path)
    files = sorted((data_dir / "series" / "lidc-idri-0001").glob("*.dcm"))
    sent = {str(path): dcmread(path) for path in files}
    killed_in_mid_series = 0
    for depth in (5, 40, 60):
        listener.start()
        inbox = listener.spool.root / "inbox"
        before = sum(1 for _ in inbox.iterdir())

        def kill(goal: int = before + depth, inbox: Path = inbox) -> None:
            deadline = time.monotonic() + 30
            while sum(1 for _ in inbox.iterdir()) < goal and time.monotonic() < deadline:
                time.sleep(0.001)
            listener.kill()

        killer = threading.Thread(target=kill)
        killer.start()
        options = ("--propose-little", "-v")
        done = storescu.send(
            *files[before:], port=listener.port, called="LUNGWATCH", options=options, check=False
        )
        killer.join()
        killed_in_mid_series += done.returncode != 0
        stored = {dataset.SOPInstanceUID: dataset for dataset in map(dcmread, inbox.iterdir())}
        answered = re.findall(_ANSWERED, done.stdout)
        assert len(answered) >= depth // 2
        for path in answered:
            assert stored[sent[path].SOPInstanceUID].PixelData == sent[path].PixelData
    assert killed_in_mid_series == 3
    listener.start()
    storescu.send(*files, port=listener.port, called="LUNGWATCH", options=("--propose-little",))
    listener.stop()
    assert list((listener.spool.root / "incoming").iterdir()) == []
    assert len(list(listener.spool.inbox())) == len(files)
