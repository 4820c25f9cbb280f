"""Malformed data sets through spool, intake and reader: none costs more than its own refusal."""

from __future__ import annotations

import copy
import time
import warnings
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from support.ct_corpus import LUNG_DX, P001, real_slices
from support.real_data import real_data

from bench.faults.metered_decoder import MeteredDecoder
from bench.faults.mutations import as_sent, malformed, samples_of
from bench.faults.reading_site import ReadingSite, own_megabytes
from bench.faults.scenario import Outcome, Scenario, Trials
from dicom_node.errors import RefusedError
from dicom_node.reading.reader import read_ct_series
from worker.lifecycle import AT_REST

if TYPE_CHECKING:
    from pathlib import Path

    from bench.faults.mutations import Malformed, Sample

# What the decoder may take: address space, and processor time for each order (header, pixels).
_DECODER_MEGABYTES, _ORDER_SECONDS = 1024, 20.0
# The kernel ends a process at its limit some ticks later.
_TICKS_SECONDS = 0.5
# Both orders on the clock, twice their processor time each, and everything around them.
_DATASET_SECONDS = 4 * _ORDER_SECONDS + 10
_GROWTH_MEGABYTES = 50
# Until then libraries and caches fill.
_WARM = 100


def run(trials: Trials, folder: Path) -> Outcome:
    """Store, record and read one malformed data set after the other."""
    small, large = (_Origin.of(series, folder) for series in (LUNG_DX, P001))
    watch = _Watch()
    with (
        MeteredDecoder() as decoder,
        ReadingSite(folder, decoder) as site,
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        for number in trials.numbers:
            begun = time.monotonic()
            origin = small if number // 20 % 8 else large
            samples = [_with_uids_of_its_own(each, number) for each in origin.samples]
            found = malformed(number, samples)
            watch.end_of(number, found, _pass(site, found, number, origin.neighbour))
            watch.measure(decoder, time.monotonic() - begun)
        site.judge()
        moving = [each for each in site.endings() if each.state not in AT_REST or not each.reason]
        watch.problems += [f"a study is left {each.state} {each.reason}" for each in moving]
        watch.problems += [f"{path.name} waits for ever" for path in site.spool.inbox()]
    return Outcome(
        trials=trials.count,
        acknowledged=trials.count,
        lost=watch.lost,
        duplicated=0,
        recovery_s=None,
        passed=not watch.problems,
        notes=watch.summary(),
    )


@dataclass(frozen=True)
class _Origin:
    """A real slice in its codings, and the slice beside it, with which it makes a volume."""

    samples: list[Sample]
    neighbour: Path

    @classmethod
    def of(cls, series: str, folder: Path) -> _Origin:
        first, second = copy.deepcopy(real_slices(real_data(), series)[3:5])
        neighbour = folder / f"{series}.dcm"
        second.save_as(neighbour)
        compressed = first.file_meta.TransferSyntaxUID.is_compressed
        return cls([as_sent(first)] if compressed else samples_of(first), neighbour)


def _with_uids_of_its_own(sample: Sample, number: int) -> Sample:
    """Let each data set be an instance and a study of its own, without moving a byte."""
    content = sample.content
    for tag in ("08001800", "20000d00"):
        at = content.index(bytes.fromhex(tag)) + 8
        length = int.from_bytes(content[at - 2 : at], "little")
        end = at + length - (content[at + length - 1] == 0)
        content = content[: end - 8] + b"%08d" % (10_000_000 + number) + content[end:]
    return type(sample)(sample.transfer_syntax_uid, content, sample.pixels_at)


def _pass(site: ReadingSite, found: Malformed, number: int, neighbour: Path) -> str:
    """Take one data set through; tell its end, "lost", or what went wrong after a "!"."""
    stored = site.store(found.content, found.transfer_syntax_uid, f"1.2.3.{number}")
    digest = site.spool.digest_of(stored)
    try:
        site.intake.run_once()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
        return f"! intake: {type(error).__name__}"
    row = site.instance(digest)
    if row is None or not (site.spool.root / row.path).is_file():
        return "lost"
    if row.disposition == "quarantined":
        return row.reason or "! quarantined without a reason"
    try:
        read_ct_series([site.spool.root / row.path, neighbour], decoder=site.decoder)
    except RefusedError as error:
        return error.reason
    except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
        return f"! reader: {type(error).__name__}"
    return "read"


class _Watch:
    """What was seen of all trials of a batch."""

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.lost = 0
        self._ends: Counter[str] = Counter()
        self._slowest = self._memory = 0.0
        self._begin: float | None = None
        self._trials = 0

    def end_of(self, number: int, found: Malformed, end: str) -> None:
        self._ends[end] += 1
        self.lost += end == "lost"
        if end == "lost" or end.startswith("!") or end == "processing_error":
            self.problems.append(f"data set {number} ({found.kind}): {end}")

    def measure(self, decoder: MeteredDecoder, seconds: float) -> None:
        self._trials += 1
        self._slowest, self._memory = decoder.longest_seconds, decoder.resident_megabytes
        if self._trials == _WARM:
            self._begin = own_megabytes()
        grown = own_megabytes() - self._begin if self._begin is not None else 0.0
        for name, value, most in (
            ("seconds of processor time for an order", self._slowest, _ORDER_SECONDS),
            ("MB of address space of the decoder", decoder.address_megabytes, _DECODER_MEGABYTES),
            ("MB of growth", grown, _GROWTH_MEGABYTES),
            ("seconds for a data set", seconds, _DATASET_SECONDS),
        ):
            if value > most + _TICKS_SECONDS:
                self.problems.append(f"{value:.0f} {name}")

    def summary(self) -> str:
        """Say it in round figures, so that the notes of many batches are one."""
        if self.problems:
            return f"{len(self.problems)} problems, the first: {self.problems[0]}"
        memory = 100 * -(-int(self._memory) // 100)
        limits = (1, 5, 10, _ORDER_SECONDS, _ORDER_SECONDS + _TICKS_SECONDS)
        seconds = next(limit for limit in limits if self._slowest <= limit)
        return f"decoder below {memory} MB, every order within {seconds:g} s of processor time"


SCENARIO = Scenario(
    name="malformed_datasets",
    title="Malformed data sets, decompression bombs, 20,000 sequences in each other",
    passes_if=(
        "0 crashes of the caller, each refused with a reason or read; the decoder takes at most "
        "1 GB of address space, and 20 s of processor time for each order (header, pixels)"
    ),
    trials=10_000,
    short_trials=200,
    batch=500,
    run=run,
)
