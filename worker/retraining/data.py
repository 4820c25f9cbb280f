"""The data of a retraining: base and reviewed studies together, and nothing that is locked."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from model.data.check import CHECK_SIZE
from model.data.duplicates import find_pairs
from model.data.fingerprints import Fingerprints, fingerprints_of, patient_fingerprint
from model.data.manifest import (
    LabelOrigin,
    Manifest,
    Split,
    merge,
    read_manifest,
    rebased,
    write_manifest,
)
from model.data.reading import patients_of, read_rows
from model.errors import DatasetError, TrainingError
from worker.review.reviewed_data import LeftOut
from worker.versions.locked_test_set import open_test_set

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from model.data.manifest import ManifestRow
    from model.data.pictures import SliceReader
    from model.data.reading import ReadPicture
    from worker.pseudonyms import Pseudonyms
    from worker.retraining.request import RetrainingRequest
    from worker.review.reviewed_data import ReviewedData, ReviewedStudy

    Report = Callable[[str, float | None], None]

MANIFEST, REVIEWED = "manifest.csv", "reviewed"
_NOTHING_REVIEWED = (
    "no reviewed study teaches anything{why}: review some with `lungwatch studies review`, then "
    "retrain"
)


@dataclass(frozen=True, slots=True)
class Collected:
    """What a manifest was merged from.

    Attributes
    ----------
    manifest
        The merged one, on disk.
    studies
        The reviewed studies in it.
    left_out
        The reviewed studies that are not.
    """

    manifest: Manifest
    studies: tuple[ReviewedStudy, ...]
    left_out: tuple[LeftOut, ...]


@dataclass(frozen=True, slots=True)
class _Locked:
    """What must not be learned from: fingerprints of the test set, and its images to compare."""

    seen: Fingerprints
    pictures: tuple[ReadPicture, ...]

    def images_in(self, pictures: Iterable[ReadPicture]) -> dict[str, str]:
        """Name the locked image that a row shows again, by the row's path.

        Files that were written anew have other digests but the same pixels. Where the test set
        names no patient, near duplicates count too: they may be the patient's other slices.
        """
        own, found = list(pictures), dict[str, str]()
        for pair in find_pairs([*self.pictures, *own]):
            if pair.first < len(self.pictures) <= pair.second:
                locked, row = self.pictures[pair.first], own[pair.second - len(self.pictures)].row
                if pair.exact or not locked.row.patient:
                    found.setdefault(row.path, locked.name)
        return found


def collect(
    request: RetrainingRequest,
    reviewed: ReviewedData,
    locked_test_set: Path | None,
    read_slice: SliceReader,
    report: Report,
) -> Collected:
    """Export the reviewed studies and merge them with the base data, into the run folder.

    Reviewed studies whose patient or images are in the locked test set or among the test rows of
    the base data, and those whose images are gone, are left out. Rows of the split test teach
    nothing and stay behind, with all others of their patients. Labels are a person's throughout.

    Raises
    ------
    TrainingError
        If no reviewed study is left.
    DatasetError
        If the base data hold a pseudo-label, or an image or patient of the locked test set.
    PromotionError
        If the locked test set holds no test row.
    """
    names = reviewed.pseudonyms
    locked = _locked(locked_test_set, request, names, read_slice, report)
    base, tested = _base(request, locked, names, read_slice, report)
    taken, left_out = reviewed.collect()
    apart = [
        (patients, where)
        for patients, where in (
            (locked.seen.patients if locked else frozenset(), "in the locked test set"),
            (tested, "among the test rows of the base data"),
        )
        if patients
    ]
    hidden = {
        study.study_id: f"its patient is {where}"
        for patients, where in apart
        for study in taken
        if _is_patient_of(study, patients)
    }
    left_out += tuple(LeftOut(study, why) for study, why in hidden.items())
    studies = tuple(study for study in taken if study.study_id not in hidden)
    folder = request.folder / REVIEWED
    rows, gone = reviewed.export(
        studies,
        folder,
        request.slices_per_study,
        lambda done: report("writing the reviewed studies", done),
    )
    left_out += gone
    without = {each.study_id for each in gone}
    studies = tuple(study for study in studies if study.study_id not in without)
    if rows and locked is not None:
        shown = _shown_again(folder, rows, locked, read_slice, report)
        left_out += tuple(
            LeftOut(study.study_id, "its images are in the locked test set")
            for study, row in zip(studies, rows, strict=True)
            if row.path in shown
        )
        studies = tuple(s for s, row in zip(studies, rows, strict=True) if row.path not in shown)
        rows = tuple(row for row in rows if row.path not in shown)
    if not rows:
        why = "; ".join(f"study {each.study_id}: {each.why}" for each in left_out)
        raise TrainingError(_NOTHING_REVIEWED.format(why=f" ({why})" if why else ""))
    write_manifest(folder / MANIFEST, rows)
    report("merging the data", None)
    path = request.folder / MANIFEST
    parts = [*base, read_manifest(folder / MANIFEST)]
    _require_apart(parts[-1], parts[-1].rows, locked, names)
    write_manifest(path, merge(parts, path.parent))
    return Collected(read_manifest(path), studies, left_out)


def _base(
    request: RetrainingRequest,
    locked: _Locked | None,
    pseudonyms: Pseudonyms,
    read_slice: SliceReader,
    report: Report,
) -> tuple[list[Manifest], frozenset[str]]:
    """Read what of the base data may teach, and the fingerprints of its patients that may not."""
    if not request.base:
        return [], frozenset()
    manifest = read_manifest(Path(request.base))
    pseudo = [row for row in manifest.rows if row.label_origin is not LabelOrigin.HUMAN]
    if pseudo:
        raise manifest.error(
            pseudo[0],
            f"a pseudo-label ({len(pseudo)} rows have one): a site's retraining learns from what "
            "people said alone; take these rows out",
        )
    tests = [row for row in manifest.rows if row.split is Split.TEST]
    # Named rows are compared before hours of reading.
    named = {(row.source, row.patient) for row in tests if row.patient}
    taught = [
        row
        for row in manifest.rows
        if row.split is not Split.TEST and (row.source, row.patient) not in named
    ]
    _require_apart(manifest, taught, locked, pseudonyms)
    read = read_rows(
        manifest,
        # Lesions are of no concern here, and reading them takes time.
        [replace(row, mask="") for row in (*taught, *tests)],
        CHECK_SIZE,
        read_slice,
        progress=lambda done: report("comparing the base data", done),
    )
    patients = patients_of(manifest, read)
    tested = {who for each, who in zip(read, patients, strict=True) if each.row.split is Split.TEST}
    behind = {each.row.path for each, who in zip(read, patients, strict=True) if who in tested}
    taught = [row for row in taught if row.path not in behind]
    if locked is not None:
        kept = {row.path: row for row in taught}
        shown = locked.images_in(each for each in read if each.row.path in kept)
        for path, image in shown.items():
            raise manifest.error(
                kept[path],
                f"{path}: shows what {image} of the locked test set shows, from which nothing may "
                "be learned; take it out of one of the two, or, if these are two persons, write "
                "the patient into the test set",
            )
    return [replace(manifest, rows=tuple(taught))] if taught else [], _patients(tests, pseudonyms)


def _shown_again(
    folder: Path,
    rows: tuple[ManifestRow, ...],
    locked: _Locked,
    read_slice: SliceReader,
    report: Report,
) -> dict[str, str]:
    """Find the exported studies that the locked test set shows under no or another name."""
    exported = Manifest(folder / MANIFEST, rows, "")
    read = read_rows(
        exported,
        [replace(row, mask="") for row in rows],
        CHECK_SIZE,
        read_slice,
        progress=lambda done: report("comparing the reviewed studies", done),
    )
    return locked.images_in(read)


def _locked(
    path: Path | None,
    request: RetrainingRequest,
    pseudonyms: Pseudonyms,
    read_slice: SliceReader,
    report: Report,
) -> _Locked | None:
    """Read the test set, its patients under every name they may have here."""
    if path is None:
        return None
    test_set = open_test_set(path)
    as_listed = fingerprints_of(test_set.manifest, test_set.rows)
    home = test_set.manifest.folder.absolute()
    pictures = read_rows(
        test_set.manifest,
        # The same path in another folder is another file.
        [replace(rebased(row, home, request.folder), mask="") for row in test_set.rows],
        CHECK_SIZE,
        read_slice,
        progress=lambda done: report("reading the locked test set", done),
    )
    seen = Fingerprints(_patients(test_set.rows, pseudonyms), as_listed.files)
    return _Locked(seen, tuple(pictures))


def _patients(rows: Iterable[ManifestRow], pseudonyms: Pseudonyms) -> frozenset[str]:
    known = {row.patient for row in rows if row.patient}
    names = {name for patient in known for name in pseudonyms.patient_names(patient)}
    return frozenset(map(patient_fingerprint, names))


def _is_patient_of(study: ReviewedStudy, patients: frozenset[str]) -> bool:
    """Tell whether a test set knows the patient, by Patient ID or by our name for him."""
    return bool({study.patient, patient_fingerprint(study.pseudonym.patient)} & patients)


def _require_apart(
    manifest: Manifest,
    rows: Iterable[ManifestRow],
    locked: _Locked | None,
    pseudonyms: Pseudonyms,
) -> None:
    """Refuse to learn from what promotions are judged on: the figures would mean nothing."""
    if locked is None:
        return
    for row in rows:
        files = fingerprints_of(manifest, [row]).files & locked.seen.files
        if files or _patients([row], pseudonyms) & locked.seen.patients:
            what = "image" if files else f"patient {row.patient}"
            raise DatasetError(
                f"{manifest.path}: {row.path}: its {what} is in the locked test set, from which "
                "nothing may be learned; take it out of one of the two"
            )
