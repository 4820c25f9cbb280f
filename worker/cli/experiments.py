"""`lungwatch experiments`: the paper's experiments and the systems it measures itself against."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli import output

if TYPE_CHECKING:
    from collections.abc import Callable

    from model.data.dataset import Sample
    from model.experiments.experiment import Experiment
    from model.experiments.runner import Order

experiments_app = typer.Typer(
    help="Run the paper's experiments and comparison systems, and make their tables.",
    no_args_is_help=True,
)


@experiments_app.command("list")
def list_() -> None:
    """List the experiments: the rows of Table 2, and the systems the paper names."""
    from model.experiments import get, names
    from model.experiments.experiment import Scale

    rows = []
    for name in names():
        experiment = get(name)
        full, reduced = (experiment.config(scale) for scale in (Scale.FULL, Scale.REDUCED))
        rows.append(
            [
                name,
                experiment.title,
                experiment.table.value,
                full.network.architecture.value,
                f"{full.network.input_size} / {reduced.network.input_size}",
                reduced.epochs * reduced.steps_per_epoch,
            ]
        )
    headings = ["name", "row", "table", "network", "input, full / reduced", "steps, reduced"]
    output.print_table("Experiments", headings, rows, whole=["name"])


@experiments_app.command("run")
def run(
    name: Annotated[str, typer.Argument(help="An experiment, or `table2` or `baselines`: all.")],
    *,
    data: Annotated[Path, typer.Option(exists=True, dir_okay=False, help="Manifest of the data.")],
    out: Annotated[Path, typer.Option(help="Folder that gets a run folder for each experiment.")],
    scale: Annotated[
        str,
        typer.Option(help="`reduced`, for a machine without GPU, or `full`, the paper's."),
    ] = "reduced",
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Skip finished experiments, go on with the one stopped."),
    ] = False,
    steps: Annotated[
        int, typer.Option(min=0, help="Optimizer steps, if not the scale's own number.")
    ] = 0,
    imagenet_weights: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            metavar="FILE",
            help="Local ImageNet weights, without the top, for a network that has published ones.",
        ),
    ] = None,
) -> None:
    """Train an experiment's system and report on the part of the data it did not learn from."""
    from model.errors import ConfigError
    from model.experiments import select
    from model.experiments.experiment import Scale
    from worker.quiet_tensorflow import import_tensorflow_quietly

    if scale not in set(Scale):
        raise ConfigError(f"--scale is {' or '.join(Scale)}, not {scale}")
    chosen = select(name)
    if imagenet_weights is not None and len(chosen) > 1:
        raise ConfigError("--imagenet-weights belongs to one network: name one experiment")

    import_tensorflow_quietly()
    from model.devices import configure_devices
    from model.experiments.runner import Order

    configure_devices()
    weights = "" if imagenet_weights is None else str(imagenet_weights.resolve())
    order = Order(Scale(scale), steps, resume, weights)
    with output.progress_bar("") as report:
        for experiment in chosen:
            _run_one(experiment, order, data, out, lambda line: report(line, None))


@experiments_app.command("table")
def table(
    *,
    runs: Annotated[
        Path,
        typer.Option(file_okay=False, help="Folder of run folders or of results."),
    ] = Path("docs/results/runs"),
    out: Annotated[
        Path | None,
        typer.Option(
            file_okay=False,
            help="Folder that gets the tables as Markdown, and the runs' figures and epochs.",
        ),
    ] = None,
) -> None:
    """Print the papers' figures beside ours, with 95 % intervals."""
    from model.errors import TrainingError
    from model.experiments import names
    from model.experiments.experiment import Table
    from model.experiments.table import collect, lines, read_results, write_tables

    if not runs.is_dir():
        raise TrainingError(f"{runs}: no such folder of runs or results; name it with --runs")
    results = read_results(runs)
    if not results:
        raise TrainingError(f"{runs}: no finished experiment; see `lungwatch experiments run`")
    for which in Table:
        if any(name in results for name in names(which)):
            headings = ["row", "figure", "published", "here, 95 % interval"]
            output.print_table(which.value, headings, lines(which, results))
    if out is not None:
        if runs.resolve() != (out / "runs").resolve():
            collect(runs, out / "runs")
        for path in write_tables(read_results(out / "runs"), out):
            output.stderr().print(f"wrote {path}", highlight=False, markup=False)


def _run_one(
    experiment: Experiment, order: Order, data: Path, out: Path, report: Callable[[str], None]
) -> None:
    from model.data.dataset import manifest_digest
    from model.experiments.runner import run_experiment

    size = experiment.config(order.scale, order.steps).network.input_size
    result = run_experiment(
        experiment,
        _samples(data, size, report),
        manifest_digest(data),
        out / experiment.name,
        order,
        report,
    )
    figures = ", ".join(
        f"{figure.name} {figure.value:.3f}"
        for figure in result.figures
        if figure.source == "both classes"
    )
    output.stderr().print(f"{experiment.name}: {figures}", highlight=False, markup=False)


def _samples(data: Path, size: int, report: Callable[[str], None]) -> tuple[Sample, ...]:
    from model.data.dataset import load_samples
    from worker.training.slices import read_training_slice

    report(f"reading {data} at {size} x {size}")
    return load_samples(data, size, read_training_slice)
