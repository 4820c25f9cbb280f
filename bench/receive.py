"""Store rate of the listener beside DCMTK's storescp, from the same storescu: trust the ratio.

``python bench/receive.py SERIES_FOLDER``; ``--folder`` says on which file system both receivers
write, for instance /dev/shm to leave the disk out. storescp synchronises nothing; the listener
synchronises every file and its folder before it answers.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pydicom import dcmread
from pydicom.uid import generate_uid

from worker.embedded.process import ServiceProcess, free_ports

LISTENER = """
import signal, sys
from pathlib import Path
from dicom_node.config import ListenerConfig
from dicom_node.receiving.listener import Listener
from dicom_node.receiving.spool import Spool
root = Path(sys.argv[1])
listener = Listener(ListenerConfig(
    ae_title="BENCH", host="127.0.0.1", port=int(sys.argv[2]), spool_dir=root,
    allowed_calling_ae_titles=frozenset("*"), minimum_free_bytes=0), Spool(root))
listener.start()
signal.sigwait({signal.SIGTERM})
listener.stop()
"""
# Debian's DCMTK stalls 40 ms per C-STORE without it, and the ratio would mean nothing.
ENVIRONMENT = {**os.environ, "TCP_NODELAY": "1"}


def main() -> None:
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        shares = prepare(arguments.series, folder / "images", arguments.copies)
        count = sum(1 for _ in (folder / "images").rglob("*.dcm"))
        size = sum(path.stat().st_size for path in (folder / "images").rglob("*.dcm"))
        print(f"{count} images, {size / 1e6:.0f} MB, {arguments.folder or tempfile.gettempdir()}")
        for associations in arguments.associations:
            rates: dict[str, list[float]] = {"storescp": [], "lungwatch": []}
            # Taking turns, so that a busy machine is busy for both.
            for round_ in range(arguments.rounds):
                for receiver, measured in rates.items():
                    target = folder / f"{receiver}-{associations}-{round_}"
                    target.mkdir()
                    seconds = measure(receiver, target, shares, associations)
                    measured.append(count / seconds)
                    shutil.rmtree(target)
            storescp, lungwatch = (statistics.median(values) for values in rates.values())
            print(
                f"{associations} associations: storescp {storescp:.0f}/s, lungwatch "
                f"{lungwatch:.0f}/s, ratio {lungwatch / storescp:.2f}"
            )


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("series", type=Path)
    parser.add_argument("--copies", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--associations", type=int, nargs="+", default=[1, 4])
    return parser.parse_args()


def prepare(series: Path, folder: Path, copies: int) -> list[Path]:
    """Copy the series under new UIDs: exact duplicates would cost the listener nothing."""
    paths = sorted(series.rglob("*.dcm"))
    shares = []
    for copy in range(copies):
        for number, path in enumerate(paths):
            dataset = dcmread(path)
            dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            share = folder / f"{number % 8}"
            share.mkdir(parents=True, exist_ok=True)
            dataset.save_as(share / f"{copy}-{number}.dcm")
            shares.append(share)
    return sorted(set(shares))


def measure(receiver: str, target: Path, shares: list[Path], associations: int) -> float:
    """Seconds until all images are answered."""
    (port,) = free_ports(1)
    with ServiceProcess(receiver, target.with_suffix(".log")) as service:
        command: list[str | Path] = (
            ["/usr/bin/storescp", "+B", "+xa", "--fork", "-od", target, str(port)]
            if receiver == "storescp"
            else [sys.executable, "-c", LISTENER, target, str(port)]
        )
        service.start(command, lambda: echo(port), environment=ENVIRONMENT, cwd=Path.cwd())
        started = time.perf_counter()
        with ThreadPoolExecutor(associations) as pool:
            list(pool.map(lambda each: send(shares[each::associations], port), range(associations)))
        return time.perf_counter() - started


def echo(port: int) -> bool:
    command = ["/usr/bin/echoscu", "-aec", "BENCH", "127.0.0.1", str(port)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def send(folders: list[Path], port: int) -> None:
    command = ["/usr/bin/storescu", "-R", "-xs", "-aec", "BENCH", "+sd", "127.0.0.1", str(port)]
    subprocess.run([*command, *folders], env=ENVIRONMENT, check=True)


if __name__ == "__main__":
    main()
