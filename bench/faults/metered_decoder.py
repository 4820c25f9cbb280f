"""A decoder of which each order is measured: its child's processor time and memory."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dicom_node.reading.decoder import Decoder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dicom_node.reading.decoder_process import DecoderProcess

# A child that is ended takes its figures with it: they are those of so long before.
_POLL_SECONDS = 0.01


class MeteredDecoder(Decoder):
    """The product's decoder, with an eye on its child while that works.

    Attributes
    ----------
    longest_seconds
        Most processor time of one order: one header, or the pixels of one instance.
    address_megabytes, resident_megabytes
        Most address space and most memory that any child had, in MiB.
    """

    def __init__(self) -> None:
        super().__init__()
        self.longest_seconds = self.address_megabytes = self.resident_megabytes = 0.0

    @contextmanager
    def _conversation(self, subject: str) -> Iterator[DecoderProcess]:
        with super()._conversation(subject) as child:
            begun = _processor_seconds(child.pid) or 0.0
            ended = threading.Event()
            arguments = (child.pid, begun, ended)
            watch = threading.Thread(target=self._watch, args=arguments, daemon=True)
            watch.start()
            try:
                yield child
            finally:
                ended.set()
                watch.join()

    def _watch(self, pid: int, begun: float, ended: threading.Event) -> None:
        over = False
        while not over:
            # One more look after the end: most orders are shorter than a pause.
            over = ended.wait(_POLL_SECONDS)
            if (seconds := _processor_seconds(pid)) is None:
                return
            address, resident = _peaks_megabytes(pid)
            self.longest_seconds = max(self.longest_seconds, seconds - begun)
            self.address_megabytes = max(self.address_megabytes, address)
            self.resident_megabytes = max(self.resident_megabytes, resident)


def _processor_seconds(pid: int) -> float | None:
    """Give the processor time of a process (proc(5), stat), None for one that is no more."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    user, system = status.rpartition(") ")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def _peaks_megabytes(pid: int) -> tuple[float, float]:
    """Give the most address space and memory of a process; 0 for one that is no more."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0, 0.0
    peaks = {line.split()[0]: int(line.split()[1]) / 1024 for line in lines if line[:2] == "Vm"}
    # An ended process that is still in the table has none.
    return peaks.get("VmPeak:", 0.0), peaks.get("VmHWM:", 0.0)
