"""The command `lungwatch`: its tree of commands, and how errors become one line and an exit code.

Nothing here may import more than typer: each command imports what it needs when it runs.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Annotated

import typer

from worker.cli.audit import audit_app
from worker.cli.data import data_app
from worker.cli.database import database_app
from worker.cli.demo import demo
from worker.cli.doctor import doctor
from worker.cli.evaluate import evaluate
from worker.cli.exit_codes import ExitCode, exit_code_of
from worker.cli.experiments import experiments_app
from worker.cli.models import models_app
from worker.cli.pseudo_masks import pseudo_masks
from worker.cli.retrain import retrain, trainings
from worker.cli.screen import screen
from worker.cli.services import node, trainer, up, worker
from worker.cli.studies import studies_app
from worker.cli.train import train

_EPILOG = (
    "Settings are environment variables that start with LUNGWATCH_ (docs/settings.md). "
    "Results are unverified, for review by a radiologist, for research use only."
)

app = typer.Typer(
    name="lungwatch",
    help="PACS-integrated batch screening worker for chest CT.",
    epilog=_EPILOG,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@dataclass(slots=True)
class Invocation:
    """What the options before the command ask for."""

    debug: bool = False


def _print_version(value: bool) -> None:  # noqa: FBT001 - typer's callback signature
    if value:
        from importlib.metadata import version

        typer.echo(f"lungwatch {version('lungwatch')}")
        raise typer.Exit


@app.callback()
def _options(
    context: typer.Context,
    *,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the whole traceback of an error.")
    ] = False,
    version: Annotated[  # noqa: ARG001 - its callback does the work
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Tell the version."),
    ] = False,
) -> None:
    context.ensure_object(Invocation).debug = debug


app.command()(up)
app.command()(node)
app.command()(worker)
app.command()(trainer)
app.command()(demo)
app.command()(screen)
app.add_typer(studies_app, name="studies")
app.add_typer(database_app, name="db")
app.add_typer(audit_app, name="audit")
app.command()(doctor)
app.add_typer(data_app, name="data")
data_app.command()(pseudo_masks)
app.add_typer(models_app, name="model")
app.command()(train)
app.command()(retrain)
app.command()(trainings)
app.command()(evaluate)
app.add_typer(experiments_app, name="experiments")


def main() -> None:
    """Run `lungwatch`; an error of ours is one line on stderr and an exit code."""
    invocation = Invocation()
    try:
        app(obj=invocation)
    except KeyboardInterrupt:
        sys.exit(ExitCode.INTERRUPTED)
    except Exception as error:
        code = _expected(error)
        if invocation.debug or code is None:
            raise
        # A database driver's own words, without the statement around them.
        typer.echo(f"lungwatch: {getattr(error, 'orig', None) or error}", err=True)
        sys.exit(code)


def _expected(error: Exception) -> ExitCode | None:
    """Exit code of an error a person can do something about, None for a defect of ours."""
    from dicom_node.errors import DicomNodeError
    from model.errors import ModelError
    from worker.errors import WorkerError

    code = exit_code_of(error)
    ours = isinstance(error, (WorkerError, DicomNodeError, ModelError, OSError))
    return code if ours or code is not ExitCode.FAILED else None


if __name__ == "__main__":
    main()
