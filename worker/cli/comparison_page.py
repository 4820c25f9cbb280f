"""How a comparison of two versions is printed: every figure of both, and the gate's verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING

from model.comparison import Verdict
from model.evaluation.evaluation import OVERALL, TITLES, Name
from worker.cli import output

if TYPE_CHECKING:
    from model.comparison import Comparison, Difference

_COLUMNS = ("data", "figure", "images", "current", "candidate", "difference (95 %)", "margin", "")


def print_comparison(comparison: Comparison) -> None:
    """Print what two versions reach in the figures that the gate judges, and its verdict.

    Of a single source those alone that are not clearly as good as before.
    """
    data = comparison.data
    title = (
        f"{comparison.candidate.title} (candidate) against {comparison.current.title} (current) on "
        f"{data.images} images of {data.manifest or 'the given samples'}"
    )
    shown = [each for each in comparison.differences if _matters(each)]
    output.print_table(title, _COLUMNS, [_row(each) for each in shown], whole=_COLUMNS[:2])
    console = output.stdout()
    if len(shown) < len(comparison.differences):
        rest = len(comparison.differences) - len(shown)
        console.print(f"{rest} figures more, none of them worse: --json.", markup=False)
    for note in comparison.notes:
        console.print(f"Note: {note}.", markup=False)
    if comparison.passed:
        console.print("Gate: passed, not worse than the current version within the margins.")
        return
    console.print("Gate: refused.", style="bold red")
    for reason in comparison.reasons:
        console.print(f"  {reason}", markup=False)


def _matters(difference: Difference) -> bool:
    if difference.source == OVERALL:
        return difference.verdict is not Verdict.SHOWN
    return difference.verdict in {Verdict.WORSE, Verdict.UNCERTAIN}


def _row(difference: Difference) -> tuple[str, ...]:
    change = "" if difference.difference is None else f"{difference.difference:+.3f}"
    if difference.interval is not None:
        change += f" ({difference.interval[0]:+.3f} to {difference.interval[1]:+.3f})"
    return (
        difference.source,
        TITLES.get(Name(difference.name), difference.name),
        str(difference.count),
        _number(difference.current),
        _number(difference.candidate),
        change,
        "" if difference.margin is None else f"{difference.margin:g}",
        difference.verdict.value,
    )


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"
