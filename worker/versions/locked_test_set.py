"""The locked test set of an installation: what promotions are judged on, and that it stays so."""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from model.data.dataset import load_samples
from model.data.fingerprints import (
    file_digests,
    fingerprints_of,
    patient_fingerprint,
    seen_by_version,
)
from model.data.manifest import Split, read_manifest, rebased, write_manifest
from model.registry import TRAINING_DATA_FILE
from worker.db import model_versions
from worker.db.tables import LockedTestSet
from worker.errors import PromotionError
from worker.pseudonyms import Pseudonyms
from worker.settings import PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sqlalchemy.orm import Session

    from model.data.dataset import Sample, SliceReader
    from model.data.fingerprints import Fingerprints
    from model.data.manifest import Manifest, ManifestRow
    from model.registry import RegistryEntry

VARIABLE = f"{PREFIX}LOCKED_TEST_SET"


@dataclass(frozen=True)
class TestSet:
    """The rows of a manifest that are marked as test.

    Attributes
    ----------
    manifest
        The manifest.
    rows
        Its rows of the split ``test``.
    sha256
        Digest of the manifest and of every file that these rows name.
    pseudonyms
        Names that reviewed studies' patients have in training data; None where there are none.
    """

    __test__ = False  # pytest would take its name for a test

    manifest: Manifest
    rows: tuple[ManifestRow, ...]
    sha256: str
    pseudonyms: Pseudonyms | None = None

    def load(
        self, size: int, read_slice: SliceReader, report: Callable[[float], None] | None = None
    ) -> tuple[Sample, ...]:
        """Load the images for one input size; the manifest's other rows are not read."""
        with tempfile.TemporaryDirectory(prefix="lungwatch-test-set-") as folder:
            part = Path(folder) / self.manifest.path.name
            home = self.manifest.folder.absolute()
            write_manifest(part, [rebased(row, home, Path(folder)) for row in self.rows])
            samples = load_samples(part, size, read_slice, progress=report)
        # A patient without other rows to follow, or a cluster, might be hashed elsewhere.
        return tuple(replace(sample, split=Split.TEST) for sample in samples)

    def seen_by(self, entry: RegistryEntry, samples: Iterable[Sample] = ()) -> str | None:
        """Tell what a version had to do with the test set in its training, None if nothing.

        Parameters
        ----------
        entry
            The version.
        samples
            The images of `load`: of files that were written anew the pixels are compared.
        """
        seen = seen_by_version(entry)
        if seen is None:
            return (
                f"{entry.title} does not list what it was trained on, or not as its manifest "
                f"names it ({TRAINING_DATA_FILE}), so nobody can say that it has not seen the "
                "test set"
            )
        shared = self._shared(seen)
        shown = sum(sample.pixels in seen.pixels for sample in samples)
        if shown and not shared:
            shared = f"{shown} images, from other files,"
        return f"{entry.title} has seen {shared} of the test set in training" if shared else None

    @property
    def unnamed(self) -> str | None:
        """Say that patients are unknown, None if all are named."""
        unnamed = sum(not row.patient for row in self.rows)
        if not unnamed:
            return None
        return (
            f"{unnamed} of {len(self.rows)} rows of the test set name no patient: nobody can say "
            "whether a version has seen other images of theirs"
        )

    def refuse_seen_by(self, entry: RegistryEntry) -> None:
        """Refuse a version that is known to have seen the test set: its figures mean nothing.

        Raises
        ------
        PromotionError
            With what it has seen, and what to do.
        """
        seen = seen_by_version(entry)
        shared = self._shared(seen) if seen else ""
        if shared:
            raise PromotionError(
                f"{self.manifest.path} shares {shared} with the training data of {entry.title}: "
                "train without them, or lock a test set without them. If two people have one name "
                "in the two sets, give them different ones"
            )

    def _shared(self, seen: Fingerprints) -> str:
        """Name the files and patients that were seen in training, empty if there are none."""
        own = fingerprints_of(self.manifest, self.rows)
        names = {row.patient for row in self.rows if row.patient}
        known = sorted(name for name in names if self._fingerprints_of(name) & seen.patients)
        parts = []
        if files := len(own.files & seen.files):
            parts.append(f"{files} image files")
        if known:
            more = f" and {len(known) - 5} more" if len(known) > 5 else ""
            parts.append(f"patients {', '.join(known[:5])}{more}")
        return " and ".join(parts)

    def _fingerprints_of(self, patient: str) -> set[str]:
        """Give the fingerprints of a patient's name as it is and as a retraining would list it."""
        names = self.pseudonyms.patient_names(patient) if self.pseudonyms else {patient}
        return {patient_fingerprint(name) for name in names}


WITHOUT_MEASURING = f"To screen with a version without measuring it, pin it with {PREFIX}MODEL"
ON_OTHER_DATA = "To compare on the test rows of another manifest, name it with --data"


def open_test_set(
    path: Path | None,
    purpose: str = ", so no promotion",
    way_out: str = WITHOUT_MEASURING,
    pseudonym_key: Path | None = None,
) -> TestSet:
    """Open the locked test set.

    Parameters
    ----------
    path
        Value of the setting.
    purpose
        What cannot be done where none is set.
    way_out
        What else can be done then.
    pseudonym_key
        File of the installation's key of pseudonyms; it need not exist.

    Raises
    ------
    SettingsError
        If the key of pseudonyms cannot be read.
    PromotionError
        If none is set, or nothing in it is marked as test.
    DatasetError
        If the manifest or one of its files cannot be read.
    """
    if path is None:
        raise PromotionError(
            f"no locked test set{purpose}: set {VARIABLE} to a manifest of images that no network "
            f"was trained on, with the split test (docs/model-registry.md). {way_out}"
        )
    manifest = read_manifest(path)
    rows = tuple(row for row in manifest.rows if row.split is Split.TEST)
    if not rows:
        raise PromotionError(
            f"{path}: none of its rows is marked as test; write test into the column split of the "
            "images that no network may learn from"
        )
    digest = hashlib.sha256(manifest.sha256.encode())
    for name in sorted({name for row in rows for name in (row.path, row.mask) if name}):
        digest.update(f"\n{name} {' '.join(file_digests(manifest.file(name)))}".encode())
    # A test set from the archive has Patient IDs, what a retraining lists are our names for them.
    pseudonyms = Pseudonyms.existing(pseudonym_key) if pseudonym_key else None
    return TestSet(manifest, rows, digest.hexdigest(), pseudonyms)


def require_locked(session: Session, test_set: TestSet, who: str) -> LockedTestSet:
    """Return the test set as it was locked; at its first use it is locked now.

    Raises
    ------
    PromotionError
        If it is not what it was.
    """
    locked = model_versions.locked_test_set(session)
    if locked is None:
        return lock(session, test_set, who, "first use")
    if locked.sha256 != test_set.sha256:
        raise PromotionError(
            f"{test_set.manifest.path}: not the test set that {locked.locked_by} locked on "
            f"{locked.locked_at:%Y-%m-%d} (sha256 {locked.sha256[:12]}, now "
            f"{test_set.sha256[:12]}): the manifest or one of its files was changed. Put it back, "
            'or, if it is meant to be another one, run `lungwatch model lock --reason "..."`'
        )
    return locked


def lock(session: Session, test_set: TestSet, who: str, reason: str) -> LockedTestSet:
    """Put a test set into force and keep its digest."""
    return model_versions.lock_test_set(
        session,
        LockedTestSet(
            locked_by=who,
            path=str(test_set.manifest.path.absolute()),
            sha256=test_set.sha256,
            images=len(test_set.rows),
            reason=reason,
        ),
    )
