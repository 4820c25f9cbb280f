"""The tables of results: what the papers give beside what the runs here gave."""

from __future__ import annotations

import shutil
from itertools import combinations
from typing import TYPE_CHECKING

from model.config import Task
from model.experiments.catalogue import get, names
from model.experiments.experiment import Scale, Table
from model.experiments.result import RunResult
from model.experiments.words import AFTER, BEFORE, TITLES
from model.files import replaced, write_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from model.experiments.result import MeasuredFigure

FIGURES = ("dice", "accuracy", "sensitivity", "specificity", "auc")
HEADINGS = ("Dice", "accuracy", "sensitivity", "specificity", "AUC")
RESULT_FILE = "result.json"


def read_results(folder: Path) -> dict[str, RunResult]:
    """Read the results of a folder by the name of their experiment.

    Parameters
    ----------
    folder
        Either what `collect` wrote (``NAME.json``), or run folders (``NAME/result.json``), also
        one level down.
    """
    files = [*folder.glob("*.json"), *folder.glob(f"*/{RESULT_FILE}")]
    files += folder.glob(f"*/*/{RESULT_FILE}")
    results = [RunResult.read(path) for path in sorted(files)]
    order = names()
    known = [result for result in results if result.experiment in order]
    return {r.experiment: r for r in sorted(known, key=lambda r: order.index(r.experiment))}


def collect(runs: Path, into: Path) -> None:
    """Copy the results and the metrics of each epoch of finished runs, named by experiment.

    Parameters
    ----------
    runs
        Folder of run folders; see `read_results`.
    into
        Gets ``NAME.json``, and ``NAME.csv`` or, of a run of several stages, ``NAME-STAGE.csv``.
    """
    for result in sorted({*runs.glob(f"*/{RESULT_FILE}"), *runs.glob(f"*/*/{RESULT_FILE}")}):
        name = RunResult.read(result).experiment
        _copy(result, into / f"{name}.json")
        for metrics in sorted(result.parent.glob("**/metrics.csv")):
            stage = "".join(f"-{part}" for part in metrics.parent.relative_to(result.parent).parts)
            _copy(metrics, into / f"{name}{stage}.csv")


def _copy(source: Path, target: Path) -> None:
    with replaced(target) as temporary:
        shutil.copyfile(source, temporary)


def columns() -> list[str]:
    """Return the headings of `rows`."""
    return ["row", *(f"{heading}, {whose}" for heading in HEADINGS for whose in ("paper", "ours"))]


def rows(table: Table, results: Mapping[str, RunResult]) -> list[list[str]]:
    """Return the cells of a table, a row for each experiment, also of those not yet run."""
    found = []
    for name in names(table):
        cells = [get(name).title]
        for figure in FIGURES:
            cells += [_published(name, figure), _measured(name, figure, results)]
        found.append(cells)
    return found


def lines(table: Table, results: Mapping[str, RunResult]) -> list[list[str]]:
    """Return row, figure, published and measured: a line for each figure, for narrow terminals."""
    found = []
    for name in names(table):
        for figure, heading in zip(FIGURES, HEADINGS, strict=True):
            cells = [_published(name, figure), _measured(name, figure, results)]
            if any(cells):
                found.append([get(name).title, heading, *cells])
    return found


def _published(name: str, figure: str) -> str:
    value = getattr(get(name).published, figure)
    if value is None:
        return ""
    return f"{value:.2f}" if round(value, 2) == value else f"{value:.4f}".rstrip("0")


def _measured(name: str, figure: str, results: Mapping[str, RunResult]) -> str:
    task = Task.SEGMENTATION if figure == "dice" else Task.CLASSIFICATION
    if task not in get(name).full.network.tasks:
        return ""
    return _cell(results[name].figure(figure)) if name in results else "not run"


def _cell(figure: MeasuredFigure | None) -> str:
    if figure is None:
        return ""
    if figure.low is None or figure.high is None:
        return f"{figure.value:.3f}"
    return f"{figure.value:.3f} ({figure.low:.3f} to {figure.high:.3f})"


def write_tables(results: Mapping[str, RunResult], folder: Path) -> list[Path]:
    """Write ``table2.md`` and ``baselines.md`` and return them; a row without result says so."""
    written = []
    for table in Table:
        path = folder / f"{table.value}.md"
        write_text(path, markdown(table, results))
        written.append(path)
    return written


def markdown(table: Table, results: Mapping[str, RunResult]) -> str:
    """Return the page of a table: what was done, the figures, their cost, what the order says."""
    own = {name: results[name] for name in names(table) if name in results}
    parts = [f"# {TITLES[table]}", BEFORE[table], _done(own)]
    parts += ["## Figures", _lines(columns(), rows(table, results)), _learned_nothing(own)]
    if table is Table.BASELINES:
        told = [[get(n).title, get(n).published_on] for n in names(table)]
        parts += ["Data of the published figures:", _lines(["row", "data"], told)]
    if own:
        parts += ["## What each row took", _lines(*_costs(own))]
    notes = [f"- {get(name).title}: {result.note}." for name, result in own.items() if result.note]
    if notes:
        parts.append("\n".join(notes))
    if table is Table.TABLE2 and own:
        parts += ["## What the order says", order(own, "dice"), order(own, "auc")]
    parts.append(AFTER[table])
    return "\n\n".join(part for part in parts if part) + "\n"


