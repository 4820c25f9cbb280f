"""From a finished run to a version in a registry: calibrated, measured and described."""

from __future__ import annotations

import json
import shlex
import shutil
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from model.config import Task, TrainingConfig
from model.data.dataset import Split, sources_with_both_classes
from model.data.fingerprints import seen_by_version, training_fingerprints
from model.errors import DatasetError, RegistryError
from model.evaluation.calibration import CalibrationMethod
from model.evaluation.evaluate import Origin
from model.evaluation.subject import RUN_CONFIG, evaluate_subject, subject_of_run
from model.files import file_sha256, write_text
from model.model_card import CardFacts, write_card
from model.registry import (
    CARD_FILE,
    MANIFEST_FILE,
    NOT_EVALUATED,
    NOT_LISTED,
    TRAINING_DATA_FILE,
    WEIGHTS_FILE,
    Manifest,
    RegistryEntry,
    read_entry,
    require_name,
)
from model.training.run_end import stopped_after
from model.weights_file import round_weights

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from model.data.dataset import Sample
    from model.data.fingerprints import Fingerprints
    from model.evaluation.decision import StudyDecision
    from model.evaluation.subject import Subject
    from model.registry import Registry

    Report = Callable[[str, float | None], None]

TRAINING_FILE = "training.json"
RUN_ORIGIN = "environment.json"
EVALUATION_FILE = "evaluation.json"
NEEDED_TASKS = (Task.SEGMENTATION, Task.CLASSIFICATION)
_UNDECIDABLE = (
    "the validation data need slices of one source with and without COVID-19: calibration and "
    "operating point are chosen on them"
)


@dataclass(frozen=True, slots=True)
class Identity:
    """What a release is called, what may be done with it, how it was trained, how far to trust it.

    Attributes
    ----------
    name, version
        Together the name of the version's folder; each as `model.registry.require_name` allows.
    licence
        What may be done with the weights.
    note
        How they were trained, for the model card.
    caution
        One sentence on how far the network can be trusted; empty: nobody looked yet.
    """

    name: str
    version: str
    licence: str
    note: str = ""
    caution: str = ""

    def __post_init__(self) -> None:
        require_name("name", self.name)
        require_name("version", self.version)

    @property
    def title(self) -> str:
        """Name of the version's folder."""
        return f"{self.name}-{self.version}"


@dataclass(frozen=True, slots=True)
class ReleaseOptions:
    """How a release is made.

    Attributes
    ----------
    data_sha256
        SHA-256 of the data manifest, so that an evaluation can tell whether its data chose the
        operating point. It must be the one the run was trained with; empty: nothing is said of it.
    calibration
        How to calibrate; `CalibrationMethod.AUTO` takes the best one.
    half_precision
        Whether to store the weights rounded to float16; everything is measured after rounding.
    seen
        Digests of the patients and files the network was trained on, for those who test it; see
        `model.data.fingerprints`. None: the version does not say.
    unfinished
        Whether a run may be released that was stopped before its end; the model card says so.
    data_file
        Name of the data manifest; of a path the last part is taken, since what is stored is read
        elsewhere.
    """

    data_sha256: str = ""
    calibration: CalibrationMethod = CalibrationMethod.AUTO
    half_precision: bool = False
    seen: Fingerprints | None = None
    unfinished: bool = False
    data_file: str = "MANIFEST.csv"

    def __post_init__(self) -> None:
        object.__setattr__(self, "data_file", PurePath(self.data_file).name)


