"""The data of a retraining: base and reviewed studies together, and nothing that is locked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from model.data.fingerprints import Fingerprints, fingerprints_of, patient_fingerprint
from model.data.manifest import LabelOrigin, Split, merge, read_manifest, write_manifest
from model.errors import DatasetError, TrainingError
from worker.locked_test_set import open_test_set
from worker.reviewed_data import LeftOut

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from model.data.manifest import Manifest, ManifestRow
    from worker.pseudonyms import Pseudonyms
    from worker.retraining.request import RetrainingRequest
    from worker.reviewed_data import ReviewedData, ReviewedStudy

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


def collect(
    request: RetrainingRequest, reviewed: ReviewedData, locked_test_set: Path | None, report: Report
) -> Collected:
    """Export the reviewed studies and merge them with the base data, into the run folder.

    Reviewed studies of patients in the locked test set, and those whose images are gone, are left
    out. Rows of the split test teach
    nothing and stay behind. Labels are a person's throughout.

    Raises
    ------
    TrainingError
        If no reviewed study is left.
    DatasetError
        If the base data hold a pseudo-label, or an image or patient of the locked test set.
    PromotionError
        If the locked test set holds no test row.
    """
    locked = _locked(locked_test_set, reviewed.pseudonyms)
    base = _base(request, locked, reviewed.pseudonyms)
    taken, left_out = reviewed.collect()
    hidden = [study for study in taken if locked is not None and _is_patient_of(study, locked)]
    left_out += tuple(LeftOut(s.study_id, "its patient is in the locked test set") for s in hidden)
    studies = tuple(study for study in taken if study not in hidden)
    folder = request.folder / REVIEWED
    rows, gone = reviewed.export(
        studies,
        folder,
        request.slices_per_study,
        lambda done: report("writing the reviewed studies", done),
    )
    left_out += gone
    if not rows:
        why = "; ".join(f"study {each.study_id}: {each.why}" for each in left_out)
        raise TrainingError(_NOTHING_REVIEWED.format(why=f" ({why})" if why else ""))
    without = {each.study_id for each in gone}
    studies = tuple(study for study in studies if study.study_id not in without)
    write_manifest(folder / MANIFEST, rows)
    report("merging the data", None)
    path = request.folder / MANIFEST
    parts = [*base, read_manifest(folder / MANIFEST)]
    _require_apart(parts[-1], parts[-1].rows, locked, reviewed.pseudonyms)
    write_manifest(path, [row for row in merge(parts, path.parent) if row.split is not Split.TEST])
    return Collected(read_manifest(path), studies, left_out)


def _base(
    request: RetrainingRequest, locked: Fingerprints | None, pseudonyms: Pseudonyms
) -> list[Manifest]:
    if not request.base:
        return []
    manifest = read_manifest(Path(request.base))
    pseudo = [row for row in manifest.rows if row.label_origin is not LabelOrigin.HUMAN]
    if pseudo:
        raise manifest.error(
            pseudo[0],
            f"a pseudo-label ({len(pseudo)} rows have one): a site's retraining learns from what "
            "people said alone; take these rows out",
        )
    taught = [row for row in manifest.rows if row.split is not Split.TEST]
    _require_apart(manifest, taught, locked, pseudonyms)
    return [manifest]


def _locked(path: Path | None, pseudonyms: Pseudonyms) -> Fingerprints | None:
    """Take the fingerprints of the test set, its patients under every name they may have here."""
    if path is None:
        return None
    test_set = open_test_set(path)
    as_listed = fingerprints_of(test_set.manifest, test_set.rows)
    return Fingerprints(_patients(test_set.rows, pseudonyms), as_listed.files)


def _patients(rows: Iterable[ManifestRow], pseudonyms: Pseudonyms) -> frozenset[str]:
    known = {row.patient for row in rows if row.patient}
    names = {name for patient in known for name in pseudonyms.patient_names(patient)}
    return frozenset(map(patient_fingerprint, names))


def _is_patient_of(study: ReviewedStudy, locked: Fingerprints) -> bool:
    """Tell whether the test set knows the patient, by Patient ID or by our name for him."""
    own = {study.patient, patient_fingerprint(study.pseudonym.patient)}
    return bool(own & locked.patients)


def _require_apart(
    manifest: Manifest,
    rows: Iterable[ManifestRow],
    locked: Fingerprints | None,
    pseudonyms: Pseudonyms,
) -> None:
    """Refuse to learn from what promotions are judged on: the figures would mean nothing."""
    if locked is None:
        return
    for row in rows:
        files = fingerprints_of(manifest, [row]).files & locked.files
        if files or _patients([row], pseudonyms) & locked.patients:
            what = "image" if files else f"patient {row.patient}"
            raise DatasetError(
                f"{manifest.path}: {row.path}: its {what} is in the locked test set, from which "
                "nothing may be learned; take it out of one of the two"
            )
