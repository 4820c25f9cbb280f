"""`lungwatch evaluate`: measure a network on data with known truth, and on whole series."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli import output
from worker.cli.options import JsonOption  # noqa: TC001 - typer reads the annotations

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from model.evaluation.evaluation import Evaluation
    from model.evaluation.series import SeriesEvaluation
    from model.evaluation.subject import Evaluated, Subject
    from worker.versions.labelled_series import SliceLabels

    Report = Callable[[str, float | None], None]


class SplitChoice(StrEnum):
    """Parts of a manifest that can be evaluated."""

    VALIDATION = "validation"
    TEST = "test"
    TRAIN = "train"
    ALL = "all"


def evaluate(  # noqa: PLR0913 - the options of a command
    model: Annotated[
        str,
        typer.Argument(
            help="Name, name-version or beginning of a sha256 in the registry; or a version "
            "folder; or the run folder of a training."
        ),
    ],
    *,
    out: Annotated[
        Path, typer.Option(help="Folder for report.html, evaluation.json, images.csv, pictures.")
    ],
    data: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Manifest of the data with known truth."),
    ] = None,
    split: Annotated[
        SplitChoice, typer.Option(help="Part of the manifest that is measured.")
    ] = SplitChoice.VALIDATION,
    series: Annotated[
        list[Path] | None,
        typer.Option(
            exists=True,
            file_okay=False,
            help="Folder with one CT series to look at; may be given several times.",
        ),
    ] = None,
    slice_labels: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="CSV with a column infected (0 or 1), one row for each slice of the one --series, "
            "in the order of SliceLocation.",
        ),
    ] = None,
    labels_descending: Annotated[
        bool,
        typer.Option(
            "--labels-descending",
            help="The slice labels begin with the highest SliceLocation instead of the lowest.",
        ),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Measure a network: every figure with its interval, by source and overall, as a report."""
    if data is None and not series:
        raise typer.BadParameter("give --data, --series or both: there is nothing to measure on")
    if slice_labels and len(series or ()) != 1:
        raise typer.BadParameter("--slice-labels needs exactly one --series, which they label")
    from dataclasses import replace

    from model.evaluation.subject import evaluation_without_images, find_subject
    from worker.bootstrap import registry
    from worker.cli.start import start_command
    from worker.quiet_tensorflow import import_tensorflow_quietly

    settings = start_command()
    subject = find_subject(model, lambda: registry(settings))
    import_tensorflow_quietly()
    from model.evaluation.folder import REPORT_FILE, write_evaluation
    from worker.versions.labelled_series import SliceLabels

    with output.progress_bar("") as report:
        evaluated = None if data is None else _on_images(subject, data, split, report)
        labels = None if slice_labels is None else SliceLabels(slice_labels, labels_descending)
        looked_at = _on_series(subject, evaluated, series or (), labels, report)
        evaluation = (
            evaluated.evaluation if evaluated is not None else evaluation_without_images(subject)
        )
        evaluation = replace(evaluation, series=looked_at)
        report("writing the report", None)
        caution = subject.entry.manifest.caution if subject.entry else ""
        write_evaluation(out, evaluation, evaluated, caution)
    if json:
        typer.echo(evaluation.to_json(), nl=False)
        return
    _print(evaluation)
    output.stderr().print(f"Report: {out / REPORT_FILE}", markup=False, highlight=False)


def _on_images(subject: Subject, data: Path, split: SplitChoice, report: Report) -> Evaluated:
    from model.data.dataset import load_samples, manifest_digest
    from model.data.fingerprints import seen_by_version
    from model.evaluation.evaluate import Origin, choose_split
    from model.evaluation.seen import images_seen
    from model.evaluation.subject import evaluate_subject
    from worker.training.slices import read_training_slice

    samples = load_samples(
        data,
        subject.network.input_size,
        read_training_slice,
        progress=lambda done: report(f"reading {data}", done),
    )
    seen = None if subject.entry is None else seen_by_version(subject.entry)
    chosen = choose_split(samples, split.value, str(data))
    origin = Origin(
        str(data),
        manifest_digest(data),
        split.value,
        images_seen=None if seen is None else images_seen(data, chosen, seen),
    )
    report("loading the network", None)
    return evaluate_subject(
        subject,
        samples,
        origin,
        report=lambda done: report("running the network", done),
    )


def _on_series(
    subject: Subject,
    evaluated: Evaluated | None,
    folders: Sequence[Path],
    labels: SliceLabels | None,
    report: Report,
) -> tuple[SeriesEvaluation, ...]:
    if not folders:
        return ()
    from worker.versions.labelled_series import look_at_series, series_predictor

    report("loading the network", None)
    predictor = series_predictor(subject, evaluated.study_decision if evaluated else None)
    looked_at = []
    for folder in folders:
        name = folder.resolve().name

        def tell(stage: str, done: float, name: str = name) -> None:
            report(f"{name}: {stage}", done)

        looked_at.append(look_at_series(predictor, folder, labels, tell))
    return tuple(looked_at)


def _print(evaluation: Evaluation) -> None:
    from model.evaluation.evaluation import TITLES

    if evaluation.figures:
        data = evaluation.data
        output.print_table(
            f"{evaluation.model.title} on {data.manifest}, {data.split}: unverified",
            ("figure", "source", "n", "value", "95 % interval", "resampled by"),
            [
                (
                    TITLES[figure.name],
                    figure.source,
                    figure.count,
                    f"{figure.value:.3f}",
                    _low_high(figure.interval),
                    figure.level.value,
                )
                for figure in evaluation.figures
            ],
        )
    for series in evaluation.series:
        output.print_table(
            f"Series {series.name}: probability {series.probability:.3f}, operating point "
            f"{series.operating_point:.4f}, {'positive' if series.positive else 'negative'}",
            ("score", "slices", "infected", "AUC", "95 % interval"),
            [
                (
                    row.score,
                    which,
                    f"{row.infected} of {row.slices}",
                    f"{row.auc:.3f}",
                    _low_high(row.interval),
                )
                for which, table in (("all", series.all_slices), ("lung", series.with_lung))
                for row in table
            ],
        )


def _low_high(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"
