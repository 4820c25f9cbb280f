"""The whole way of a retraining: from reviewed studies and base data to candidate and verdict."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from model.data.dataset import Split, load_samples
from model.data.fingerprints import seen_by_version, training_fingerprints
from model.data.manifest import LabelOrigin, read_manifest, write_manifest
from model.errors import RegistryError, TrainingError
from model.files import write_text
from model.registry import read_entry
from model.release import Identity, ReleaseOptions, release_run
from model.training.trainer import Trainer
from worker.retraining.config import retraining_config
from worker.retraining.data import MANIFEST, collect
from worker.review.reviewed_data import SOURCE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from model.comparison import Comparison
    from model.data.dataset import Sample, SliceReader
    from model.data.fingerprints import Fingerprints
    from model.registry import Registry, RegistryEntry
    from worker.retraining.request import RetrainingRequest
    from worker.review.reviewed_data import ReviewedData
    from worker.versions.promotion import Promotions

    Report = Callable[[str, float | None], None]

PLAN, VALIDATION, CANDIDATE, RESULT = "plan.json", "validation.csv", "candidate", "result.json"
TRAINING = "training"
_READING = "reading the training data"
_CAUTION = (
    "Retrained with one site's reviewed studies and judged by validation data alone: compare it on "
    "the locked test set before it screens."
)


@dataclass(frozen=True, slots=True)
class Site:
    """What an installation brings to a retraining.

    Attributes
    ----------
    reviewed
        Its reviewed studies.
    promotions
        Its versions in the database, and the gate.
    registry
        Its versions on disk.
    model_dir
        Folder that gets the candidate.
    locked_test_set
        Manifest of which nothing may train; None where there is none yet.
    read_slice
        Reads DICOM.
    """

    reviewed: ReviewedData
    promotions: Promotions
    registry: Registry
    model_dir: Path
    locked_test_set: Path | None
    read_slice: SliceReader


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run is made from; written once all of it is on disk.

    Attributes
    ----------
    current, weights_sha256
        The version it starts from.
    data_sha256
        SHA-256 of the merged manifest.
    studies
        Ids of the reviewed studies in it.
    left_out
        Ids of reviewed studies that are not, each with the reason.
    """

    current: str
    weights_sha256: str
    data_sha256: str
    studies: tuple[int, ...]
    left_out: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Retrained:
    """What came out.

    Attributes
    ----------
    candidate
        The new version, registered as a candidate.
    plan
        What it was made from.
    comparison
        Beside the version it started from.
    locked
        Whether that was measured on the locked test set; without one promotion is refused.
    """

    candidate: RegistryEntry
    plan: Plan
    comparison: Comparison
    locked: bool

    def document(self) -> dict[str, Any]:
        """Describe it in JSON types."""
        return {
            "candidate": self.candidate.title,
            "sha256": self.candidate.manifest.sha256,
            "folder": str(self.candidate.folder),
            **asdict(self.plan),
            "locked_test_set": self.locked,
            "comparison": self.comparison.document(),
        }


