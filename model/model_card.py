"""The model card of a released version, written from what was measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from model.data.dataset import Split
from model.evaluation.calibration import INFECTED_SHARES, OTHER_PATIENTS
from model.evaluation.measures import COMPOSED_STUDIES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from model.data.dataset import Sample
    from model.evaluation.measures import Measure
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
The multitask network of Amyar, Modzelewski and Ruan (medRxiv 2020.04.16.20064709): one encoder,
two U-Net decoders (reconstruction, segmentation), one classifier. {filters} filters at the first
level (the paper: 64), input {size} x {size}, normalisation: {normalisation} (the paper: none).
Tasks: {tasks}. SHA-256 of the weights: `{sha256}`.

## Data
Each image is windowed (Hounsfield units: level -600, width 1500; figures come as their authors
windowed them), cropped to the lungs, stretched between its 1st and 99th percentile and resized.

| source and class | training | validation |
| --- | --- | --- |
{counts}

{sources}
- Training, selection and calibration read single slices and figures; no whole series took part.

## Training
`{command}`, with the settings in `training.json` beside this card.
Losses: mean squared error, minus Dice over the batch's images with a mask, binary cross-entropy;
their plain sum. Non-COVID images of these sources counted as empty masks: {empty}.
{note}

## Figures on the validation data
Selection, calibration and operating point used the same data: these figures flatter. Intervals
are 95 % bootstrap intervals over patients. Sensitivity and specificity of single slices are taken
at the study's operating point, Brier scores after calibration (0.25 is a coin's).

| figure | on | n | value | 95 % interval |
| --- | --- | --- | --- | --- |
{figures}

## From slices to a study
Platt scaling on the {calibration_source} validation slices (slope {slope:.3f},
intercept {intercept:.3f}).
A study's probability is the mean over the highest {top:.0%} of its slices with lung; operating
point {point:.4f}. The share and the operating point (sensitivity at least {sensitivity}) were
chosen on studies composed of {calibration_source} validation slices, since the data hold no whole
studies: {infected} of a study's slices come from one patient
with COVID-19, the others, and all slices of a study without, from {others} patients without.
AUC over composed studies by share:
{shares}.
Neither the share of infected slices nor what lies between them is known of real studies, so the
operating point may lie elsewhere for them: set your own on your own data.

## Limits
- Trained on {training} images from few sources, most of which hold one class only; a class that is
  tied to a source invites a shortcut, so read the figures per source.
- Figures cut from papers are not CT series: windows, crops and marks differ; {hounsfield} of the
  training images came in Hounsfield units.
- The non-COVID images hold other disease; it was not trained to tell COVID-19 from a given one.
- Lesions were drawn on {masks} images only; a non-COVID image with other opacities has no mask.
- A wholly consolidated lobe may be missed, since the lung field stops at dense tissue.
"""


_SOURCE_NOTES = {
    "covid-ct": "figures cut from papers, split by patient as its authors did; no licence is "
    "stated for it",
    "covid-semiseg": "figures cut from papers, with lesions drawn; names no patients, so split by "
    "clusters of near duplicates; for **non-commercial use only**",
    "luna-noncovid": "CT slices, split by a hash of the patient",
    "tcga-luad-slices": "CT slices, split by a hash of the patient",
}


@dataclass(frozen=True)
class CardFacts:
    """What a model card states beside its fixed text."""

    manifest: Manifest
    samples: Sequence[Sample]
    measures: Sequence[Measure]
    pooling_aucs: Mapping[float, float]
    note: str
    empty_mask_sources: Sequence[str]
    calibration_source: str
    sensitivity_target: float


def write_card(facts: CardFacts) -> str:
    """Return the model card as Markdown."""
    manifest, samples = facts.manifest, facts.samples
    training = [sample for sample in samples if sample.split is Split.TRAIN]
    return _CARD.format(
        title=f"{manifest.name} {manifest.version}",
        caution=manifest.caution,
        performance=_performance(facts.measures),
        licence=manifest.licence,
        filters=manifest.network.base_filters,
        size=manifest.network.input_size,
        normalisation=manifest.network.normalisation.value,
        tasks=", ".join(manifest.network.tasks),
        sha256=manifest.sha256,
        counts="\n".join(_count_rows(samples)),
        sources="\n".join(_source_notes(samples)),
        command=manifest.training_command,
        empty=", ".join(facts.empty_mask_sources) or "none",
        note=facts.note,
        figures="\n".join(_row(measure) for measure in facts.measures),
        calibration_source=facts.calibration_source,
        sensitivity=facts.sensitivity_target,
        infected=f"{INFECTED_SHARES[0]:.0%} to {INFECTED_SHARES[1]:.0%}",
        others=OTHER_PATIENTS,
        slope=manifest.calibration.slope,
        intercept=manifest.calibration.intercept,
        top=manifest.pooling.top_share,
        point=manifest.operating_point,
        shares=", ".join(f"{share:.0%}: {auc:.3f}" for share, auc in facts.pooling_aucs.items()),
        training=len(training),
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


def _performance(measures: Sequence[Measure]) -> str:
    """Say the values that count in one line."""
    telling = [
        f"{measure.name} {measure.value:.2f} ({measure.on}, n = {measure.count})"
        for measure in measures
        if measure.name in {"AUC", "Dice"} or measure.on == COMPOSED_STUDIES
    ]
    return f"On the validation data, which also chose it: {', '.join(telling)}."


def _row(measure: Measure) -> str:
    low_high = "" if measure.interval is None else "{:.3f} to {:.3f}".format(*measure.interval)
    return f"| {measure.name} | {measure.on} | {measure.count} | {measure.value:.3f} | {low_high} |"
