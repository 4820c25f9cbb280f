"""The model card of a released version, written from what was measured."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from model.data.dataset import Split
from model.data.shortcut import find_shortcut
from model.evaluation.decision import SENSITIVITY_TARGET
from model.evaluation.evaluation import OVERALL, TITLES, Level, Name
from model.evaluation.metrics import sensitivity, specificity
from model.evaluation.studies import INFECTED_SHARES, OTHER_PATIENTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from model.data.dataset import Sample
    from model.evaluation.decision import StudyDecision
    from model.evaluation.evaluation import Evaluation, Figure
    from model.registry import Manifest

_CARD = """# {title}

**Known performance:** {caution}

{performance}

**Licence: {licence}**

## Intended use
Research only. The network looks at axial slices of chest CT for signs of COVID-19 pneumonia and
outlines lesions. What it says is unverified and for review by a radiologist; it is no medical
device and must not decide on anybody's care.

## Network
The multitask network of Amyar, Modzelewski and Ruan (medRxiv 2020.04.16.20064709): one encoder
and a branch for each task. {filters} filters at the first level (the paper: 64), input {size} x
{size}, normalisation: {normalisation} (the paper: none). Tasks: {tasks}. SHA-256 of the weights:
`{sha256}`.
{precision}

## Data
Each image is windowed (Hounsfield units: level -600, width 1500; figures come as their authors
windowed them), cropped to the lungs, stretched between its 1st and 99th percentile and resized.

| source and class | training | validation |
| --- | --- | --- |
{counts}

{sources}
- {series}

## Training
`{command}`, with the settings in `training.json` beside this card.
Losses: mean squared error, minus Dice over the batch's images with a mask, binary cross-entropy;
their plain sum. Non-COVID images of these sources counted as empty masks: {empty}.
{note}

## Figures on the validation data
Selection, calibration and operating point used the same data: these figures flatter. Intervals
are 95 % bootstrap intervals over patients; "slice-level" is said where the patient of an image is
unknown and clusters of near duplicates stand for patients. Sensitivity, specificity and accuracy of
single slices are taken at the slices' operating point, {slice_point:.4f}, calibration error and
Brier score after calibration. `evaluation.json` beside this card holds the same figures.

| figure | on | n | value | 95 % interval |
| --- | --- | --- | --- | --- |
{figures}

Overall figures mix sources: where a class comes from one source only, telling the sources apart
looks like telling the disease. AUC within sources compares only images of one source.

## From slices to a study
Calibration: {method} on the {calibration_source} validation slices (slope {slope:.3f}, intercept
{intercept:.3f}); log loss on patients that did not fit it: {log_losses}.
A study's probability is the mean over the highest {top:.0%} of its slices with lung; operating
point {point:.4f}. The share and the operating point (sensitivity at least {sensitivity}) were
chosen on studies composed of {calibration_source} validation slices{composed_why}:
{infected} of a study's slices come from one patient
with COVID-19, the others, and all slices of a study without, from {others} patients without. At
that point {composed}.
AUC over composed studies by share:
{shares}.
Neither the share of infected slices nor what lies between them is known of real studies, so the
operating point may lie elsewhere for them: set your own on your own data.

## Limits
- Trained on {training} images of {source_count} sources. {shortcut}
- {hounsfield} of the training images came in Hounsfield units; the others are figures, whose
  windows, crops and marks are not those of CT series.
- What else a patient has is not known for every image: it was not trained to tell COVID-19 from a
  given other disease.
