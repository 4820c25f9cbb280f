"""`lungwatch model`: the model versions of an installation, what each one is, and which screens."""

from __future__ import annotations

from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.cli import output
from worker.cli.options import JsonOption
from worker.cli.promote import compare, history, lock, promote, rollback

if TYPE_CHECKING:
    from model.registry import DamagedVersion, RegistryEntry
    from worker.versions.choice import Standing


_DAMAGED = "damaged"


class CalibrationChoice(StrEnum):
    """How a release is calibrated, as `model.evaluation.calibration.CalibrationMethod`."""

    AUTO = "auto"
    TEMPERATURE = "temperature"
    PLATT = "platt"
    NONE = "none"


models_app = typer.Typer(
    help="List, show, compare, release and promote model versions.", no_args_is_help=True
)


@models_app.command("list")
def list_(*, json: JsonOption = False) -> None:
    """List the model versions: shipped, of this installation, in use, and damaged ones."""
    from worker.bootstrap import model_standings, registry
    from worker.cli.start import start_command

    settings = start_command()
    versions = registry(settings)
    pinned = versions.get(settings.model) if settings.model else None
    rows = [_listed(standing, pinned) for standing in model_standings(settings)]
    rows += [_damaged(each) for each in versions.damaged()]
    if json:
        output.print_json(rows)
        return
    columns = ["model", "state", "sha256", "operating point", "licence"]
    cells = [
        (row["title"], _state(row), row["sha256"][:12], row.get("operating_point"), _licence(row))
        for row in rows
    ]
    output.print_table("Model versions", columns, cells, whole=["model", "sha256"])
    for row in rows:
        if row["state"] == _DAMAGED:
            output.stdout().print(row["caution"], markup=False, highlight=False, soft_wrap=True)
    cautions = sum(bool(row.get("caution")) and row["state"] != _DAMAGED for row in rows)
    if cautions:
        carry = "1 version carries" if cautions == 1 else f"{cautions} versions carry"
        typer.echo(f"{carry} a caution: lungwatch model show NAME")


@models_app.command("show")
def show(
    name: Annotated[
        str, typer.Argument(help="Name, name-version or the beginning of a sha256; empty: newest.")
    ] = "",
    *,
    json: JsonOption = False,
) -> None:
    """Show one model version: its licence, its settings and its model card; check its weights."""
    from worker.bootstrap import model_standings, registry
    from worker.cli.start import start_command

    settings = start_command()
    entry = registry(settings).get(name)
    entry.verified_weights()
    (state, *_) = [each.state.value for each in model_standings(settings) if each.entry == entry]
    if json:
        document = _summary(entry) | asdict(entry.manifest) | {"card": entry.model_card}
        output.print_json(document | {"state": state})
        return
    from rich.markdown import Markdown
    from rich.panel import Panel
    from rich.text import Text

    console = output.stdout()
    console.print(Panel(Text(entry.manifest.licence), title="LICENCE", style="bold red"))
    console.print(Panel(Text(entry.manifest.caution), title="CAUTION", style="bold red"))
    calibration = entry.manifest.calibration
    summary = (
        {"state": state}
        | _summary(entry)
        | {
            "slice_operating_point": entry.manifest.slice_operating_point,
            "calibration": f"{calibration.method}: slope {calibration.slope:.3f}, intercept "
            f"{calibration.intercept:.3f}",
            "top_share": entry.manifest.pooling.top_share,
        }
    )
    del summary["licence"], summary["caution"]
    facts = [(key.replace("_", " "), value) for key, value in summary.items()]
    output.print_table(entry.title, ["", ""], facts)
    console.print(Markdown(entry.model_card))


