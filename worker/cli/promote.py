"""`lungwatch model compare`, `promote`, `rollback` and `lock`: which version screens, and why."""

from __future__ import annotations

from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path  # noqa: TC003 - typer reads it at run time
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli import output
from worker.cli.options import JsonOption  # noqa: TC001 - typer reads it at run time
from worker.cli.start import start_command

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worker.versions.promotion import Promoted, Promotions

_Which = Annotated[str, typer.Argument(help="Name, name-version or the beginning of a sha256.")]


def compare(
    current: Annotated[
        str,
        typer.Argument(help="The version to be beaten; 'current': the one in use."),
    ],
    candidate: Annotated[str, typer.Argument(help="The version that wants its place.")],
    *,
    data: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="Manifest whose test rows are measured; unset: the locked test set.",
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Measure two versions on the same images, figure by figure, and tell the gate's verdict."""
    from worker.bootstrap import registry
    from worker.cli.comparison_page import print_comparison

    with _promotions() as promotions, output.progress_bar("opening the test set") as report:
        versions = registry(start_command())
        old = promotions.in_use() if current == "current" else versions.get(current)
        comparison = promotions.compare(old, versions.get(candidate), report, data)
    if json:
        output.print_json(comparison.document())
    else:
        print_comparison(comparison)


def promote(
    which: _Which,
    *,
    override: Annotated[
        str,
        typer.Option(
            metavar="REASON",
            help="Promote although the gate refuses it; the reason is recorded with your name.",
        ),
    ] = "",
    json: JsonOption = False,
) -> None:
    """Bring a version into use, if it is not worse than the one in use on the locked test set.

    Running workers pick it up between two studies. Exit code 10 where the gate refuses it.
    """
    from worker.cli.comparison_page import print_comparison
    from worker.errors import PromotionError
    from worker.versions.gate import PromotionRefusedError

    with _promotions() as promotions:
        try:
            with output.progress_bar("opening the test set") as report:
                promoted = promotions.promote(which, report, override)
        except PromotionRefusedError as error:
            if error.comparison and json:
                output.print_json({"promoted": False, **error.comparison.document()})
            elif error.comparison:
                print_comparison(error.comparison)
                # Its reasons are on the page.
                raise PromotionError(f"{error.title} is not promoted. {error.WAY_OUT}") from error
            raise
    if json:
        comparison = promoted.comparison.document() if promoted.comparison else None
        output.print_json({"promoted": True, **asdict(promoted), "comparison": comparison})
        return
    if promoted.comparison:
        print_comparison(promoted.comparison)
    if promoted.reasons:
        output.stdout().print(f"Overridden: {override}", markup=False)
    _say(promoted, "Promoted")


def rollback(
    *,
    reason: Annotated[str, typer.Option(help="Why; recorded with your name.")] = "",
    json: JsonOption = False,
) -> None:
    """Go back to the version that was in use before the last promotion."""
    with _promotions() as promotions:
        promoted = promotions.rollback(reason)
    if json:
        output.print_json(asdict(promoted))
    else:
        _say(promoted, "Rolled back to")


def history(*, json: JsonOption = False) -> None:
    """List every promotion and rollback: when, who, why, and what the gate had against it."""
    with _promotions() as promotions:
        steps = promotions.history()
    if json:
        output.print_json(steps)
        return
    columns = ["number", "at", "action", "version", "before it", "who", "reason", "overridden"]
    rows = [
        (
            step["number"],
            f"{step['at']:%Y-%m-%d %H:%M}",
            step["action"].replace("_", " "),
            step["version"],
            step["previous"],
            step["who"],
            step["reason"],
            "; ".join(step["against"]) if step["overridden"] else "",
        )
        for step in steps
    ]
    output.print_table("Promotions", columns, rows)


def lock(
    *,
    reason: Annotated[
        str, typer.Option(help="Why another test set than the locked one is meant.")
    ] = "",
) -> None:
    """Lock the test set of LUNGWATCH_LOCKED_TEST_SET: a later change of it is refused.

    The first comparison locks it by itself.
    """
    with _promotions() as promotions:
        locked = promotions.lock_test_set(reason)
    typer.echo(
        f"Locked: {locked.images} rows of {locked.path}, sha256 {locked.sha256[:12]}, since "
        f"{locked.locked_at:%Y-%m-%d} by {locked.locked_by}"
    )


@contextmanager
def _promotions() -> Iterator[Promotions]:
    from worker import bootstrap

    settings = start_command()
    with closing(bootstrap.open_database(settings)) as database:
        yield bootstrap.promotions(settings, database)


def _say(promoted: Promoted, what: str) -> None:
    typer.echo(
        f"{what} {promoted.title} (number {promoted.number}; before it: {promoted.previous}). "
        "Running workers take it with their next study; lungwatch doctor shows when they did."
    )
