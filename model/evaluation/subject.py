"""The network an evaluation is of: a released version, or the best weights of a run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from model.config import Task, TrainingConfig
from model.data.dataset import Split, sources_with_both_classes
from model.errors import RegistryError
from model.evaluation.calibration import CalibrationMethod
from model.evaluation.decision import Decision, decide
from model.evaluation.evaluate import (
    ALL_SPLITS,
    Origin,
    choose_split,
    measure,
    without_images,
)
from model.evaluation.evaluation import ChosenHere, ModelFacts
from model.evaluation.slice_model import KerasSliceModel, SliceOutputs, run_slices
from model.files import file_sha256
from model.pooling import Calibration, Pooling
from model.registry import MANIFEST_FILE, WEIGHTS_FILE, Manifest, read_entry

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from model.config import NetworkConfig
    from model.data.dataset import Sample
    from model.evaluation.decision import StudyDecision
    from model.evaluation.evaluation import Evaluation
    from model.evaluation.slice_model import SliceModel
    from model.registry import Registry, RegistryEntry

RUN_CONFIG = "config.json"
RUN_WEIGHTS = "best.npz"
UNCHOSEN_STUDY_POINT = 0.5


@dataclass(frozen=True)
class Subject:
    """What is evaluated.

    Attributes
    ----------
    title
        Name and version, or the run folder.
    network, weights, sha256
        Shape of the network, its weights file and that file's SHA-256.
    entry
        The version in its registry, None for a run.
    """

    title: str
    network: NetworkConfig
    weights: Path
    sha256: str
    entry: RegistryEntry | None = None

    @property
    def facts(self) -> ModelFacts:
        """What the report says of it."""
        return ModelFacts(
            title=self.title,
            sha256=self.sha256,
            tasks=tuple(task.value for task in self.network.tasks),
            input_size=self.network.input_size,
            licence=self.entry.manifest.licence if self.entry else "",
        )

    def slice_model(self) -> KerasSliceModel:
        """Load the network."""
        return KerasSliceModel(self.network, self.weights, self.title)

    def manifest(self, decision: StudyDecision | None = None) -> Manifest:
        """Return the version's manifest; for a run, what it would say after this decision."""
        if self.entry is not None:
            return self.entry.manifest
        return Manifest(
            name=Path(self.title).name,
            version="run",
            sha256=self.sha256,
            network=self.network,
            calibration=decision.slices.calibration if decision else Calibration(),
            pooling=decision.pooling if decision else Pooling(),
            operating_point=decision.operating_point if decision else UNCHOSEN_STUDY_POINT,
            lesion_threshold=Decision().lesion_threshold,
            licence="",
            data="",
        )


@dataclass(frozen=True, eq=False)
class Evaluated:
    """An evaluation and what it was made of.

    Attributes
    ----------
    evaluation
        The figures.
    samples, outputs, decision
        The images, what the network said of each, and how that was judged.
    study_decision
        For a run: what its validation data chose, None where they could not.
    """

    evaluation: Evaluation
    samples: tuple[Sample, ...]
    outputs: SliceOutputs
    decision: Decision
    study_decision: StudyDecision | None = None


def find_subject(which: str, registry: Callable[[], Registry]) -> Subject:
    """Find a network by a folder's path, or by name or SHA-256 in the registry.

    Parameters
    ----------
    which
        A version folder (it holds ``manifest.json``), a run folder (``config.json`` and
        ``best.npz``), a name, a name-version or the beginning of a SHA-256; nothing: the
        highest version.
    registry
        Opens the registry; not called for a folder.

    Raises
    ------
    RegistryError
        If there is none; the message says what was looked for.
    """
    if not which:
        return subject_of_version(registry().get())
    folder = Path(which)
    if (folder / MANIFEST_FILE).is_file():
        return subject_of_version(read_entry(folder))
    if (folder / RUN_CONFIG).is_file():
        return subject_of_run(folder)
    if folder.is_dir():
        raise RegistryError(
            f"{which}: neither a version ({MANIFEST_FILE}, {WEIGHTS_FILE}) nor a training run "
            f"({RUN_CONFIG}, {RUN_WEIGHTS})"
        )
    return subject_of_version(registry().get(which))


def subject_of_version(entry: RegistryEntry) -> Subject:
    """Return a version, its weights verified; see `RegistryEntry.verified_weights`."""
    manifest = entry.manifest
    weights = entry.verified_weights()
    return Subject(entry.title, manifest.network, weights, manifest.sha256, entry)


