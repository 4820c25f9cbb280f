"""What is wrong with the files of a manifest: leaks between splits, shortcuts, unreadable ones."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from model.data.duplicates import find_pairs
from model.data.manifest import Split, leaking_patients, read_manifest
from model.data.reading import ReadPicture, patients_of, read_rows, splits_of
from model.data.shortcut import Shortcut, find_shortcut

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from model.data.manifest import ManifestRow
    from model.data.pictures import SliceReader

CHECK_SIZE = 96
# A single slice has no neighbours that would tell lung from gas in the bowel.
LITTLE_LUNG_CM2 = 25.0


class Kind(StrEnum):
    """What was found; the value is how it is shown."""

    UNREADABLE = "unreadable file"
    PATIENT_LEAK = "patient in two splits"
    EXACT_LEAK = "same image in two splits"
    NEAR_LEAK = "near duplicates in two splits"
    CONTRADICTION = "same image, two classes"
    EMPTY_CLASS = "class without a sample"
    NAME_IN_SOURCES = "patient's name in two sources and splits"
    TWO_NAMES = "near duplicates of two patients"
    REPEATED = "image listed again"
    NO_LUNG = "left out: no lung found"
    LITTLE_LUNG = "little lung: look whether it is bowel"


FAILURES = frozenset(
    {Kind.UNREADABLE, Kind.PATIENT_LEAK, Kind.EXACT_LEAK, Kind.NEAR_LEAK, Kind.CONTRADICTION,
     Kind.EMPTY_CLASS}
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found.

    Attributes
    ----------
    kind
        What it is; those in `FAILURES` have to be mended before training.
    paths
        The files it is about.
    text
        One sentence for a person.
    """

    kind: Kind
    paths: tuple[str, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Count:
    """How much of one source, class and split there is."""

    source: str
    covid: bool | None
    split: Split
    slices: int
    patients: int
    masks: int
    hounsfield: int


@dataclass(frozen=True, slots=True, eq=False)
class Check:
    """What `check_manifest` found; `pictures` and `splits` are there to be drawn."""

    counts: tuple[Count, ...]
    findings: tuple[Finding, ...]
    shortcut: Shortcut
    unknown_patients: int
    pictures: tuple[ReadPicture, ...]
    splits: tuple[Split, ...]

    @property
    def failed(self) -> bool:
        """Whether something has to be mended before training."""
        return any(finding.kind in FAILURES for finding in self.findings)


def check_manifest(
    path: Path, read_slice: SliceReader | None, progress: Callable[[float], None] | None = None
) -> Check:
    """Read everything a manifest lists and look for what would spoil training or figures.

    Parameters
    ----------
    path
        The manifest.
    read_slice
        Reads DICOM.
    progress
        Called with the share that is done, 0 to 1.

    Raises
    ------
    DatasetError
        If the manifest itself is malformed; files that cannot be read are findings.
    """
    manifest = read_manifest(path, check_patients=False)
    unreadable: list[tuple[ManifestRow, str]] = []
    pictures = read_rows(
        manifest, manifest.rows, CHECK_SIZE, read_slice, progress=progress, unreadable=unreadable
    )
    patients = patients_of(manifest, pictures)
    splits = splits_of(pictures, patients)
    findings = [Finding(Kind.UNREADABLE, (row.path,), text) for row, text in unreadable]
    findings += _patient_leaks(manifest.rows)
    findings += _empty_classes(pictures, splits)
    findings += _duplicates(pictures, splits)
    seen = {each.row.path for each in pictures} | {row.path for row, _ in unreadable}
    findings += [
        Finding(Kind.NO_LUNG, (row.path,), f"{row.path} shows no lung and does not train")
        for row in manifest.rows
        if row.path not in seen
    ]
    findings += [
        Finding(Kind.LITTLE_LUNG, (each.name,), f"{each.name} shows {each.lung_cm2:.0f} cm2 of it")
        for each in pictures
        if each.lung_cm2 is not None and each.lung_cm2 < LITTLE_LUNG_CM2
    ]
    return Check(
        counts=_counts(pictures, patients, splits),
        findings=tuple(findings),
        shortcut=find_shortcut(
            (each.row.source, each.covid, own) for each, own in zip(pictures, splits, strict=True)
        ),
        unknown_patients=sum(not each.row.patient for each in pictures),
        pictures=tuple(pictures),
        splits=tuple(splits),
    )


def _patient_leaks(rows: Sequence[ManifestRow]) -> list[Finding]:
    findings = []
    for group in leaking_patients(rows):
        splits = " and ".join(sorted({str(row.split) for row in group}))
        text = f"patient {group[0].patient} of {group[0].source} is in {splits}"
        findings.append(Finding(Kind.PATIENT_LEAK, tuple(row.path for row in group), text))
    names: dict[str, list[ManifestRow]] = {}
    for row in rows:
        if row.patient and row.split:
            names.setdefault(row.patient, []).append(row)
    for name, named in names.items():
        sources = sorted({row.source for row in named})
        if len(sources) > 1 and len({row.split for row in named}) > 1:
            text = f"{name} is a patient of {' and '.join(sources)}; if it is one person, a leak"
            findings.append(Finding(Kind.NAME_IN_SOURCES, tuple(row.path for row in named), text))
    return findings


def _empty_classes(pictures: Sequence[ReadPicture], splits: Sequence[Split]) -> list[Finding]:
    """Find classes without a sample in a split that holds labelled samples."""
    found = Counter(
        (split, each.covid)
        for each, split in zip(pictures, splits, strict=True)
        if each.covid is not None
    )
    used = [split for split in Split if any(key[0] is split for key in found)]
    return [
        Finding(
            Kind.EMPTY_CLASS,
            (),
            f"{split} holds no sample {'with' if covid else 'without'} COVID-19: it cannot train "
            "or judge a classifier",
        )
        for split in used
        for covid in (True, False)
        if not found[split, covid]
    ]


def _duplicates(pictures: Sequence[ReadPicture], splits: Sequence[Split]) -> list[Finding]:
    findings = []
    for pair in find_pairs(pictures):
        left, right = pictures[pair.first], pictures[pair.second]
        kind = _kind(
            left, right, exact=pair.exact, across=splits[pair.first] != splits[pair.second]
        )
        if kind is None:
            continue
        alike = "the same pixels" if pair.exact else f"alike to {pair.correlation:.2f}"
        text = (
            f"{_described(left, splits[pair.first])} and {_described(right, splits[pair.second])} "
            f"are {alike}"
        )
        findings.append(Finding(kind, (left.name, right.name), text))
    return findings


def _kind(left: ReadPicture, right: ReadPicture, *, exact: bool, across: bool) -> Kind | None:
    if exact and None not in (left.covid, right.covid) and left.covid != right.covid:
        return Kind.CONTRADICTION
    if across:
        return Kind.EXACT_LEAK if exact else Kind.NEAR_LEAK
    if exact:
        return Kind.REPEATED
    if left.row.patient and right.row.patient:
        return Kind.TWO_NAMES
    return None  # near duplicates of unknown patients are kept together already


def _described(picture: ReadPicture, split: Split) -> str:
    patient = f"patient {picture.row.patient}" if picture.row.patient else "patient unknown"
    return f"{picture.name} ({picture.row.source}, {patient}, {split})"


def _counts(
    pictures: Sequence[ReadPicture], patients: Sequence[str], splits: Sequence[Split]
) -> tuple[Count, ...]:
    groups: dict[tuple[str, bool | None, Split], list[int]] = {}
    for index, each in enumerate(pictures):
        groups.setdefault((each.row.source, each.covid, splits[index]), []).append(index)
    order = list(Split)
    keys = sorted(groups, key=lambda key: (key[0], str(key[1]), order.index(key[2])))
    return tuple(
        Count(
            *key,
            slices=len(groups[key]),
            patients=len({patients[index] for index in groups[key]}),
            masks=sum(pictures[index].mask is not None for index in groups[key]),
            hounsfield=sum(pictures[index].hounsfield for index in groups[key]),
        )
        for key in keys
    )
