"""The shipped network on three whole series, its slices of covidctmd-P001 beside trivial baselines.

The series never trained, tuned or calibrated a network. Run it as
``python bench/series_check.py DATA docs/results/series.md [MODEL]``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from model.evaluation.series import BASELINES, BLOCK, PROBABILITY
from model.evaluation.subject import find_subject
from model.registry import Registry
from worker.versions.labelled_series import SliceLabels, look_at_series, series_predictor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from model.evaluation.series import SeriesEvaluation, SliceAuc

LABELLED = "covidctmd-P001"
SERIES = {
    LABELLED: "COVID-19",
    "lidc-idri-0001": "no COVID-19 (nodules)",
    "lung_dx-A0001-s3": "no COVID-19 (lung cancer)",
}

_HEAD = """# The shipped network on three whole series

Model `{title}`, sha256
`{sha256}`.
Three studies illustrate, they prove nothing; none of them trained, tuned or calibrated the network.
Made by `bench/series_check.py`; `lungwatch evaluate MODEL --series DIR --slice-labels CSV` measures
any other.

## Infected slices of covidctmd-P001

Intervals: bootstrap over blocks of {block} neighbouring slices. A slice without lung is not shown
to the network and scores 0."""

_REMARKS = "\n## What it means\n"
_NO_REMARKS = """
## What it means

The remarks that stood here were written for other weights, and dropped.
"""

_REVERSED = """## The same labels, read from the other end

The data set says that its labels are sorted by SliceLocation, and above they are taken to begin
with the lowest. Seen by eye, they fit the images only when they begin with the highest: the slices
31, 41 and 66, counted from the feet, show opacities and count as healthy above, the slices 81 and
106 show none and count as infected; from the other end it is the reverse. Nothing of the network
was chosen by either order."""

_STUDIES = """## Studies

Operating point {point:.4f}.

| series | truth | probability | positive | slices | lung mL | lesions mL | lung % |
| --- | --- | --- | --- | --- | --- | --- | --- |"""


def auc_table(title: str, table: Sequence[SliceAuc]) -> list[str]:
    rows = []
    for row in table:
        low_high = "" if row.interval is None else "{:.3f} to {:.3f}".format(*row.interval)
        rows.append(f"| {row.score} | {row.auc:.3f} | {low_high} |")
    return [
        f"### {title}: {table[0].slices}, {table[0].infected} of them infected",
        "",
        "| score | AUC | 95 % interval |",
        "| --- | --- | --- |",
        *rows,
        "",
    ]


def study_row(name: str, series: SeriesEvaluation) -> str:
    return (
        f"| {name} | {SERIES[name]} | {series.probability:.3f} "
        f"| {'yes' if series.positive else 'no'} | {series.screened_slices} "
        f"| {series.lung_ml:.0f} | {series.lesion_ml:.1f} | {series.involvement_percent:.2f} |"
    )


def verdict(series: SeriesEvaluation) -> str:
    """Say whether the network's probability beats both baselines among slices with lung."""
    scores = {row.score: row.auc for row in series.with_lung}
    network = scores[PROBABILITY]
    best = max((scores[name], name) for name in BASELINES)
    word = "above" if network > best[0] else "below"
    return (
        f"**Among slices with lung the network's probability ({network:.3f}) lies {word} the\n"
        f"better trivial baseline ({best[1].removeprefix('baseline: ')}, {best[0]:.3f}).**"
    )


def study_verdict(results: dict[str, SeriesEvaluation]) -> str:
    """Say how many of the studies come out on their side of the operating point."""
    right = sum(series.positive == (name == LABELLED) for name, series in results.items())
    return f"**{right} of {len(results)} studies come out on their side of the operating point.**"


def remarks_of(page: str, sha256: str) -> str:
    """Return what a person wrote of these very weights; of others it may no longer be true."""
    _, heading, remarks = page.partition(_REMARKS)
    if not heading:
        return ""
    return heading + remarks if sha256 in remarks else _NO_REMARKS


def main() -> None:
    data, out = Path(sys.argv[1]) / "series", Path(sys.argv[2])
    subject = find_subject(sys.argv[3] if len(sys.argv) > 3 else "", Registry)
    predictor = series_predictor(subject)
    path = data / "covidctmd-labels" / "P001-slice-labels.csv"
    labels = {LABELLED: SliceLabels(path)}
    results = {name: look_at_series(predictor, data / name, labels.get(name)) for name in SERIES}
    other_end = look_at_series(predictor, data / LABELLED, SliceLabels(path, descending=True))
    lines = [
        *_HEAD.format(title=subject.title, sha256=subject.sha256, block=BLOCK).splitlines(),
        "",
        verdict(results[LABELLED]),
        "",
        *auc_table("All slices", results[LABELLED].all_slices),
        *auc_table("Slices with lung", results[LABELLED].with_lung),
        *_REVERSED.splitlines(),
        "",
        *auc_table("All slices, from the other end", other_end.all_slices),
        *auc_table("Slices with lung, from the other end", other_end.with_lung),
        *_STUDIES.format(point=predictor.operating_point).splitlines(),
        *(study_row(name, series) for name, series in results.items()),
        "",
        study_verdict(results),
    ]
    out.parent.mkdir(parents=True, exist_ok=True)
    remarks = remarks_of(out.read_text() if out.exists() else "", subject.sha256)
    out.write_text("\n".join(lines) + "\n" + remarks)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