@models_app.command("release")
def release_(  # noqa: PLR0913 - each one is an option of the command
    run: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Run folder.")],
    *,
    data: Annotated[
        Path,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="Manifest that the run was trained on; another one is refused.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Registry folder that gets the version.")],
    name: Annotated[str, typer.Option(help="Name of the network's lineage.")],
    version: Annotated[str, typer.Option(help="Version within the lineage.")],
    licence: Annotated[str, typer.Option(help="What may be done with the weights.")],
    note: Annotated[str, typer.Option(help="How it was trained, for the model card.")] = "",
    caution: Annotated[
        str,
        typer.Option(
            help="How far to trust it, in one sentence; empty: not evaluated on whole studies."
        ),
    ] = "",
    earlier_data: Annotated[
        list[Path] | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            metavar="FILE",
            help="For a run with --start-from: manifest of what those weights had seen, with all "
            "that went before. Without it their own version or run is asked; where that is not "
            "found, nobody can say what the version has seen, and the gate refuses it.",
        ),
    ] = None,
    calibration: Annotated[
        CalibrationChoice,
        typer.Option(
            help="How probabilities are calibrated; auto: the best one on patients that did not "
            "fit it."
        ),
    ] = CalibrationChoice.AUTO,
    unfinished: Annotated[
        bool,
        typer.Option(
            "--unfinished",
            help="Release a run that was stopped before its end; the model card says so.",
        ),
    ] = False,
    half_precision: Annotated[
        bool,
        typer.Option(
            "--half-precision",
            help="Store the weights rounded to float16, at half the size; everything is measured "
            "after rounding, and manifest and card say so.",
        ),
    ] = False,
) -> None:
    """Calibrate a run's best weights on the validation data and put them into a registry."""
    from worker.quiet_tensorflow import import_tensorflow_quietly

    import_tensorflow_quietly()
    from model.data.dataset import load_samples, manifest_digest
    from model.evaluation.calibration import CalibrationMethod
    from model.registry import Registry
    from model.release import Identity, ReleaseOptions, release_run, seen_by_run
    from worker.training.slices import read_training_slice

    identity = Identity(name, version, licence, note, caution)
    method = CalibrationMethod(calibration.value)
    with output.progress_bar("taking the fingerprints of the data") as report:
        seen = seen_by_run(run, data, Registry([out]), earlier_data or ())
        options = ReleaseOptions(
            data_sha256=manifest_digest(data),
            calibration=method,
            half_precision=half_precision,
            seen=seen,
            unfinished=unfinished,
            data_file=data.name,
        )
        entry = release_run(
            run,
            out,
            identity,
            lambda size: load_samples(
                data,
                size,
                read_training_slice,
                progress=lambda done: report("reading the data", done),
            ),
            options,
            report,
        )
    if seen is None:
        output.stderr().print(
            f"Nobody can say what the weights had seen that {run} started from, so the version "
            "does not list its training data and the gate will refuse it: release it as another "
            "version with --earlier-data",
            markup=False,
            highlight=False,
        )
    size = entry.verified_weights().stat().st_size / 1e6
    output.stderr().print(
        f"Released {entry.title} in {entry.folder}, weights of {size:.1f} MB",
        markup=False,
        highlight=False,
    )


models_app.command()(compare)
models_app.command()(promote)
models_app.command()(rollback)
models_app.command()(history)
models_app.command()(lock)


def _listed(standing: Standing, pinned: RegistryEntry | None) -> dict[str, Any]:
    own = {
        "title": standing.title,
        "sha256": standing.sha256,
        "state": standing.state.value,
        "pinned": standing.entry is not None and standing.entry == pinned,
        "registered": standing.registered,
        "on_disk": standing.entry is not None,
    }
    return own | (_summary(standing.entry) if standing.entry else {})


def _damaged(version: DamagedVersion) -> dict[str, Any]:
    return {
        "title": version.folder.name,
        "sha256": "",
        "state": _DAMAGED,
        "pinned": False,
        "registered": False,
        "on_disk": True,
        "caution": version.problem,
        "folder": str(version.folder),
    }


def _state(row: dict[str, Any]) -> str:
    remarks = [name for name, holds in (("pinned", row["pinned"]),) if holds]
    remarks += [] if row["on_disk"] else ["not on disk"]
    return ", ".join([row["state"], *remarks])


def _licence(row: dict[str, Any]) -> str:
    """How the licence begins, marked where it goes on: `model show` has all of it."""
    licence: str = row.get("licence", "")
    begins = licence.partition(":")[0].partition(". ")[0]
    return begins if begins == licence else f"{begins} ..."


def _summary(entry: RegistryEntry) -> dict[str, Any]:
    manifest = entry.manifest
    return {
        "title": entry.title,
        "name": manifest.name,
        "version": manifest.version,
        "sha256": manifest.sha256,
        "licence": manifest.licence,
        "caution": manifest.caution,
        "operating_point": manifest.operating_point,
        "slice_operating_point": manifest.slice_operating_point,
        "precision": manifest.precision,
        "lesion_threshold": manifest.lesion_threshold,
        "folder": str(entry.folder),
    }
