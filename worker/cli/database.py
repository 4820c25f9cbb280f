"""`lungwatch db`: bring the database's schema up to date, check it, back it up, restore it."""

from __future__ import annotations

from contextlib import closing
from dataclasses import asdict

import typer

from worker.cli import output
from worker.cli.backup import backup, reconcile, restore
from worker.cli.exit_codes import ExitCode
from worker.cli.options import JsonOption
from worker.cli.start import start_command

database_app = typer.Typer(
    help="Upgrade, check, back up and restore the database.", no_args_is_help=True
)


@database_app.command()
def upgrade() -> None:
    """Run the migrations the database lacks; harmless where it lacks none."""
    from worker.bootstrap import close_data_folder
    from worker.db.engine import Database
    from worker.schema_upgrade import upgrade_schema

    settings = start_command()
    if settings.data_dir.is_dir():
        close_data_folder(settings.data_dir)
    with closing(Database(settings.resolved_database_url)) as database:
        current = upgrade_schema(database)
    typer.echo(f"The database is at revision {current}.")


@database_app.command()
def check(*, json: JsonOption = False) -> None:
    """Tell whether the schema is what this version needs; exit code 9 where it is not."""
    from worker.db import schema
    from worker.db.engine import Database

    database = Database(start_command().resolved_database_url)
    try:
        status = schema.check(database.engine)
    finally:
        database.close()
    if json:
        output.print_json({**asdict(status), "up_to_date": status.up_to_date})
    elif status.up_to_date:
        typer.echo(f"The database is up to date, at revision {status.current}.")
    elif status.current != status.expected:
        typer.echo(
            f"The database is at revision {status.current or 'none'}, this version needs "
            f"{status.expected}: run `lungwatch db upgrade`."
        )
    else:
        typer.echo("The database differs from the tables of this version:")
        for difference in status.drift:
            typer.echo(f"  {difference}")
    if not status.up_to_date:
        raise typer.Exit(ExitCode.SCHEMA)


database_app.command()(backup)
database_app.command()(restore)
database_app.command()(reconcile)