class Retraining:
    """One run of `lungwatch retrain`; each stage is done once, however often the run goes on.

    Parameters
    ----------
    request
        Base data, run folder and settings.
    site
        The installation.
    report
        Called with a stage and how much of it is done, 0 to 1 or None.
    """

    def __init__(
        self,
        request: RetrainingRequest,
        site: Site,
        report: Report = lambda _stage, _done: None,
    ) -> None:
        self._request, self._site, self._report = request, site, report
        self._folder = request.folder

    def run(self, *, resume: bool = False) -> Retrained:
        """Retrain the version in use, or go on with a run that was interrupted.

        Raises
        ------
        TrainingError
            If no reviewed study teaches anything, the folder holds a run that was not to be
            resumed or other data, or training fails.
        DatasetError
            If data cannot be used: a pseudo-label, an image or patient of the locked test set.
        ReviewError, RegistryError, PromotionError
            If files of a review or a version are not what they were.
        """
        if (self._folder / PLAN).exists() and not resume:
            raise TrainingError(
                f"{self._folder} holds a run already: add --resume, or choose another folder"
            )
        current, plan = self._prepare()
        if self._released(current, plan) is None:
            # A name that is taken is better known before hours of training than after.
            self._version(current)
        samples = self._samples(current)
        self._train(current, samples)
        candidate = self._release(current, plan, samples)
        self._site.promotions.register(candidate)
        locked = self._site.locked_test_set is not None
        comparison = self._site.promotions.compare(
            current, candidate, self._report, None if locked else self._validation_rows(samples)
        )
        retrained = Retrained(candidate, plan, comparison, locked)
        write_text(self._folder / RESULT, json.dumps(retrained.document(), indent=2) + "\n")
        return retrained

    def _prepare(self) -> tuple[RegistryEntry, Plan]:
        """Collect the data once; the plan comes last and says that all of it is there."""
        site, path = self._site, self._folder / PLAN
        if path.exists():
            plan = _read_plan(path)
            current = _as_planned(site.registry, plan)
            if read_manifest(self._folder / MANIFEST).sha256 != plan.data_sha256:
                raise TrainingError(
                    f"{self._folder / MANIFEST} was changed since the run began: start a new one"
                )
        else:
            current = site.promotions.in_use()
            data = collect(
                self._request,
                site.reviewed,
                site.locked_test_set,
                site.read_slice,
                self._report,
            )
            plan = Plan(
                current.title,
                current.manifest.sha256,
                data.manifest.sha256,
                tuple(study.study_id for study in data.studies),
                tuple((each.study_id, each.why) for each in data.left_out),
            )
        current.verified_weights()
        if not path.exists():
            write_text(path, json.dumps(asdict(plan), indent=2) + "\n")
        return current, plan

    def _samples(self, current: RegistryEntry) -> tuple[Sample, ...]:
        samples = load_samples(
            self._folder / MANIFEST,
            current.manifest.network.input_size,
            self._site.read_slice,
            progress=lambda done: self._report(_READING, done),
        )
        if any(sample.label_origin is not LabelOrigin.HUMAN for sample in samples):
            raise TrainingError(f"{self._folder / MANIFEST} holds pseudo-labels")
        self._require_reviewed(samples)
        return samples

    def _require_reviewed(self, samples: Sequence[Sample]) -> None:
        """Refuse to call a run a retraining in which no reviewed study has a slice to teach."""
        rows = read_manifest(self._folder / MANIFEST).rows
        reviewed = {row.path for row in rows if row.source == SOURCE}
        silent = reviewed - {sample.path.rpartition("#")[0] for sample in samples}
        if silent == reviewed:
            raise TrainingError("none of the reviewed studies has a slice that shows lung")
        if not any(each.source == SOURCE and each.split is Split.TRAIN for each in samples):
            raise TrainingError(
                "every reviewed study is held out for validation, by the hash of its patient, so "
                "none would teach anything: review studies of more patients, then retrain"
            )
        if silent:
            self._report(f"{len(silent)} reviewed studies have no slice that shows lung", None)

    def _train(self, current: RegistryEntry, samples: Sequence[Sample]) -> None:
        config = retraining_config(self._request, current, samples)
        trainer = Trainer(
            config,
            samples,
            self._folder / TRAINING,
            [current.verified_weights()],
            manifest=self._folder / MANIFEST,
        )
        if damage := trainer.resume():
            self._report(f"{damage}; going on from the checkpoint before it", None)
        steps = trainer.steps * config.epochs
        trainer.run(lambda line: self._report(f"training: {line}", trainer.state.step / steps))

    def _release(
        self, current: RegistryEntry, plan: Plan, samples: Sequence[Sample]
    ) -> RegistryEntry:
        """Put the trained weights into the registry, or find that an earlier try did."""
        candidate = self._released(current, plan)
        if candidate is None:
            old, version = current.manifest, self._version(current)
            write_text(self._folder / CANDIDATE, version + "\n")
            candidate = release_run(
                self._folder / TRAINING,
                self._site.model_dir,
                Identity(old.name, version, old.licence, _note(current, plan), _CAUTION),
                lambda _size: samples,
                ReleaseOptions(
                    plan.data_sha256,
                    half_precision=old.precision == "float16",
                    seen=self._seen(current),
                ),
                self._report,
            )
        return candidate

    def _seen(self, current: RegistryEntry) -> Fingerprints | None:
        """Tell what the candidate has seen: its own data and, through the weights, the version's.

        Where the version does not say what it has seen, nobody can say it of the candidate.
        """
        before = seen_by_version(current)
        if before is None:
            return None
        return before | training_fingerprints(self._folder / MANIFEST)

    def _released(self, current: RegistryEntry, plan: Plan) -> RegistryEntry | None:
        """Return what an earlier try of this run released before it was interrupted."""
        try:
            version = (self._folder / CANDIDATE).read_text().strip()
            entry = read_entry(self._site.model_dir / f"{current.manifest.name}-{version}")
        except (FileNotFoundError, RegistryError):
            return None
        return entry if entry.manifest.data_sha256 == plan.data_sha256 else None

    def _version(self, current: RegistryEntry) -> str:
        """Give the candidate's version: that of the request, or the next free one.

        The next of 0.2.0 and of 0.2.0.1 is 0.2.0.1 and 0.2.0.2: it descends from a shipped one.
        """
        name, wanted = current.manifest.name, self._request.version
        if wanted:
            if (self._site.model_dir / f"{name}-{wanted}").exists():
                raise RegistryError(f"{name}-{wanted} exists in {self._site.model_dir} already")
            return wanted
        root, number = ".".join(current.manifest.version.split(".")[:3]), 1
        while (self._site.model_dir / f"{name}-{root}.{number}").exists():
            number += 1
        return f"{root}.{number}"

    def _validation_rows(self, samples: Sequence[Sample]) -> Path:
        """List the validation rows as if they were a test set: the best there is without one."""
        manifest = read_manifest(self._folder / MANIFEST)
        rows = {row.path: row for row in manifest.rows}
        held_out = {}
        for sample in samples:
            if sample.split is Split.VALIDATION:
                row = rows.get(sample.path) or rows[sample.path.rpartition("#")[0]]
                held_out[row.path] = replace(row, split=Split.TEST)
        path = self._folder / VALIDATION
        write_manifest(path, held_out.values())
        return path


def _as_planned(registry: Registry, plan: Plan) -> RegistryEntry:
    """Find the version by its name: versions that differ in their calibration share weights."""
    current = registry.get(plan.current)
    if current.manifest.sha256 != plan.weights_sha256:
        raise RegistryError(
            f"{current.folder}: {current.title} has other weights (sha256 "
            f"{current.manifest.sha256[:12]}) than when the run began "
            f"({plan.weights_sha256[:12]}): put them back, or start a new run"
        )
    return current


def _note(current: RegistryEntry, plan: Plan) -> str:
    return (
        f"Retrained from {current.title} (sha256 {plan.weights_sha256[:12]}) with "
        f"{len(plan.studies)} studies that radiologists reviewed at this site. "
        f"{current.title} says of its own training: {current.manifest.data}"
    )


def _read_plan(path: Path) -> Plan:
    try:
        stored = json.loads(path.read_text())
        return Plan(
            stored["current"],
            stored["weights_sha256"],
            stored["data_sha256"],
            tuple(stored["studies"]),
            tuple((int(study), str(why)) for study, why in stored["left_out"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"{path}: is no plan of a retraining: {error}") from error
