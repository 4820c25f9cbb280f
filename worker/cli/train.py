"""`lungwatch train`: train a network on the data a manifest lists."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import Annotated

import typer


def train(
    *,
    data: Annotated[
        Path, typer.Option(exists=True, dir_okay=False, help="MANIFEST.csv of the training data.")
    ],
    out: Annotated[Path, typer.Option(help="Run folder: settings, metrics, checkpoint, weights.")],
    config: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, help="JSON with training settings; absent: the paper's."
        ),
    ] = None,
    start_from: Annotated[
        list[Path] | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            metavar="FILE",
            help="Weights to go on from, also of another input size; of several files the last "
            "one counts.",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the run folder's last checkpoint.")
    ] = False,
) -> None:
    """Train a network: seeded, stopped by its validation score, resumable after each epoch."""
    from model.config import TrainingConfig
    from model.data.dataset import load_samples, manifest_digest
    from model.devices import configure_devices
    from model.errors import TrainingError
    from model.training.trainer import Trainer
    from worker.cli.output import progress_bar, stderr
    from worker.training_slices import read_training_slice

    settings = TrainingConfig.from_json(config.read_text()) if config else TrainingConfig()
    if (out / "last").exists() and not resume:
        raise TrainingError(f"{out} holds a run already: add --resume, or choose another folder")
    configure_devices()
    with progress_bar("") as report:
        report(f"reading {data}", None)
        samples = load_samples(data, settings.network.input_size, read_training_slice)
        trainer = Trainer(settings, samples, out, start_from or ())
        out.mkdir(parents=True, exist_ok=True)
        (out / "data.sha256").write_text(manifest_digest(data) + "\n")
        if resume:
            trainer.resume()
        steps = trainer.steps * settings.epochs
        state = trainer.run(lambda line: report(line, trainer.state.step / steps))
    stderr().print(
        f"Best score {state.best_score:.4f} in epoch {state.best_epoch}; weights: "
        f"{out / 'best.npz'}",
        highlight=False,
        markup=False,
    )
