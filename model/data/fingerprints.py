"""What a network has seen, as digests: enough to find it again in a test set, and no more."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from model.data.manifest import Split, read_manifest
from model.errors import DatasetError, RegistryError
from model.files import file_sha256, write_text
from model.registry import TRAINING_DATA_FILE

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from model.data.manifest import Manifest, ManifestRow
    from model.registry import RegistryEntry

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Fingerprints:
    """Digests of patients, image files and what they show.

    Attributes
    ----------
    patients
        SHA-256 of each known patient's name, whatever source calls him so: one hospital's patient
        must not become another by a source's name.
    files
        SHA-256 of each image file; of a series, of each of its files.
    pixels
        Digest of each slice's grey values (`model.data.dataset.Sample.pixels`): an image that was
        saved anew is still the same. Versions released earlier list none.
    """

    patients: frozenset[str]
    files: frozenset[str]
    pixels: frozenset[str] = frozenset()

    def __or__(self, other: Fingerprints) -> Fingerprints:
        """Return what either of them has seen."""
        return Fingerprints(
            self.patients | other.patients, self.files | other.files, self.pixels | other.pixels
        )

    def write(self, path: Path) -> None:
        """Write them as JSON, whole or not at all."""
        document = {
            "format": FORMAT,
            "patients": sorted(self.patients),
            "files": sorted(self.files),
            "pixels": sorted(self.pixels),
        }
        write_text(path, json.dumps(document, indent=1) + "\n")


def read_fingerprints(path: Path) -> Fingerprints | None:
    """Read what `Fingerprints.write` wrote, None if there is no such file.

    Raises
    ------
    RegistryError
        If the file is something else.
    """
    try:
        document = json.loads(path.read_text())
        if document["format"] != FORMAT:
            raise RegistryError(f"{path}: format {document['format']}, this version reads {FORMAT}")
        return Fingerprints(
            frozenset(document["patients"]),
            frozenset(document["files"]),
            frozenset(document.get("pixels", ())),
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RegistryError(f"{path}: is no list of training data: {error}") from error


def seen_by_version(entry: RegistryEntry) -> Fingerprints | None:
    """Read what a version says it has seen.

    Returns
    -------
    Fingerprints or None
        None if it does not say it; a list that is not the one its manifest names says nothing,
        since it was put there or shortened afterwards.

    Raises
    ------
    RegistryError
        If its list cannot be read.
    """
    path, named = entry.folder / TRAINING_DATA_FILE, entry.manifest.training_data_sha256
    try:
        if named and file_sha256(path) != named:
            return None
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RegistryError(f"{path}: cannot be read: {error.strerror}") from error
    return read_fingerprints(path)


def training_fingerprints(manifest: Path) -> Fingerprints:
    """Take the fingerprints of all that a manifest lets train or choose thresholds.

    Parameters
    ----------
    manifest
        A data manifest; its rows of the split ``test`` do not count.

    Raises
    ------
    DatasetError
        If the manifest or a file it names cannot be read.
    """
    listed = read_manifest(manifest)
    return fingerprints_of(listed, (row for row in listed.rows if row.split is not Split.TEST))


def fingerprints_of(manifest: Manifest, rows: Iterable[ManifestRow]) -> Fingerprints:
    """Take the fingerprints of some rows of a manifest; see `training_fingerprints`."""
    chosen = list(rows)
    paths = dict.fromkeys(manifest.file(row.path) for row in chosen)
    return Fingerprints(
        frozenset(patient_fingerprint(row.patient) for row in chosen if row.patient),
        frozenset(digest for path in paths for digest in file_digests(path)),
    )


def patient_fingerprint(patient: str) -> str:
    """Return the SHA-256 of a patient's name."""
    return hashlib.sha256(patient.strip().encode()).hexdigest()


def file_digests(path: Path) -> list[str]:
    """Return the SHA-256 of a file, or of every file below a folder, in the order of their paths.

    The files of a series may lie in folders of its own; whoever reads it finds them there.

    Raises
    ------
    DatasetError
        If one cannot be read.
    """
    try:
        files = _files_below(path) if path.is_dir() else [path]
        return [file_sha256(file) for file in files]
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error.strerror}") from error


def _files_below(folder: Path) -> list[Path]:
    found = (each for each in folder.rglob("*") if each.is_file())
    return sorted(found, key=lambda each: each.relative_to(folder))
