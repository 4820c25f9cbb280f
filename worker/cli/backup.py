"""`lungwatch db backup`, `restore` and `reconcile`: the record of an installation, put back."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict
from pathlib import Path  # noqa: TC003 - typer reads it at run time
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli import output
from worker.cli.options import JsonOption  # noqa: TC001 - typer reads it at run time
from worker.cli.start import start_command

if TYPE_CHECKING:
    from worker.db.engine import Database
    from worker.retention.reconciliation import Reconciled
    from worker.settings import Settings

# Files that are just on their way from the inbox to a study would count as lost.
_STOP_IT = "stop it and the workers first"


def backup(
    file: Annotated[Path, typer.Argument(help="The file to write, for instance lungwatch.zip.")],
    *,
    json: JsonOption = False,
) -> None:
    """Write the whole database into one file, while everything runs.

    It restores into SQLite and PostgreSQL alike. It holds patients' names: keep it as you keep
    the PACS's. Images, results and reviews lie in the data folder and are not in it.
    """
    from worker.audit.attempts import attempt
    from worker.audit.trail import acted
    from worker.audit_entry import AuditAction
    from worker.bootstrap import open_database
    from worker.db import dump

    action = AuditAction.DATABASE_BACKED_UP
    with closing(open_database(start_command())) as database, attempt(database, action):
        # The line comes first: there is no copy of the patients' names without one.
        with database.transaction() as session:
            acted(session, action)
        manifest = dump.backup(database.engine, file)
    if json:
        output.print_json(asdict(manifest))
    else:
        typer.echo(f"{file}: {manifest.rows} rows at revision {manifest.revision}.")


def restore(
    file: Annotated[Path, typer.Argument(help="A file of `lungwatch db backup`.", exists=True)],
    *,
    json: JsonOption = False,
) -> None:
    """Restore a backup into an empty database, and bring it together with the data folder.

    Stop node and workers before. What was received after the backup goes back into the inbox and
    is screened; a study whose files are lost says so.
    """
    from worker.audit.attempts import attempt
    from worker.audit.trail import acted
    from worker.audit_entry import AuditAction
    from worker.db import dump
    from worker.db.engine import Database
    from worker.services.alone import without_another_node, without_another_node_on

    settings = start_command()
    action = AuditAction.DATABASE_RESTORED
    with (
        without_another_node(settings.data_dir, _STOP_IT),
        closing(Database(settings.resolved_database_url)) as database,
        without_another_node_on(database, _STOP_IT),
    ):
        # An empty database stays empty where it fails: else the next try would be refused.
        with attempt(database, action, begins_trail=False):
            manifest = dump.restore(database.engine, file)
            with database.transaction() as session:
                acted(session, action, rows=manifest.rows, made_at=manifest.made_at)
        with attempt(database, AuditAction.DATABASE_RECONCILED):
            done = _reconcile(settings, database)
    if json:
        output.print_json({**asdict(manifest), "reconciled": asdict(done)})
        return
    typer.echo(f"Restored {manifest.rows} rows, as they were at {manifest.made_at}.")
    _tell(done)


def reconcile(*, json: JsonOption = False) -> None:
    """Bring database and data folder together; `lungwatch db restore` does it by itself.

    Stop node and workers before. Harmless where they agree.
    """
    from worker.audit.attempts import attempt
    from worker.audit.trail import acted
    from worker.audit_entry import AuditAction
    from worker.bootstrap import open_database
    from worker.dispatch import retention
    from worker.services.alone import without_another_node, without_another_node_on

    settings, action = start_command(), AuditAction.DATABASE_RECONCILED
    with (
        without_another_node(settings.data_dir, _STOP_IT),
        closing(open_database(settings)) as database,
        without_another_node_on(database, _STOP_IT),
        attempt(database, action),
    ):
        # It has many transactions: the line comes first, so that none of them is without one.
        with database.transaction() as session:
            acted(session, action)
        # Else what was given up would come back. Not after `restore`: a study that an old backup
        # gave up may have come again since, and its images are nowhere else.
        retention(settings, database).finish()
        done = _reconcile(settings, database)
    if json:
        output.print_json(asdict(done))
    else:
        _tell(done)


def _reconcile(settings: Settings, database: Database) -> Reconciled:
    from worker.retention.reconciliation import reconcile as bring_together

    return bring_together(database, settings.spool_dir, settings.results_dir)


def _tell(done: Reconciled) -> None:
    typer.echo(f"Instances the database did not know, back in the inbox: {done.back_to_inbox}.")
    typer.echo(f"Instances whose files are not there: {done.images_lost}.")
    typer.echo(
        f"Results whose files are not there: {done.results_lost}, of these made again: "
        f"{done.screened_again}."
    )
