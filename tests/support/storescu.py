"""DCMTK's storescu as a modality or PACS would send."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from support.services import require

if TYPE_CHECKING:
    from pathlib import Path

# What storescu has to propose for a compressed file; it knows no option for JPEG process 14.
COMPRESSED_OPTIONS = {
    "1.2.840.10008.1.2.4.70": "--propose-lossless",
    "1.2.840.10008.1.2.4.80": "--propose-jls-lossless",
    "1.2.840.10008.1.2.4.90": "--propose-j2k-lossless",
    "1.2.840.10008.1.2.5": "--propose-rle",
}

# Debian's DCMTK stalls 40 ms for each C-STORE without it.
ENVIRONMENT = {**os.environ, "TCP_NODELAY": "1"}


class Storescu:
    """Sends files and folders with /usr/bin/storescu, never pynetdicom's of the same name."""

    def __init__(self, ae_title: str = "STORESCU") -> None:
        self.ae_title = ae_title
        self._program = require("storescu", "dcmtk")

    def command(
        self,
        *paths: Path,
        port: int,
        called: str,
        calling: str | None = None,
        options: tuple[str, ...] = ("--propose-lossless",),
        host: str = "127.0.0.1",
    ) -> list[str]:
        """The command line that sends; see `send`."""
        command = [str(self._program), "-R", "+sd", "+r", *options]
        command += ["-aet", calling or self.ae_title, "-aec", called, host, str(port)]
        return [*command, *map(str, paths)]

    def send(
        self,
        *paths: Path,
        port: int,
        called: str,
        calling: str | None = None,
        options: tuple[str, ...] = ("--propose-lossless",),
        check: bool = True,
        host: str = "127.0.0.1",
        timeout: float = 300,
    ) -> subprocess.CompletedProcess[str]:
        """Send files and, recursively, folders; with `check`, a failure fails the test.

        `options` must fit the transfer syntax (`COMPRESSED_OPTIONS`); -xs covers uncompressed
        files too. -R proposes only the SOP classes needed, which Comprehensive 3D SR depends on.
        """
        command = self.command(
            *paths, port=port, called=called, calling=calling, options=options, host=host
        )
        done = subprocess.run(
            command,
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
        )
        if check:
            assert done.returncode == 0, done.stdout
            assert "E: " not in done.stdout, done.stdout
        return done
