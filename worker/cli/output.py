"""What commands print: results on stdout, everything else on stderr.

rich is imported when something is printed: `lungwatch --help` must not wait for more than typer.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rich.console import Console


_PIPE_WIDTH = 240
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def stdout() -> Console:
    """Console for results."""
    return _console(stderr=False)


def stderr() -> Console:
    """Console for progress, hints and errors; it never mixes with ``--json``."""
    return _console(stderr=True)


def _console(*, stderr: bool) -> Console:
    from rich.console import Console

    console = Console(stderr=stderr)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        # A file or a pipe has no edge to fold at.
        console.width = _PIPE_WIDTH
    return console


def print_json(document: object) -> None:
    """Print a result as JSON and nothing else."""
    json.dump(document, sys.stdout, indent=2, default=str, allow_nan=False)
    sys.stdout.write("\n")


def print_table(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    whole: Sequence[str] = (),
) -> None:
    """Print rows under their columns; cells fold, nothing is cut off.

    Parameters
    ----------
    title
        Line above the table.
    columns
        Headings.
    rows
        Cells; text is printed as it is, never read as markup.
    whole
        Columns whose cells are not broken, such as names that somebody copies.
    """
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", title_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column in whole)
    for row in rows:
        table.add_row(*(Text("" if cell is None else harmless(str(cell))) for cell in row))
    stdout().print(table)


def harmless(text: str) -> str:
    """Replace what a terminal would obey instead of showing it: headers are foreign text."""
    shown = (char if char.isprintable() or char == "\n" else _REPLACEMENT for char in text)
    return "".join(shown)


@contextmanager
def progress_bar(description: str) -> Iterator[Callable[[str, float | None], None]]:
    """Show how far a long command is, on stderr; a pipe gets one line for each stage.

    Parameters
    ----------
    description
        What is shown before the first stage.

    Yields
    ------
    callable
        Called with the stage's name and how much of it is done, 0 to 1, or None where that is
        unknown.
    """
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = stderr()
    last_stage = ""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    quiet = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=quiet) as bar:
        task = bar.add_task(description, total=None)

        def report(stage: str, done: float | None = None) -> None:
            nonlocal last_stage
            if stage != last_stage and quiet:
                console.print(stage, markup=False, highlight=False)
            last_stage = stage
            bar.update(task, description=stage, total=None if done is None else 1.0)
            if done is not None:
                bar.update(task, completed=done)

        yield report