def release_run(
    run: Path,
    registry: Path,
    identity: Identity,
    load: Callable[[int], Sequence[Sample]],
    options: ReleaseOptions | None = None,
    report: Report | None = None,
) -> RegistryEntry:
    """Calibrate a run's best weights and write them, their manifest and card into a registry.

    Parameters
    ----------
    run
        Folder of a `model.training.trainer.Trainer`.
    registry
        Folder that gets the version folder ``name-version``, whole or not at all.
    identity
        Name, version, licence, and what the model card is to say.
    load
        Loads all samples for an input size.
    options
        How to calibrate and to store the weights.
    report
        Called with a stage and how much of it is done, 0 to 1.

    Raises
    ------
    RegistryError
        If the version exists already (a released version never changes), the run or its data are
        no use, or the run was not finished or trained on other data.
    DatasetError
        If there are no validation data.
    """
    options, report = options or ReleaseOptions(), report or (lambda _stage, _done: None)
    folder = registry / identity.title
    if folder.exists():
        raise RegistryError(f"{folder} exists: a released version never changes, choose another")
    finished = subject_of_run(run)
    if not set(NEEDED_TASKS) <= set(finished.network.tasks):
        raise RegistryError(f"{run}: screening needs a network with {' and '.join(NEEDED_TASKS)}")
    if options.data_sha256:
        _require_own_data(run, options.data_sha256)
    config = TrainingConfig.from_json((run / RUN_CONFIG).read_text())
    stopped = _require_end(run, config, options)
    report("reading the data", None)
    samples = load(finished.network.input_size)
    validation = [sample for sample in samples if sample.split is Split.VALIDATION]
    if not sources_with_both_classes(validation):
        raise RegistryError(_UNDECIDABLE)
    with _whole(folder) as making:
        weights = _store_weights(finished, making / WEIGHTS_FILE, options)
        # What is stored is read elsewhere: it tells no path of this machine.
        subject = replace(weights, title=identity.title)
        evaluated = evaluate_subject(
            subject,
            samples,
            Origin(options.data_file, options.data_sha256, Split.VALIDATION.value),
            calibration=options.calibration,
            report=lambda done: report("running the network on the validation data", done),
        )
        report("writing manifest and model card", None)
        decision = evaluated.study_decision
        if decision is None:
            raise RegistryError(_UNDECIDABLE)
        manifest = _manifest(subject, identity, decision, samples, options)
        manifest = replace(manifest, training_command=_training_command(run, options.data_file))
        card = CardFacts(
            manifest=manifest,
            samples=samples,
            evaluation=evaluated.evaluation,
            decision=decision,
            note=" ".join(filter(None, (identity.note, stopped))),
            empty_mask_sources=config.empty_mask_sources,
        )
        write_text(making / TRAINING_FILE, config.to_json() + "\n")
        write_text(making / EVALUATION_FILE, evaluated.evaluation.to_json())
        write_text(making / CARD_FILE, write_card(card))
        listed = _write_seen(making / TRAINING_DATA_FILE, samples, options.seen)
        manifest = replace(manifest, training_data_sha256=listed)
        write_text(making / MANIFEST_FILE, manifest.to_json())
    return RegistryEntry(manifest, folder)


def seen_by_run(
    run: Path, manifest: Path, registry: Registry, earlier: Sequence[Path] = ()
) -> Fingerprints | None:
    """Tell what the weights of a run have seen: its data, and all that its first weights had seen.

    Parameters
    ----------
    run, manifest
        Folder of the run, and its data.
    registry
        Where versions are looked up that a run may have gone on from.
    earlier
        Manifests of what the first weights had seen, where somebody knows it; in place of what
        their folders say.

    Returns
    -------
    Fingerprints or None
        None where neither a version nor a run is known that the first weights are from: nobody
        can say then what they have seen.

    Raises
    ------
    RegistryError
        If the run was trained on another manifest, or its record cannot be read.
    DatasetError
        If a manifest or a file it names cannot be read.
    """
    _require_own_data(run, file_sha256(manifest))
    seen = training_fingerprints(manifest)
    for each in earlier:
        seen |= training_fingerprints(each)
    for file, sha256 in () if earlier else _first_weights(_origin(run), run):
        # What lies in the run's own folder is not from another run.
        alien = file.parent.resolve() != run.resolve()
        before = _seen_by_weights(file, sha256, registry) if alien else None
        if before is None:
            return None
        seen |= before
    return seen


def _seen_by_weights(file: Path, sha256: str, registry: Registry) -> Fingerprints | None:
    """Look for the version or the run that weights are from."""
    for entry in registry.list():
        if entry.manifest.sha256 == sha256:
            return seen_by_version(entry)
    if not file.is_file() or file_sha256(file) != sha256:
        return None
    try:
        if (file.parent / MANIFEST_FILE).is_file():
            return seen_by_version(read_entry(file.parent))
        manifest = _origin(file.parent).get("manifest")
        return seen_by_run(file.parent, Path(manifest), registry) if manifest else None
    except (DatasetError, OSError, RegistryError):
        return None  # its data were moved or changed since, or its folder is damaged


