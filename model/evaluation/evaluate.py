"""Measures a network on samples: every figure with its interval, by source and overall."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

import numpy as np

from model.errors import DatasetError
from model.evaluation.curves import reliability_of, roc_of
from model.evaluation.evaluation import (
    OVERALL,
    ChosenHere,
    DataFacts,
    DecisionFacts,
    Evaluation,
    ModelFacts,
    SourceFacts,
)
from model.evaluation.figures import figures_of
from model.evaluation.judged import judge
from model.evaluation.slice_model import run_slices

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from model.data.dataset import Sample
    from model.evaluation.decision import Decision
    from model.evaluation.judged import Judged
    from model.evaluation.slice_model import SliceModel, SliceOutputs

ALL_SPLITS = "all"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where samples come from, as the report tells it.

    Attributes
    ----------
    manifest, sha256
        Name and SHA-256 of the data manifest.
    split
        The part that was chosen: ``train``, ``validation``, ``test`` or ``all``.
    chosen_here
        Whether these samples also chose calibration and operating point.
    images_seen
        Images the network has seen, see `model.evaluation.seen`; None where that is unknown.
    """

    manifest: str = ""
    sha256: str = ""
    split: str = ALL_SPLITS
    chosen_here: ChosenHere = ChosenHere.UNKNOWN
    images_seen: int | None = None


def choose_split(samples: Sequence[Sample], split: str, manifest: str) -> tuple[Sample, ...]:
    """Return the samples of a split, all of them for ``all``.

    Raises
    ------
    DatasetError
        If there are none; the message says which splits there are.
    """
    chosen = tuple(sample for sample in samples if split in {ALL_SPLITS, sample.split.value})
    if not chosen:
        counts: dict[str, int] = {}
        for sample in samples:
            counts[sample.split.value] = counts.get(sample.split.value, 0) + 1
        known = ", ".join(f"{name}: {count}" for name, count in sorted(counts.items()))
        raise DatasetError(
            f"{manifest or 'the data'}: no image in the split {split}; it has {known or 'none'}. "
            "Choose another with --split, or fill the manifest's column split"
        )
    return chosen


def evaluate(
    slice_model: SliceModel,
    samples: Sequence[Sample],
    decision: Decision,
    *,
    model: ModelFacts,
    origin: Origin | None = None,
    report: Callable[[float], None] | None = None,
) -> Evaluation:
    """Run a network over samples and measure it.

    Parameters
    ----------
    slice_model
        The network.
    samples
        At least one; see `choose_split`.
    decision
        Calibration and thresholds.
    model, origin
        What the report says of network and data.
    report
        Called with the finished share of the network's work, 0 to 1.

    Raises
    ------
    EvaluationError
        If an output of the network is not a number.
    """
    outputs = run_slices(slice_model, samples, decision.lesion_threshold, report)
    return measure(samples, outputs, decision, model, origin or Origin())


def measure(
    samples: Sequence[Sample],
    outputs: SliceOutputs,
    decision: Decision,
    model: ModelFacts,
    origin: Origin,
) -> Evaluation:
    """Measure what a network said of samples; see `evaluate`."""
    everything = judge(samples, outputs, decision)
    by_source = {
        str(name): everything.only(everything.sources == name)
        for name in np.unique(everything.sources)
    }
    measured = [figures_of(judged, name) for name, judged in by_source.items()]
    measured.append(figures_of(everything, OVERALL))
    curves = [
        (name, judged.covid[judged.labelled], judged.probability[judged.labelled])
        for name, judged in {**by_source, OVERALL: everything}.items()
        if judged.probability is not None and judged.of_both_classes
    ]
    return Evaluation(
        model=model,
        data=_data_facts(everything, by_source, origin),
        decision=_decision_facts(decision, origin),
        figures=tuple(figure for figures, _ in measured for figure in figures),
        absent=tuple(absent for _, lacking in measured for absent in lacking),
        roc=tuple(roc_of(*curve) for curve in curves),
        reliability=tuple(reliability_of(*curve) for curve in curves),
        code_version=_code_version(),
    )


def without_images(model: ModelFacts, decision: Decision) -> Evaluation:
    """Return an evaluation of no images at all, for series to be put into."""
    nothing = DataFacts("", "", "", 0, 0, 0, ())
    facts = _decision_facts(decision, Origin(chosen_here=ChosenHere.NO))
    return Evaluation(model, nothing, facts, (), code_version=_code_version())


def _decision_facts(decision: Decision, origin: Origin) -> DecisionFacts:
    return DecisionFacts(
        calibration=decision.calibration.method,
        slope=decision.calibration.slope,
        intercept=decision.calibration.intercept,
        operating_point=decision.operating_point,
        lesion_threshold=decision.lesion_threshold,
        chosen_on=decision.chosen_on,
        chosen_here=origin.chosen_here,
    )


def _data_facts(everything: Judged, by_source: dict[str, Judged], origin: Origin) -> DataFacts:
    return DataFacts(
        manifest=origin.manifest,
        sha256=origin.sha256,
        split=origin.split,
        images=everything.sources.size,
        patients=np.unique(everything.patients).size,
        images_without_patient=int((~everything.patient_known).sum()),
        sources=tuple(
            SourceFacts(
                source=name,
                covid=int((judged.labelled & judged.covid).sum()),
                other=int((judged.labelled & ~judged.covid).sum()),
                unknown=int((~judged.labelled).sum()),
                masks=int(judged.drawn.sum()),
                patients=np.unique(judged.patients).size,
                patients_known=bool(judged.patient_known.all()),
            )
            for name, judged in by_source.items()
        ),
        images_seen=origin.images_seen,
    )


def _code_version() -> str:
    try:
        return version("lungwatch")
    except PackageNotFoundError:
        return "unknown"
