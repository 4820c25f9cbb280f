"""The model card of a released version, written from what was measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from model.dataset import Split

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from model.dataset import Sample
    from model.figures import Figure
    from model.registry import Manifest

_CARD = """# {title}

**Licence: {licence}**

## Intended use
Research only. The network looks at axial slices of chest CT for signs of COVID-19 pneumonia and
outlines lesions. What it says is unverified and for review by a radiologist; it is no medical
device, must not decide on anybody's care, and was never tested on patients of a hospital.

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

- COVID-CT brings its own split by patient; no licence is stated for it. COVID-SemiSeg is for
  **non-commercial use only**, and so are these weights. LUNA16 and TCGA-LUAD are split by a hash of
  the patient, SemiSeg, which names no patients, by clusters of near duplicates.
- No series, and no slice of the studies the product is checked with, took part in training,
  selection or calibration.

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
Platt scaling on the COVID-CT validation slices (slope {slope:.3f}, intercept {intercept:.3f}).
A study's probability is the mean over the highest {top:.0%} of its slices with lung; operating
point {point:.4f}. The share and the operating point (sensitivity at least 0.94) were chosen on
studies composed of COVID-CT validation slices, since the data hold no whole studies but those kept
for checking: 20 to 80 % of a study's slices come from one patient with COVID-19, the others, and
all slices of a study without, from five patients without. AUC over composed studies by share:
{shares}.
Neither the share of infected slices nor what lies between them is known of real studies, so the
operating point may lie elsewhere for them: set your own on your own data.

## Limits
- Trained on {training} images from few sources, most of which hold one class only; a class that is
  tied to a source invites a shortcut, so read the figures per source.
- Figures cut from papers are not CT series: windows, crops and marks differ, and only
  tens of training slices came in Hounsfield units.
- The non-COVID images hold other disease; it was not trained to tell COVID-19 from a given one.
- Lesions were drawn on {masks} images only; a non-COVID image with other opacities has no mask.
- A wholly consolidated lobe may be missed, since the lung field stops at dense tissue.
"""


@dataclass(frozen=True)
class CardFacts:
    """What a model card states beside its fixed text."""

    manifest: Manifest
    samples: Sequence[Sample]
    figures: Sequence[Figure]
    pooling_aucs: Mapping[float, float]
    note: str
    empty_mask_sources: Sequence[str]


def write_card(facts: CardFacts) -> str:
    """Return the model card as Markdown."""
    manifest, samples = facts.manifest, facts.samples
    training = [sample for sample in samples if sample.split is Split.TRAIN]
    return _CARD.format(
        title=f"{manifest.name} {manifest.version}",
        licence=manifest.licence,
        filters=manifest.network.base_filters,
        size=manifest.network.input_size,
        normalisation=manifest.network.normalisation.value,
        tasks=", ".join(manifest.network.tasks),
        sha256=manifest.sha256,
        counts="\n".join(_count_rows(samples)),
        command=manifest.training_command,
        empty=", ".join(facts.empty_mask_sources) or "none",
        note=facts.note,
        figures="\n".join(_figure_row(figure) for figure in facts.figures),
        slope=manifest.calibration.slope,
        intercept=manifest.calibration.intercept,
        top=manifest.pooling.top_share,
        point=manifest.operating_point,
        shares=", ".join(f"{share:.0%}: {auc:.3f}" for share, auc in facts.pooling_aucs.items()),
        training=len(training),
        masks=sum(sample.mask is not None for sample in training),
    )


def _count_rows(samples: Sequence[Sample]) -> list[str]:
    groups = sorted({sample.group for sample in samples})
    rows = []
    for group in groups:
        splits = [sample.split for sample in samples if sample.group == group]
        rows.append(f"| {group} | {splits.count(Split.TRAIN)} | {splits.count(Split.VALIDATION)} |")
    return rows


def _figure_row(figure: Figure) -> str:
    low_high = "" if figure.interval is None else "{:.3f} to {:.3f}".format(*figure.interval)
    return f"| {figure.name} | {figure.on} | {figure.count} | {figure.value:.3f} | {low_high} |"