def _require_end(run: Path, config: TrainingConfig, options: ReleaseOptions) -> str:
    """Refuse a run that was stopped before its end, or say it for the model card."""
    stopped = stopped_after(run, config)
    if stopped and not options.unfinished:
        raise RegistryError(
            f"{run} is not finished, it was {stopped}: go on with lungwatch train --resume, or "
            "release what there is with --unfinished, which the model card will say"
        )
    return f"The run was {stopped}." if stopped else ""


def _require_own_data(run: Path, sha256: str) -> None:
    """Refuse data that the run was not trained on: card and gate would tell of the wrong ones."""
    known = _origin(run).get("manifest_sha256") or ""
    if not known:
        raise RegistryError(
            f"{run} does not say which manifest it was trained on ({RUN_ORIGIN}): only a run of "
            "`lungwatch train` can be released"
        )
    if known != sha256:
        raise RegistryError(
            f"{run} was trained on another manifest (sha256 {known[:12]}, this one "
            f"{sha256[:12]}): give the one it was trained on, unchanged; "
            f"{RUN_ORIGIN} says where it was"
        )


@contextmanager
def _whole(folder: Path) -> Iterator[Path]:
    """Give a folder to fill that takes its name once it is complete."""
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    made = not folder.parent.exists()
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
        unfinished.rename(folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        if made:
            folder.parent.rmdir()
        raise


def _store_weights(finished: Subject, target: Path, options: ReleaseOptions) -> Subject:
    """Copy or round the weights; whatever is measured afterwards is measured on the copy."""
    if options.half_precision:
        round_weights(finished.weights, target)
    else:
        shutil.copyfile(finished.weights, target)
    return replace(finished, weights=target, sha256=file_sha256(target))


def _manifest(
    subject: Subject,
    identity: Identity,
    decision: StudyDecision,
    samples: Sequence[Sample],
    options: ReleaseOptions,
) -> Manifest:
    return Manifest(
        name=identity.name,
        version=identity.version,
        sha256=subject.sha256,
        network=subject.network,
        calibration=decision.slices.calibration,
        pooling=decision.pooling,
        operating_point=decision.operating_point,
        lesion_threshold=decision.slices.lesion_threshold,
        licence=identity.licence,
        data=_data_summary(samples),
        caution=identity.caution or NOT_EVALUATED,
        slice_operating_point=decision.slices.operating_point,
        data_sha256=options.data_sha256,
        precision="float16" if options.half_precision else "float32",
    )


def _write_seen(path: Path, samples: Sequence[Sample], seen: Fingerprints | None) -> str:
    """List what the version has seen, and return the list's SHA-256 for its manifest."""
    if seen is None:
        return NOT_LISTED
    learned = (each.pixels for each in samples if each.split is not Split.TEST)
    replace(seen, pixels=seen.pixels | frozenset(filter(None, learned))).write(path)
    return file_sha256(path)


def _training_command(run: Path, data_file: str) -> str:
    """Say how the run was made; weights it went on from are named without their folders."""
    command = ["lungwatch", "train", TRAINING_FILE, "--data", data_file]
    for file, _ in _first_weights(_origin(run), run):
        command += ["--start-from", file.name]
    return shlex.join([*command, "--out", "RUN"])


def _origin(run: Path) -> dict[str, Any]:
    """Read what a run was made from; nothing where it does not say."""
    path = run / RUN_ORIGIN
    try:
        stored = json.loads(path.read_text()) if path.exists() else {}
        return dict(stored.items())
    except (AttributeError, OSError, ValueError) as error:
        raise RegistryError(f"{path} does not say what the run began with: {error}") from error


def _first_weights(origin: dict[str, Any], run: Path) -> list[tuple[Path, str]]:
    """Return the files that a run began with, each with its SHA-256."""
    try:
        return [
            (Path(each["file"]), str(each.get("sha256", "")))
            for each in origin.get("start_from", ())
        ]
    except (AttributeError, KeyError, TypeError) as error:
        raise RegistryError(
            f"{run / RUN_ORIGIN} does not say what the run began with: {error}"
        ) from error


def _data_summary(samples: Sequence[Sample]) -> str:
    counts: dict[str, int] = {}
    for sample in samples:
        key = f"{sample.group} {sample.split.value}"
        counts[key] = counts.get(key, 0) + 1
    return ", ".join(f"{key}: {count}" for key, count in sorted(counts.items()))
