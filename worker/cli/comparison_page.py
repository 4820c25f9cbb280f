"""How a comparison of two versions is printed: every figure of both, and the gate's verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING

from model.comparison import Verdict
from model.evaluation.evaluation import TITLES, Name
from worker.cli import output

if TYPE_CHECKING:
    from model.comparison import Comparison, Difference

_COLUMNS = ("data", "figure", "images", "current", "candidate", "difference", "95 %", "margin", "")


def print_comparison(comparison: Comparison) -> None:
    """Print what two versions reach in each figure that the gate judges, and its verdict."""
    data = comparison.data
    title = (
        f"{comparison.candidate.title} (candidate) against {comparison.current.title} (current) on "
        f"{data.images} images of {data.manifest or 'the given samples'}"
    )
    judged = [each for each in comparison.differences if each.verdict is not Verdict.SHOWN]
    output.print_table(title, _COLUMNS, [_row(each) for each in judged], whole=_COLUMNS[:5])
    console = output.stdout()
    if len(judged) < len(comparison.differences):
        console.print("Figures that the gate does not look at: --json.", markup=False)
    for note in comparison.notes:
        console.print(f"Note: {note}.", markup=False)
    if comparison.passed:
        console.print("Gate: passed, not worse than the current version within the margins.")
        return
    console.print("Gate: refused.", style="bold red")
    for reason in comparison.reasons:
        console.print(f"  {reason}", markup=False)


def _row(difference: Difference) -> tuple[str, ...]:
    low_high = difference.interval
    return (
        difference.source,
        TITLES.get(Name(difference.name), difference.name),
        str(difference.count),
        _number(difference.current),
        _number(difference.candidate),
        "" if difference.difference is None else f"{difference.difference:+.3f}",
        "" if low_high is None else f"{low_high[0]:+.3f} to {low_high[1]:+.3f}",
        "" if difference.margin is None else f"{difference.margin:g}",
        difference.verdict.value,
    )


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"
