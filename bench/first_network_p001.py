"""Per-slice AUC of the shipped network on COVID-CT-MD P001 beside trivial baselines.

The three series it reads never trained, tuned or calibrated the network. Run it as
``python bench/first_network_p001.py DATA docs/results/first-network.md``.
"""

from __future__ import annotations

import csv
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dicom_node.reader import read_ct_series
from model.evaluation.metrics import bootstrap_interval, roc_auc
from model.inference import Predictor
from model.lungs import Side, find_lungs
from model.registry import Registry

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dicom_node.ct_series import CtSeries
    from model.prediction import Prediction

LABELLED = "covidctmd-P001"
SERIES = {
    LABELLED: "COVID-19",
    "lidc-idri-0001": "no COVID-19 (nodules)",
    "lung_dx-A0001-s3": "no COVID-19 (lung cancer)",
}
BLOCK = 10

_HEAD = """# The first network on three whole series

Model `{title}`, sha256
`{sha256}`.
Three studies illustrate, they prove nothing; none of them trained, tuned or calibrated the network.
Made by `bench/first_network_p001.py`.

## Infected slices of covidctmd-P001

Intervals: bootstrap over blocks of {block} neighbouring slices. A slice without lung is not shown
to the network and scores 0."""

_REMARKS = "\n## What it means\n"
_NO_REMARKS = """
## What it means

The remarks that stood here were written for other weights, and dropped.
"""

_STUDIES = """## Studies

Operating point {point:.4f}.

| series | truth | probability | positive | slices | lung mL | lesions mL | lung % |
| --- | --- | --- | --- | --- | --- | --- | --- |"""


@dataclass
class Screened:
    """One series, what the network says of it, and the lung area of its slices."""

    series: CtSeries
    prediction: Prediction
    lung_area: NDArray[np.float64]


def screen(predictor: Predictor, folder: Path) -> Screened:
    series = read_ct_series(sorted(folder.rglob("*.dcm")))
    lungs = find_lungs(series.volume)
    area = (lungs.sides != Side.NONE).sum(axis=(1, 2)).astype(float)
    return Screened(series, predictor.predict(series.volume), area)


def labels_of(path: Path, series: CtSeries) -> NDArray[np.bool_]:
    """Bring the labels, which are in the order of SliceLocation, into the volume's order."""
    with path.open() as file:
        infected = [row["infected"] == "1" for row in csv.DictReader(file)]
    order = np.argsort([float(source.SliceLocation) for source in series.sources])
    labels = np.empty(len(infected), bool)
    labels[order] = infected
    return labels


def scores_of(screened: Screened) -> dict[str, NDArray[np.float64]]:
    """Score every slice by the network's two outputs and by three trivial rules."""
    count = screened.series.volume.shape[0]
    screened_slices = list(screened.prediction.screened_slices)
    probability = np.zeros(count)  # a slice without lung is not shown to the network
    probability[screened_slices] = screened.prediction.slice_probabilities
    lesion = (screened.prediction.lesion_mask.labels > 0).sum(axis=(1, 2)).astype(float)
    distance = np.abs(np.arange(count) - (count - 1) / 2)
    return {
        "network: probability": probability,
        "network: lesion area": lesion,
        "network: lesion share of the lung": lesion / np.maximum(screened.lung_area, 1),
        "baseline: lung area": screened.lung_area,
        "baseline: nearness to the centre": -distance,
    }


def auc_row(
    name: str,
    truth: NDArray[np.bool_],
    scores: NDArray[np.float64],
    chosen: NDArray[np.bool_],
) -> str:
    """Bootstrap over blocks of neighbouring slices: neighbours are not independent."""
    truth, scores = truth[chosen], scores[chosen]
    blocks = np.flatnonzero(chosen) // BLOCK
    low, high = bootstrap_interval(lambda drawn: roc_auc(truth[drawn], scores[drawn]), blocks)
    return f"| {name} | {roc_auc(truth, scores):.3f} | {low:.3f} to {high:.3f} |"


def auc_tables(screened: Screened, truth: NDArray[np.bool_]) -> list[str]:
    with_lung = np.zeros(truth.size, bool)
    with_lung[list(screened.prediction.screened_slices)] = True
    lines = []
    for title, chosen in (("All slices", np.ones_like(with_lung)), ("Slices with lung", with_lung)):
        lines += [
            f"### {title}: {chosen.sum()}, {truth[chosen].sum()} of them infected",
            "",
            "| score | AUC | 95 % interval |",
            "| --- | --- | --- |",
            *(auc_row(name, truth, s, chosen) for name, s in scores_of(screened).items()),
            "",
        ]
    return lines


def study_row(name: str, screened: Screened) -> str:
    prediction = screened.prediction
    return (
        f"| {name} | {SERIES[name]} | {prediction.covid_probability:.3f} "
        f"| {'yes' if prediction.positive else 'no'} | {len(prediction.screened_slices)} "
        f"| {prediction.lung_volume_ml:.0f} | {prediction.total_lesion_volume_ml:.1f} "
        f"| {prediction.lung_involvement_percent:.2f} |"
    )


def verdict(screened: Screened, truth: NDArray[np.bool_]) -> str:
    """Say whether the network's probability beats both baselines among slices with lung."""
    chosen = list(screened.prediction.screened_slices)
    scores = {name: roc_auc(truth[chosen], s[chosen]) for name, s in scores_of(screened).items()}
    network = scores.pop("network: probability")
    best = max((auc, name) for name, auc in scores.items() if name.startswith("baseline"))
    word = "above" if network > best[0] else "below"
    return (
        f"**Among slices with lung the network's probability ({network:.3f}) lies {word} the\n"
        f"better trivial baseline ({best[1].removeprefix('baseline: ')}, {best[0]:.3f}).**"
    )


def study_verdict(results: dict[str, Screened]) -> str:
    """Say how many of the studies come out on their side of the operating point."""
    right = sum(
        screened.prediction.positive == (name == LABELLED) for name, screened in results.items()
    )
    return f"**{right} of {len(results)} studies come out on their side of the operating point.**"


def remarks_of(page: str, sha256: str) -> str:
    """Return what a person wrote of these very weights; of others it may no longer be true."""
    _, heading, remarks = page.partition(_REMARKS)
    if not heading:
        return ""
    return heading + remarks if sha256 in remarks else _NO_REMARKS


def main() -> None:
    data, out = Path(sys.argv[1]), Path(sys.argv[2])
    entry = Registry().get()
    predictor = Predictor.load(entry)
    results = {name: screen(predictor, data / "series" / name) for name in SERIES}
    labels = data / "series" / "covidctmd-labels" / "P001-slice-labels.csv"
    truth = labels_of(labels, results[LABELLED].series)
    lines = [
        *_HEAD.format(title=entry.title, sha256=entry.manifest.sha256, block=BLOCK).splitlines(),
        "",
        verdict(results[LABELLED], truth),
        "",
        *auc_tables(results[LABELLED], truth),
        *_STUDIES.format(point=predictor.operating_point).splitlines(),
        *(study_row(name, screened) for name, screened in results.items()),
        "",
        study_verdict(results),
    ]
    out.parent.mkdir(parents=True, exist_ok=True)
    remarks = remarks_of(out.read_text() if out.exists() else "", entry.manifest.sha256)
    out.write_text("\n".join(lines) + "\n" + remarks)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