def _done(results: Mapping[str, RunResult]) -> str:
    reduced = [result for result in results.values() if result.scale is Scale.REDUCED]
    if not reduced:
        return ""
    first = reduced[0]
    steps = _each(str(steps) for steps in sorted({r.steps for r in reduced if r.steps}))
    rates = sorted({r.learning_rate for r in reduced if r.learning_rate is not None})
    shares = sorted({r.masked_share for r in reduced if r.masked_share is not None})
    adam = f"Adam with {_each(f'{rate:g}' for rate in rates)}" if rates else "Adam with a rate"
    drawn = f", {_each(f'{share:.0%}' for share in shares)} of the images drawn from those with "
    drawn = f"{drawn}lesion masks" if shares else ""
    counts = {
        figure.name: f"{figure.count} slices of {figure.patients} patients or clusters"
        for result in reduced
        for figure in result.figures
        if figure.source == "both classes" and figure.name in {"dice", "auc"}
    }
    on = ", ".join(f"{_HEADING[name]}: {count}" for name, count in sorted(counts.items()))
    return (
        f"Every row: {steps} optimizer steps of {first.batch_size} images, seed {first.seed}, "
        f"{adam} falling along a cosine{drawn}, data with sha256 `{first.data_sha256[:12]}`; "
        f"{first.protocol}. Reported on: {on}. Classes and lesions are cut at 0.5. Intervals: "
        "95 %, bootstrap over patients or clusters of near duplicates."
        f"{_made_with(reduced)}"
    )


def _each(values: Iterable[str]) -> str:
    return ", ".join(values)


def _made_with(results: Sequence[RunResult]) -> str:
    """Name the commits that the rows were made with, as far as the runs kept them."""
    commits = sorted({result.git_commit for result in results if result.git_commit})
    if not commits:
        return ""
    return f" Made with the code of commit {_each(f'`{_short(commit)}`' for commit in commits)}."


def _short(commit: str) -> str:
    sha1, dash, changed = commit.partition("-")
    return f"{sha1[:12]}{dash}{changed}"


def _learned_nothing(results: Mapping[str, RunResult]) -> str:
    """Name the rows whose classifier calls every image the same: their figures are no skill."""
    named = [
        get(name).title
        for name, result in results.items()
        if {_value(result.figure(each)) for each in ("sensitivity", "specificity")} == {0.0, 1.0}
    ]
    if not named:
        return ""
    return (
        "Called every image the same class, with or without COVID-19, and so learned nothing "
        f"within this budget: {_each(named)}."
    )


def _value(figure: MeasuredFigure | None) -> float | None:
    return None if figure is None else figure.value


_HEADING = dict(zip(FIGURES, HEADINGS, strict=True))


def _costs(results: Mapping[str, RunResult]) -> tuple[list[str], list[list[str]]]:
    headings = ["row", "input", "parameters", "steps", "best step", "CPU minutes"]
    cells = [
        [
            get(name).title,
            str(result.input_size),
            f"{result.parameters:,}",
            str(result.steps),
            str(result.best_epoch * result.epoch_steps),
            f"{result.cpu_seconds / 60:.1f}",
        ]
        for name, result in results.items()
    ]
    return headings, cells


def order(results: Mapping[str, RunResult], figure: str) -> str:
    """Say how far the rows of Table 2 stand in the paper's order, and how sure that is."""
    told = []
    for name, result in results.items():
        published, measured = getattr(get(name).published, figure), result.figure(figure)
        if published is not None and measured is not None:
            told.append((get(name).title, published, measured))
    pairs = [pair for pair in combinations(told, 2) if pair[0][1] != pair[1][1]]
    if not pairs:
        return ""
    same = [
        (one, other)
        for one, other in pairs
        if (one[1] - other[1]) * (one[2].value - other[2].value) > 0
    ]
    apart = [pair for pair in pairs if _apart(pair[0][2], pair[1][2])]
    best = max(told, key=lambda row: row[2].value)
    chance = sum(row[2].low is not None and row[2].low <= 0.5 for row in told)
    by_chance = f" {chance} of {len(told)} intervals reach down to 0.5, which is guessing."
    return (
        f"{_HEADING[figure]}: {len(same)} of {len(pairs)} pairs of rows stand in the paper's "
        f"order, where chance would give about {len(pairs) / 2:g}. In {len(apart)} of them the two "
        f"intervals do not overlap, and {len([p for p in apart if p in same])} of those "
        f"agree with the paper. Highest here: {best[0]}, "
        f"{_cell(best[2])}.{by_chance if figure == 'auc' else ''}{_against(apart, same)}"
    )


_Row = tuple[str, float, "MeasuredFigure"]


def _against(apart: list[tuple[_Row, _Row]], same: list[tuple[_Row, _Row]]) -> str:
    """Name the pairs that stand the other way round than in the paper, beyond their intervals."""
    turned = [sorted(pair, key=lambda row: -row[2].value) for pair in apart if pair not in same]
    if not turned:
        return ""
    told = "; ".join(f"{high[0]} above {low[0]}" for high, low in turned)
    return f" Against the paper's order beyond the intervals: {told}."


def _apart(one: MeasuredFigure, other: MeasuredFigure) -> bool:
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return False
    return one.low > other.high or other.low > one.high


def _lines(headings: list[str], cells: list[list[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
