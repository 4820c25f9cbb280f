"""How a comparison of two versions is printed: every figure of both, and the gate's verdict."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.cli import output

if TYPE_CHECKING:
    from model.comparison import Comparison, Difference

_COLUMNS = ("data", "figure", "images", "current", "candidate", "difference", "95 %", "margin", "")


def print_comparison(comparison: Comparison) -> None:
    """Print figure by figure what two versions reach, and whether the gate lets the second pass."""
    data = comparison.data
    title = (
        f"{comparison.candidate.title} (candidate) against {comparison.current.title} (current) on "
        f"{data.images} images of {data.manifest or 'the given samples'}"
    )
    output.print_table(title, _COLUMNS, [_row(each) for each in comparison.differences])
    console = output.stdout()
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
        difference.name,
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
