"""Writes an evaluation into a folder: JSON, table of images, curves, worst cases, report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from model.evaluation.cases import (
    cases_csv,
    cases_of,
    overlay_png,
    worst_lesions,
    worst_probabilities,
)
from model.evaluation.plots import reliability_png, roc_png
from model.evaluation.report import Picture, Pictures, ReportFacts, report_html
from model.files import replaced, write_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from model.evaluation.cases import Case
    from model.evaluation.evaluation import Evaluation
    from model.evaluation.subject import Evaluated

EVALUATION_FILE = "evaluation.json"
IMAGES_FILE = "images.csv"
REPORT_FILE = "report.html"
CASES_FOLDER = "cases"


def write_evaluation(
    folder: Path, evaluation: Evaluation, evaluated: Evaluated | None = None, caution: str = ""
) -> None:
    """Write everything; ``evaluation.json`` comes last, so that it stands for the whole.

    Parameters
    ----------
    folder
        Made if need be; an earlier evaluation in it is replaced.
    evaluation
        What was measured, with the series that were looked at.
    evaluated
        The images it was measured on; None where only series were.
    caution
        How far the version can be trusted, in its own words.
    """
    for stale in (folder / EVALUATION_FILE, *sorted((folder / CASES_FOLDER).glob("*.png"))):
        stale.unlink(missing_ok=True)
    pictures = Pictures()
    if evaluated is not None:
        cases = cases_of(evaluated)
        write_text(folder / IMAGES_FILE, cases_csv(cases))
        pictures = Pictures(
            curves=_curves(evaluation),
            worst_lesions=_overlays(evaluated, cases, worst_lesions(cases)),
            worst_probabilities=_overlays(evaluated, cases, worst_probabilities(cases)),
        )
    for name, picture in zip(("roc", "reliability"), pictures.curves, strict=False):
        _write(folder / f"{name}.png", picture)
    for group in ("worst_lesions", "worst_probabilities"):
        for number, picture in enumerate(getattr(pictures, group), 1):
            _write(folder / CASES_FOLDER / f"{group}_{number}.png", picture)
    write_text(folder / REPORT_FILE, report_html(evaluation, ReportFacts(caution, pictures)))
    write_text(folder / EVALUATION_FILE, evaluation.to_json())


def _curves(evaluation: Evaluation) -> tuple[Picture, ...]:
    if not evaluation.roc:
        return ()
    return (
        Picture(roc_png(evaluation), "ROC: black dots are the operating point."),
        Picture(
            reliability_png(evaluation),
            "Calibration in ten bins of equal width: on the diagonal, a probability of 0.7 has the "
            "disease in 7 of 10 images. A larger dot holds more images.",
        ),
    )


def _overlays(
    evaluated: Evaluated, cases: Sequence[Case], indices: Sequence[int]
) -> tuple[Picture, ...]:
    lesions = evaluated.outputs.lesions
    return tuple(
        Picture(
            overlay_png(evaluated.samples[index], None if lesions is None else lesions[index]),
            _caption(cases[index]),
        )
        for index in indices
    )


def _caption(case: Case) -> str:
    parts = [case.path]
    if case.dice is not None:
        parts.append(f"Dice {case.dice:.3f}")
    if case.probability is not None:
        truth = {True: "COVID-19", False: "no COVID-19", None: "class unknown"}[case.covid]
        parts.append(f"probability {case.probability:.3f}, {truth}")
    return "; ".join(parts)


def _write(path: Path, picture: Picture) -> None:
    with replaced(path) as temporary:
        temporary.write_bytes(picture.png)
