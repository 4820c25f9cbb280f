"""What the decoder's child process costs: real compressed series read with it and without.

``python bench/decoding.py SERIES_FOLDER``: decodes every instance in this process and in the child,
taking turns, and reads the whole series both ways. Trust the ratios.
"""

from __future__ import annotations

import argparse
import statistics
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from dicom_node.reading.decoder import Decoder
from dicom_node.reading.decoding import StoredPixels, compressed_frames
from dicom_node.reading.header import read_dataset, read_header
from dicom_node.reading.reader import read_ct_series

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class InPlace(Decoder):
    """Decodes in this process, as was done before there was a child."""

    read_header = staticmethod(read_header)
    frames = staticmethod(compressed_frames)


def main() -> None:
    arguments = parse_arguments()
    paths = sorted(arguments.series.rglob("*.dcm"))
    pixels = [pixels_of(path) for path in paths]
    begun = time.perf_counter()
    with Decoder() as child:
        child.read_header(paths[0])
        print(f"start of the child: {time.perf_counter() - begun:.2f} s, once")
        ways = {"in place": InPlace(), "child": child}
        for what, task in (
            (f"headers of {len(paths)} instances", lambda way: [way.read_header(p) for p in paths]),
            (f"frames of {len(paths)} instances", lambda way: decode_all(way, pixels)),
            ("the whole series", lambda way: read_ct_series(paths, decoder=way)),
        ):
            compare(what, ways, task, arguments.rounds)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("series", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


def pixels_of(path: Path) -> StoredPixels:
    dataset, extent, _ = read_dataset(path)
    assert extent is not None
    return StoredPixels.of(path, dataset, extent.offset)


def decode_all(way: Decoder, pixels: Iterable[StoredPixels]) -> None:
    for each in pixels:
        with closing(way.frames(each)) as frames:
            for _ in frames:
                pass


def compare(
    what: str, ways: dict[str, Decoder], task: Callable[[Decoder], object], rounds: int
) -> None:
    """Measure both ways in turn, so that a busy machine is busy for both."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            begun = time.perf_counter()
            task(way)
            seconds[name].append(time.perf_counter() - begun)
    alone, child = (statistics.median(each) for each in seconds.values())
    print(f"{what}: in place {alone:.2f} s, child {child:.2f} s, ratio {child / alone:.2f}")


if __name__ == "__main__":
    main()