- Lesions were drawn on {masks} images only; a non-COVID image with other opacities has no mask.
- A wholly consolidated lobe may be missed, since the lung field stops at dense tissue.
"""


# A slice of a series adds its number to the path; reviewed studies are always series.
_SLICE = re.compile(r"#\d+$")
_REVIEWED = "reviewed"
_SOURCE_NOTES = {
    "covid-ct": "figures cut from papers, split by patient as its authors did; no licence is "
    "stated for it",
    "covid-semiseg": "figures cut from papers, with lesions drawn; names no patients, so split by "
    "clusters of near duplicates; for **non-commercial use only**",
    "luna-noncovid": "CT slices, split by a hash of the patient",
    "tcga-luad-slices": "CT slices, split by a hash of the patient",
}


_PRECISIONS = {
    "float16": "The kernels are stored rounded to float16; all figures below were measured after "
    "rounding.",
}
_STATED = (Name.AUC, Name.AUC_WITHIN_SOURCES, Name.DICE)


@dataclass(frozen=True)
class CardFacts:
    """What a model card states beside its fixed text.

    Attributes
    ----------
    manifest
        The version.
    samples
        All data, of which the validation part was evaluated.
    evaluation
        Figures on the validation part.
    decision
        Calibration, pooling and operating points, chosen on that part.
    note
        How it was trained.
    empty_mask_sources
        As in the training configuration.
    """

    manifest: Manifest
    samples: Sequence[Sample]
    evaluation: Evaluation
    decision: StudyDecision
    note: str
    empty_mask_sources: Sequence[str]


def write_card(facts: CardFacts) -> str:
    """Return the model card as Markdown."""
    manifest, samples, evaluation = facts.manifest, facts.samples, facts.evaluation
    decision = facts.decision
    training = [sample for sample in samples if sample.split is Split.TRAIN]
    composed = _composed(decision)
    return _CARD.format(
        title=f"{manifest.name} {manifest.version}",
        caution=manifest.caution,
        performance=_performance(evaluation, composed),
        licence=manifest.licence,
        filters=manifest.network.base_filters,
        size=manifest.network.input_size,
        normalisation=manifest.network.normalisation.value,
        tasks=", ".join(manifest.network.tasks),
        sha256=manifest.sha256,
        precision=_PRECISIONS.get(manifest.precision, ""),
        counts="\n".join(_count_rows(samples)),
        sources="\n".join(_source_notes(samples)),
        command=manifest.training_command,
        empty=", ".join(facts.empty_mask_sources) or "none",
        note=facts.note,
        figures="\n".join(_row(figure) for figure in evaluation.figures),
        series=_series_note(samples),
        composed_why=_composed_why(samples),
        calibration_source=", ".join(decision.sources),
        sensitivity=SENSITIVITY_TARGET,
        infected=f"{INFECTED_SHARES[0]:.0%} to {INFECTED_SHARES[1]:.0%}",
        others=OTHER_PATIENTS,
        method=manifest.calibration.method,
        slope=manifest.calibration.slope,
        intercept=manifest.calibration.intercept,
        log_losses=_listed({name: f"{loss:.4f}" for name, loss in decision.log_losses.items()}),
        top=manifest.pooling.top_share,
        point=manifest.operating_point,
        slice_point=decision.slices.operating_point,
        composed=composed,
        shares=_listed(
            {f"{each:.0%}": f"{auc:.3f}" for each, auc in decision.pooling_aucs.items()}
        ),
        training=len(training),
        source_count=len({sample.source for sample in training}),
        shortcut=_shortcut_note(samples),
        hounsfield=sum(sample.hounsfield for sample in training),
        masks=sum(sample.mask is not None for sample in training),
    )


def _count_rows(samples: Sequence[Sample]) -> list[str]:
    groups = sorted({sample.group for sample in samples})
    rows = []
    for group in groups:
        splits = [sample.split for sample in samples if sample.group == group]
        rows.append(f"| {group} | {splits.count(Split.TRAIN)} | {splits.count(Split.VALIDATION)} |")
    return rows


def _source_notes(samples: Sequence[Sample]) -> list[str]:
    present = {sample.source for sample in samples}
    unknown = "data of this installation"
    return [f"- {each}: {_SOURCE_NOTES.get(each, unknown)}." for each in sorted(present)]


def _shortcut_note(samples: Sequence[Sample]) -> str:
    """Say how far the source of an image tells its class, as `lungwatch data check` does."""
    found = find_shortcut([(sample.source, sample.covid, sample.split) for sample in samples])
    lines = []
    if found.one_class_sources:
        named = ", ".join(
            f"{source} ({'with' if covid else 'without'} COVID-19 only)"
            for source, covid in found.one_class_sources
        )
        lines.append(
            f"Sources of one class: {named}. Such a class invites a shortcut,\n  so read the "
            "figures per source."
        )
    if found.auc is not None and found.accuracy is not None:
        lines.append(
            "The source alone, without looking at the\n  image, tells the class of the validation "
            f"data with accuracy {found.accuracy:.3f} and AUC {found.auc:.3f}."
        )
    return " ".join(lines) or "Each source holds both classes."


def _of_series(samples: Sequence[Sample]) -> list[Sample]:
    return [each for each in samples if _SLICE.search(each.path) or each.source == _REVIEWED]


def _series_note(samples: Sequence[Sample]) -> str:
    slices = _of_series(samples)
    if not slices:
        return (
            "Training, selection and calibration read single slices and figures; no whole series "
            "took part."
        )
    series = {_SLICE.sub("", each.path) for each in slices}
    return (
        f"{len(slices)} of the {len(samples)} images are slices of {len(series)} series; training, "
        "selection and calibration read each slice on its own."
    )


def _composed_why(samples: Sequence[Sample]) -> str:
    if not _of_series(samples):
        return ", since the data hold no whole\nstudies"
    return "; the series\namong the data were not judged as whole studies"


def _performance(evaluation: Evaluation, composed: str) -> str:
    """Say the values that count in one line."""
    telling = [
        f"{TITLES[figure.name]} {figure.value:.2f} ({figure.source}, n = {figure.count})"
        for figure in evaluation.figures
        if figure.name in _STATED and (figure.source != OVERALL or len(evaluation.sources) == 1)
    ]
    return f"On the validation data, which also chose it: {', '.join(telling)}; {composed}."


def _composed(decision: StudyDecision) -> str:
    """Say what the operating point reaches on the studies it was chosen on."""
    truth, scores = decision.studies.covid, decision.studies.pooled(decision.pooling)
    positive = scores >= decision.operating_point
    return (
        f"sensitivity {sensitivity(truth, positive):.2f} and specificity "
        f"{specificity(truth, positive):.2f} on composed studies"
    )


def _row(figure: Figure) -> str:
    low_high = "" if figure.interval is None else "{:.3f} to {:.3f}".format(*figure.interval)
    level = ", slice-level" if figure.level is Level.SLICE else ""
    return (
        f"| {TITLES[figure.name]} | {figure.source}{level} | {figure.count} | {figure.value:.3f} "
        f"| {low_high} |"
    )


def _listed(values: dict[str, str]) -> str:
    return ", ".join(f"{name}: {value}" for name, value in values.items()) or "not known"
