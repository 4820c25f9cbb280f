"""The folder of a run: what it was made from, how far it is, and what a person reads first."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from model.config import TrainingConfig
from model.errors import ConfigError, TrainingError
from model.files import file_sha256, replaced, write_text
from model.training.checkpoint import has_checkpoint
from model.training.environment import describe_environment
from model.training.run_page import run_page

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from model.data.dataset import Sample
    from model.training.run_state import RunState

CONFIG, DATA, ORIGIN, METRICS = "config.json", "data.sha256", "environment.json", "metrics.csv"
LOCK = "lock"
_TEMPORARY = re.compile(r"\.[\w-]+\.\d+\.\w+")  # as `model.files.replaced` names them


def samples_digest(samples: Sequence[Sample]) -> str:
    """Return the SHA-256 of what a run learns from: order, labels, splits and every pixel."""
    sha256 = hashlib.sha256()
    for sample in samples:
        facts = (sample.path, str(sample.source), sample.split.value, sample.patient, sample.covid)
        sha256.update(repr(facts).encode())
        sha256.update(sample.image.tobytes())
        sha256.update(b"" if sample.mask is None else np.packbits(sample.mask).tobytes())
    return sha256.hexdigest()


class RunFolder:
    """Files of a run beside its checkpoints and weights; each is written whole or not at all.

    Parameters
    ----------
    path
        The folder.
    config
        The run.
    samples
        What it learns from.
    manifest
        The file that lists them, if there is one.
    start_from
        Weights it began with.
    """

    def __init__(
        self,
        path: Path,
        config: TrainingConfig,
        samples: Sequence[Sample],
        manifest: Path | None = None,
        start_from: Sequence[Path] = (),
    ) -> None:
        self.path, self.config, self.manifest = path, config, manifest
        self.origin: dict[str, Any] = {
            "manifest": str(manifest.resolve()) if manifest else "",
            "manifest_sha256": file_sha256(manifest) if manifest else "",
            "samples": len(samples),
            "samples_sha256": samples_digest(samples),
            "start_from": [
                {"file": str(file.resolve()), "sha256": file_sha256(file)} for file in start_from
            ],
        }

    @property
    def checkpoint(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "last"

    def begin(self) -> None:
        """Write what a new run is made from.

        Raises
        ------
        TrainingError
            If the folder holds a run already.
        """
        if has_checkpoint(self.checkpoint):
            raise TrainingError(
                f"{self.path} holds a run already: add --resume, or choose another folder"
            )
        digest = self.origin["manifest_sha256"] or self.origin["samples_sha256"]
        origin = self.origin | describe_environment()
        write_text(self.path / DATA, f"{digest}\n")
        write_text(self.path / CONFIG, self.config.to_json() + "\n")
        write_text(self.path / ORIGIN, json.dumps(origin, indent=2) + "\n")

    def require_same(self) -> None:
        """Check that the run in the folder is this one, as far as one was begun.

        Raises
        ------
        TrainingError
            If settings, manifest, samples or first weights differ: what came out would be
            neither the one run nor the other.
        """
        for folder in (self.path, self.checkpoint):
            for leftover in folder.glob(".*"):  # of a process that was killed
                if _TEMPORARY.fullmatch(leftover.name):
                    leftover.unlink()
        if not (self.path / ORIGIN).exists():
            if has_checkpoint(self.checkpoint):
                raise TrainingError(f"{self.path}: no run of this version: it has no {ORIGIN}")
            return
        different = _different(self._read_config(), self.config)
        if different:
            raise TrainingError(
                f"{self.path} cannot be resumed with other settings ({', '.join(different)}): take "
                f"its own {CONFIG}, or choose another folder"
            )
        origin = json.loads((self.path / ORIGIN).read_text())
        for name in ("manifest", "samples"):
            old, new = origin[f"{name}_sha256"], self.origin[f"{name}_sha256"]
            if old and new and old != new:
                raise TrainingError(
                    f"{self.path} cannot be resumed with other data: the SHA-256 of its {name} was "
                    f"{old}, now it is {new}; go on with the old data, or choose another folder "
                    "and --start-from its weights"
                )
        begun, given = (
            [each["sha256"] for each in facts["start_from"]] for facts in (origin, self.origin)
        )
        if begun != given and (given or not has_checkpoint(self.checkpoint)):
            raise TrainingError(f"{self.path} cannot be resumed: it began with other weights")

    def write(self, state: RunState) -> None:
        """Write metrics and the page a person reads."""
        if state.history:
            with (
                replaced(self.path / METRICS) as temporary,
                temporary.open("w", newline="") as file,
            ):
                writer = csv.DictWriter(file, list(state.history[0]))
                writer.writeheader()
                writer.writerows(state.history)
        write_text(self.path / "README.md", self._page(state))

    def _read_config(self) -> TrainingConfig:
        try:
            return TrainingConfig.from_json((self.path / CONFIG).read_text())
        except (ConfigError, OSError, UnicodeDecodeError) as error:
            raise TrainingError(f"{self.path / CONFIG}: {error}") from error

    def _page(self, state: RunState) -> str:
        origin = json.loads((self.path / ORIGIN).read_text())
        return run_page(self.path, self.config, state, origin)


def _different(old: TrainingConfig, new: TrainingConfig) -> list[str]:
    """Name the settings that differ."""
    before, after = asdict(old), asdict(new)
    names = []
    for name, value in before.items():
        if isinstance(value, dict):
            inner = (each for each in value if value[each] != after[name][each])
            names += [f"{name}.{each}" for each in inner]
        elif value != after[name]:
            names.append(name)
    return sorted(names)
