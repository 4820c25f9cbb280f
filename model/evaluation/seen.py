"""How much of what is measured a version has seen before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from model.data.fingerprints import file_digests, patient_fingerprint
from model.data.manifest import read_manifest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from model.data.dataset import Sample
    from model.data.fingerprints import Fingerprints


def images_seen(manifest: Path, samples: Sequence[Sample], seen: Fingerprints) -> int:
    """Count the images whose file or patient trained a version or chose its thresholds.

    Parameters
    ----------
    manifest
        Data manifest that lists the samples.
    samples
        The images that are measured.
    seen
        What the version was made from.

    Raises
    ------
    DatasetError
        If the manifest or a file cannot be read.
    """
    listed = read_manifest(manifest)
    rows = {row.path: row for row in listed.rows}
    known: dict[str, bool] = {}
    count = 0
    for sample in samples:
        # A slice of a series is named by its row's path, # and its number.
        path = sample.path if sample.path in rows else sample.path.rpartition("#")[0]
        row = rows[path]
        if path not in known:
            patient = bool(row.patient) and patient_fingerprint(row.patient) in seen.patients
            files = file_digests(listed.file(row.path))
            known[path] = patient or not seen.files.isdisjoint(files)
        count += known[path]
    return count