def subject_of_run(folder: Path) -> Subject:
    """Return the best weights of a training run.

    Raises
    ------
    RegistryError
        If the run has none.
    """
    weights = folder / RUN_WEIGHTS
    try:
        config = TrainingConfig.from_json((folder / RUN_CONFIG).read_text())
        return Subject(str(folder), config.network, weights, file_sha256(weights))
    except (OSError, UnicodeDecodeError) as error:
        raise RegistryError(f"{folder}: no finished training run: {error}") from error


def evaluate_subject(
    subject: Subject,
    samples: Sequence[Sample],
    origin: Origin,
    *,
    slice_model: SliceModel | None = None,
    calibration: CalibrationMethod = CalibrationMethod.AUTO,
    report: Callable[[float], None] | None = None,
) -> Evaluated:
    """Measure a version or a run on a part of some data.

    Parameters
    ----------
    subject
        A version brings calibration and thresholds. Those of a run are chosen here, on the
        validation samples; where no source of these has both classes, raw probabilities are
        judged at 0.5.
    samples
        All samples of the manifest.
    origin
        Where they come from; its split is measured, `chosen_here` is found out.
    slice_model
        The network, if it is loaded already.
    calibration
        How to calibrate a run.
    report
        Called with the finished share of the network's work, 0 to 1.

    Raises
    ------
    DatasetError
        If the split is empty.
    EvaluationError
        If an output of the network is not a number.
    """
    chosen = choose_split(samples, origin.split, origin.manifest)
    deciding = subject.entry is None and Task.CLASSIFICATION in subject.network.tasks
    needed = [
        sample
        for sample in samples
        if origin.split in {ALL_SPLITS, sample.split.value}
        or (deciding and sample.split is Split.VALIDATION)
    ]
    threshold = subject.manifest().lesion_threshold
    outputs = run_slices(slice_model or subject.slice_model(), needed, threshold, report)
    study_decision = None
    if subject.entry is not None:
        decision = decision_of(subject.entry.manifest)
        chosen_here = _chosen_by(subject.entry.manifest, origin)
    else:
        validation = np.array([sample.split is Split.VALIDATION for sample in needed])
        study_decision = _decide_run(needed, outputs, validation, calibration)
        decision = study_decision.slices if study_decision else Decision()
        flatters = study_decision is not None and _holds_validation(origin)
        chosen_here = ChosenHere.YES if flatters else ChosenHere.NO
    measured = np.array([origin.split in {ALL_SPLITS, s.split.value} for s in needed])
    outputs = outputs.only(measured)
    origin = replace(origin, chosen_here=chosen_here)
    evaluation = measure(chosen, outputs, decision, subject.facts, origin)
    return Evaluated(evaluation, chosen, outputs, decision, study_decision)


def evaluation_without_images(subject: Subject) -> Evaluation:
    """Return an evaluation of a subject that holds no figures, for series to be put into."""
    decision = decision_of(subject.entry.manifest) if subject.entry else Decision()
    return without_images(subject.facts, decision)


def decision_of(manifest: Manifest) -> Decision:
    """Return how a released version judges single slices."""
    point = manifest.slice_operating_point
    old = point is None
    return Decision(
        calibration=manifest.calibration,
        operating_point=manifest.operating_point if point is None else point,
        lesion_threshold=manifest.lesion_threshold,
        chosen_on="the validation data of its release"
        + (" (for whole studies: this version has no operating point of slices)" if old else ""),
    )


def _decide_run(
    samples: Sequence[Sample],
    outputs: SliceOutputs,
    validation: NDArray[np.bool_],
    method: CalibrationMethod,
) -> StudyDecision | None:
    held_out = [sample for sample, member in zip(samples, validation, strict=True) if member]
    if outputs.probability is None or not sources_with_both_classes(held_out):
        return None
    return decide(held_out, outputs.probability[validation], method)


def _chosen_by(manifest: Manifest, origin: Origin) -> ChosenHere:
    """Tell whether these data chose a version's operating point, as far as it is known."""
    if not manifest.data_sha256 or manifest.data_sha256 != origin.sha256:
        return ChosenHere.UNKNOWN
    return ChosenHere.YES if _holds_validation(origin) else ChosenHere.NO


def _holds_validation(origin: Origin) -> bool:
    return origin.split in {ALL_SPLITS, Split.VALIDATION.value}
