"""`lungwatch studies clean`: remove files whose time is over, now or only to see which."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli import output
from worker.cli.options import JsonOption  # noqa: TC001 - typer reads it at run time
from worker.cli.start import start_command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from worker.retention.retention import Cleaned

_MIB = 1024 * 1024


def clean(
    *,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell what would be removed, and remove nothing.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Remove images and results whose time is over; a running node does it every minute.

    What was not delivered, or not yet committed by its destinations, stays. The record of every
    study stays too. The times are the settings of retention. Where the disk lets files not go, it
    names their studies and ends with 1.
    """
    from worker.audit.attempts import attempt
    from worker.audit_entry import AuditAction
    from worker.bootstrap import open_database
    from worker.dispatch import retention
    from worker.errors import FilesNotRemovedError

    settings = start_command()
    with closing(open_database(settings)) as database:
        keeper = retention(settings, database)
        if dry_run:
            _print(keeper.preview(), "would be removed", json=json)
            return
        with attempt(database, AuditAction.STUDIES_CLEANED):
            _print(keeper.clean(), "were removed", json=json)
            if keeper.stuck:
                raise FilesNotRemovedError(
                    f"files of study {', '.join(map(str, keeper.stuck))} could not be removed: "
                    "mend the disk or their owner; it is tried again each time, and by a running "
                    "node every minute"
                )


def _print(studies: Sequence[Cleaned], what: str, *, json: bool) -> None:
    if json:
        output.print_json([asdict(each) for each in studies])
        return
    rows = [(each.study_id, each.why.value, f"{each.size / _MIB:.1f}") for each in studies]
    title = f"Images and results of {len(rows)} {'study' if len(rows) == 1 else 'studies'} {what}"
    output.print_table(title, ("study", "why", "MiB"), rows)
