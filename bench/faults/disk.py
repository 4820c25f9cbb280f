"""Disks that can fill up and lose their power, and processes that stand still meanwhile."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from support.services import require, skip_or_fail

if TYPE_CHECKING:
    from collections.abc import Iterator

_MIB = 1024**2
_STOP_SECONDS = 30.0
# The writes that a block device has finished (Documentation/admin-guide/iostats).
_WRITES, _IN_FLIGHT = 4, 8


@contextlib.contextmanager
def small_disk(mount_point: Path, mebibytes: int) -> Iterator[Path]:
    """Mount a tmpfs of a few MiB."""
    with _mounted(mount_point, "-t", "tmpfs", "-o", f"size={mebibytes}m", "tmpfs"):
        yield mount_point


class LoopDisk:
    """An ext4 in an image file, whose power can be cut.

    Parameters
    ----------
    folder
        For the image and the mount point.
    mebibytes
        Its size.
    """

    def __init__(self, folder: Path, mebibytes: int) -> None:
        self._image = folder / "disk.img"
        self.root = folder / "disk"
        with self._image.open("wb") as file:
            file.truncate(mebibytes * _MIB)
        subprocess.run([require("mkfs.ext4", "e2fsprogs"), "-q", self._image], check=True)

    @contextlib.contextmanager
    def mounted(self) -> Iterator[None]:
        """Mount it at `root`."""
        with _mounted(self.root, "-o", "loop", self._image):
            yield

    @contextlib.contextmanager
    def after_power_cut(self, mount_point: Path) -> Iterator[Path]:
        """Mount what a power cut would leave now: what has reached the device, and no more.

        The image is copied below the mounted file system. Its writers have to stand still
        (`frozen`); the copy is good when the kernel wrote nothing back during it. Mounting it
        replays the journal, as the machine would when the power is back.
        """
        copy = mount_point.with_suffix(".img")
        while True:
            before = self._activity()
            shutil.copyfile(self._image, copy)
            if before[1] == 0 and before == self._activity():
                break
            time.sleep(0.01)
        with _mounted(mount_point, "-o", "loop", copy):
            yield mount_point
        copy.unlink()

    def _activity(self) -> tuple[int, int]:
        """Give the writes its loop device has done, and those under way."""
        device = self.root.stat().st_dev
        figures = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat").read_text()
        return int(figures.split()[_WRITES]), int(figures.split()[_IN_FLIGHT])


@contextlib.contextmanager
def frozen(pid: int) -> Iterator[None]:
    """Stop a process where it is; a system call that cannot be interrupted ends first."""
    os.kill(pid, signal.SIGSTOP)
    try:
        deadline = time.monotonic() + _STOP_SECONDS
        while not all(_stands_still(thread) for thread in Path(f"/proc/{pid}/task").iterdir()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"process {pid} did not stop")
            time.sleep(0.0005)
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def _stands_still(thread: Path) -> bool:
    # proc(5), stat: the state follows the name, which may hold anything but its own end.
    return (thread / "stat").read_text().rpartition(") ")[2].startswith("T")


@contextlib.contextmanager
def _mounted(mount_point: Path, *what: str | Path) -> Iterator[None]:
    if os.getuid() != 0:
        skip_or_fail("only root may mount a disk of its own")
    mount_point.mkdir(exist_ok=True)
    done = subprocess.run(
        ["mount", *what, mount_point], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        skip_or_fail(f"no disk can be mounted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", mount_point], check=True)
