"""`lungwatch retrain`: from reviewed studies to a candidate that may be promoted."""

from __future__ import annotations

import os
from contextlib import closing, contextmanager
from pathlib import Path  # noqa: TC003 - typer reads it at run time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.cli import output
from worker.cli.options import JsonOption  # noqa: TC001 - typer reads it at run time
from worker.cli.start import start_command
from worker.quiet_tensorflow import import_tensorflow_quietly

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worker.db.engine import Database
    from worker.retraining.request import RetrainingRequest
    from worker.settings import Settings

_NOT_LOCKED = (
    "No test set is locked: this was measured on validation data, and promotion will be refused "
    "until LUNGWATCH_LOCKED_TEST_SET names one."
)


def retrain(  # noqa: PLR0913 - the options of a command
    *,
    out: Annotated[Path, typer.Option(file_okay=False, help="Run folder; --resume goes on in it.")],
    base: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="Manifest of data to train on beside the reviewed studies, so that what the "
            "network knows is not lost. Labels have to be a person's.",
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="JSON with training settings; unset: those of the version in use, with a third "
            "of its learning rate.",
        ),
    ] = None,
    version: Annotated[
        str, typer.Option(help="Version of the candidate; unset: the next free one.")
    ] = "",
    epochs: Annotated[int | None, typer.Option(min=1, help="Most epochs; unset: 20.")] = None,
    patience: Annotated[
        int | None, typer.Option(min=1, help="Epochs without a better score; unset: 6.")
    ] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Of Adam.")] = None,
    steps_per_epoch: Annotated[
        int | None, typer.Option(min=0, help="Batches of an epoch; 0: each image once.")
    ] = None,
    reviewed_share: Annotated[
        float,
        typer.Option(
            help="Share of each epoch drawn from reviewed studies, where the settings draw by "
            "shares."
        ),
    ] = 0.25,
    slices_per_study: Annotated[
        int, typer.Option(min=2, help="Most slices of a study; of more, every n-th is taken.")
    ] = 64,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run that was interrupted in --out.")
    ] = False,
    queue: Annotated[
        bool,
        typer.Option(
            "--queue",
            help="Leave it to `lungwatch trainer` instead; `lungwatch trainings` shows how far it "
            "is.",
        ),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Retrain the version in use with the reviewed studies, and register a candidate.

    Collects the reviewed studies, merges them with the base manifest, trains from the current
    weights, calibrates, registers the result as a candidate and compares it with the version in
    use. Nothing is promoted: that is `lungwatch model promote`. An interrupted run goes on with
    --resume.
    """
    from worker.retraining.request import RetrainingRequest

    settings = start_command()
    request = RetrainingRequest(
        out=str(out.absolute()),
        base=str(base.absolute()) if base else "",
        config=str(config.absolute()) if config else "",
        version=version,
        epochs=epochs,
        patience=patience,
        learning_rate=learning_rate,
        steps_per_epoch=steps_per_epoch,
        reviewed_share=reviewed_share,
        slices_per_study=slices_per_study,
    )
    if queue:
        _enqueue(settings, request, json=json)
    else:
        _run(settings, request, resume=resume, json=json)


def _run(settings: Settings, request: RetrainingRequest, *, resume: bool, json: bool) -> None:
    from worker import bootstrap, learning
    from worker.training.queue import training_environment

    # Before TensorFlow is imported, which looks at it once.
    os.environ.update(training_environment(settings))
    import_tensorflow_quietly()
    from model.devices import configure_devices
    from worker.cli.comparison_page import print_comparison
    from worker.retraining.run import Retraining

    with closing(bootstrap.open_database(settings)) as database, _audited(database, queued=False):
        site = learning.site(settings, database)
        configure_devices()
        with output.progress_bar("collecting the reviewed studies") as report:
            retrained = Retraining(request, site, report).run(resume=resume)
    if json:
        output.print_json(retrained.document())
        return
    for study, why in retrained.plan.left_out:
        typer.echo(f"Study {study} was left out: {why}.")
    print_comparison(retrained.comparison)
    if not retrained.locked:
        output.stdout().print(_NOT_LOCKED, style="bold red", markup=False)
    typer.echo(
        f"{retrained.candidate.title} is a candidate, made from {len(retrained.plan.studies)} "
        f"reviewed studies; `lungwatch model promote {retrained.candidate.title}` brings it into "
        "use."
    )


def _enqueue(settings: Settings, request: RetrainingRequest, *, json: bool) -> None:
    from worker import bootstrap, learning
    from worker.training.queue import enqueue

    learning.model_dir(settings)
    with closing(bootstrap.open_database(settings)) as database, _audited(database, queued=True):
        document = enqueue(settings, database, request)
    if json:
        output.print_json(document)
    else:
        typer.echo(f"Training {document['id']} waits for `lungwatch trainer`.")


@contextmanager
def _audited(database: Database, *, queued: bool) -> Iterator[None]:
    """Begin with the line of the audit trail; it gets another one if what follows fails."""
    from worker.audit.attempts import attempt
    from worker.audit.trail import acted
    from worker.audit_entry import AuditAction

    action = AuditAction.RETRAINING_STARTED
    with attempt(database, action, queued=queued):
        with database.transaction() as session:
            acted(session, action, queued=queued)
        yield


def trainings(*, json: JsonOption = False) -> None:
    """List what was asked of the training queue, the latest first: state, stage and outcome."""
    from worker import bootstrap
    from worker.db import training_runs

    with (
        closing(bootstrap.open_database(start_command())) as database,
        database.reading() as session,
    ):
        rows = [training_runs.document(run) for run in training_runs.every(session)]
    if json:
        output.print_json(rows)
        return
    columns = ("id", "state", "stage", "detail", "attempts", "asked", "run folder")
    output.print_table(f"{len(rows)} trainings", columns, [_cells(row) for row in rows])


def _cells(row: dict[str, Any]) -> tuple[object, ...]:
    asked = row["created_at"].split(".")[0].replace("T", " ")
    return (
        *(row[key] for key in ("id", "state", "stage", "detail", "attempts")),
        asked,
        row["out"],
    )
