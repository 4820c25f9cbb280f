"""`lungwatch train`: train a network on the data a manifest lists."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from model.config import TrainingConfig


def train(
    *,
    config: Annotated[
        str,
        typer.Argument(
            metavar="CONFIG|NAME",
            help="JSON file with training settings, such as the config.json of a run (absent ones "
            "are the paper's), or the name of an experiment, taken at the paper's scale.",
        ),
    ],
    data: Annotated[
        Path, typer.Option(exists=True, dir_okay=False, help="Manifest of the training data.")
    ],
    out: Annotated[Path, typer.Option(help="Run folder: settings, metrics, checkpoint, weights.")],
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
        bool,
        typer.Option(
            "--resume",
            help="Go on from the run folder's last checkpoint, with the same result as if it had "
            "never stopped; settings and data have to be the same.",
        ),
    ] = False,
) -> None:
    """Train a network: seeded, stopped by its validation score, resumable at any moment."""
    from model.errors import TrainingError
    from model.training.checkpoint import has_checkpoint
    from worker.quiet_tensorflow import import_tensorflow_quietly

    settings = _settings(config)
    if has_checkpoint(out / "last") and not resume:
        raise TrainingError(f"{out} holds a run already: add --resume, or choose another folder")
    import_tensorflow_quietly()
    from model.data.dataset import load_samples
    from model.devices import configure_devices
    from model.training.trainer import Trainer
    from worker.cli.output import progress_bar, stderr
    from worker.training.slices import read_training_slice

    configure_devices()
    with progress_bar("") as report:
        report(f"reading {data}", None)
        samples = load_samples(data, settings.network.input_size, read_training_slice)
        trainer = Trainer(settings, samples, out, start_from or (), manifest=data)
        if resume:
            damage = trainer.resume()
            if damage:
                report(f"{damage}; going on from the checkpoint before it", None)
        steps = trainer.steps * settings.epochs
        state = trainer.run(lambda line: report(line, trainer.state.step / steps))
    stderr().print(
        f"Best score {state.best_score:.4f} in epoch {state.best_epoch}; weights: "
        f"{out / 'best.npz'}; {out / 'README.md'} describes the run",
        highlight=False,
        markup=False,
    )


def _settings(config: str) -> TrainingConfig:
    """Read a file of settings, or take those of the experiment of that name."""
    from model.config import TrainingConfig
    from model.errors import ConfigError

    if Path(config).is_file():
        return TrainingConfig.from_file(Path(config))
    if Path(config).suffix == ".json":
        raise ConfigError(f"{config}: no such file of training settings")
    from model.experiments import get

    return get(config).one_run()
