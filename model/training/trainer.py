"""A seeded training run with early stopping that can be resumed after a crash at any moment."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from model.data.dataset import Split, require_apart, require_labels, require_measurable
from model.errors import EvaluationError, TrainingError
from model.evaluation.validation import validate
from model.files import locked
from model.training.checkpoint import (
    last_good,
    load_checkpoint,
    require_finite,
    save_checkpoint,
)
from model.training.curves import draw_curves, write_events
from model.training.pipeline import epoch_steps, require_shares, training_batches
from model.training.progress import Progress, describe
from model.training.run_folder import LOCK, RunFolder
from model.training.run_state import RunState
from model.training.step import TrainingStep
from model.weights_file import save_weights

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    import keras

    from model.config import TrainingConfig
    from model.data.dataset import Sample

__all__ = ["RunState", "Trainer"]

REPORT_STEPS = 20
SECONDS_BETWEEN_PICTURES = 30.0


class Trainer:
    """Trains one network on samples in memory.

    Parameters
    ----------
    config
        The run.
    samples
        All samples; their split says which train and which validate.
    folder
        Run folder: see `model.training.run_folder.RunFolder`; the checkpoints in ``last``, and
        the averaged weights of the last and of the best epoch, ``last.npz`` and ``best.npz``.
    start_from
        Weights to go on from, of networks that differ in input size or tasks alone; see
        `model.weights_file.load_weights`.
    manifest
        The file that lists the samples, for the record of the run.
    """

    def __init__(
        self,
        config: TrainingConfig,
        samples: Sequence[Sample],
        folder: Path,
        start_from: Sequence[Path] = (),
        *,
        manifest: Path | None = None,
    ) -> None:
        self.config, self.folder = config, folder
        self.training = [sample for sample in samples if sample.split is Split.TRAIN]
        self.validation = [sample for sample in samples if sample.split is Split.VALIDATION]
        if not self.training or not self.validation:
            raise TrainingError("both splits need samples: train and validation")
        require_labels(self.training, config.network.tasks)
        self.files = RunFolder(
            folder, config, [*self.training, *self.validation], manifest, start_from
        )
        self.steps = epoch_steps(self.training, config)
        self.training_step = TrainingStep(config, self.steps, start_from)
        self.state = RunState()
        self._begun = False
        self._saved_at = self._drawn_at = time.monotonic()

    @property
    def network(self) -> keras.Model:
        """The network with the averaged weights."""
        return self.training_step.averaged

    def resume(self) -> str:
        """Go on from the run folder's last checkpoint; without one the run begins.

        Returns
        -------
        str
            What was wrong with the newest checkpoint if the one before had to do; else empty.

        Raises
        ------
        TrainingError
            If the folder holds a run with other settings or data, none of its checkpoints is
            whole, or another process is training there.
        """
        if not self.folder.exists() or not any(self.folder.iterdir()):
            return ""
        with self._alone():  # what is cleared away may be what a live run is writing
            self.files.require_same()
            saved = load_checkpoint(self.files.checkpoint, self.training_step.variables)
            if saved is None:
                return ""
            self.state, self._begun = RunState(**saved.state), True
            self._publish_best()
            return saved.damage

    def run(self, report: Callable[[str], None] = lambda _: None) -> RunState:
        """Train until the epochs are over or the validation score has stopped rising.

        Parameters
        ----------
        report
            Takes one line of progress.

        Raises
        ------
        TrainingError
            If the folder holds a run that was not resumed, a loss is not a number, or a checkpoint
            cannot be written. The last good checkpoint stays.
        DatasetError
            If a new run's validation samples cannot measure its tasks or are among those that
            train, or it would never draw some of its training samples. Nothing is written.
        """
        if not self._begun:
            # Only where a run begins: what an earlier version began must end as it would have.
            require_measurable(self.validation, self.config.network.tasks)
            require_apart([*self.training, *self.validation])
            require_shares(self.training, self.config)
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._alone():
            try:
                self._run(report)
            except OSError as error:
                raise TrainingError(
                    f"{self.folder}: cannot be written: {error.strerror or error}; "
                    f"{last_good(self.files.checkpoint)}: make room, then go on with --resume"
                ) from error
        return self.state

    def _run(self, report: Callable[[str], None]) -> None:
        self._saved_at = time.monotonic()
        if not self._begun:
            self.files.begin()
            self._save()
            self._begun = True
        progress = Progress(self.steps * self.config.epochs)
        while not self.state.ended(self.config.epochs, self.config.patience):
            losses = self._train_epoch(progress, report)
            self._finish_epoch(losses | self._validate())
            report(describe(self.state.history[-1]))
        self.files.write(self.state)
        if self.state.history:
            draw_curves(self.state.history, self.state.best_epoch, self.folder / "curves.png")

    def _train_epoch(self, progress: Progress, report: Callable[[str], None]) -> dict[str, float]:
        """Run what is left of an epoch and return the mean of each loss over the whole of it."""
        state, config = self.state, self.config
        for batch in training_batches(self.training, config, state.epoch, state.position):
            weight = _warm_up(state.step, config.segmentation_warm_up_steps)
            losses = self.training_step(batch, weight)
            self._require_numbers(losses)
            state.step += 1
            state.position += 1
            for name, loss in losses.items():
                state.sums[name] = state.sums.get(name, 0.0) + loss
            progress.count(losses)
            if state.step % REPORT_STEPS == 0:
                line = progress.line(state.epoch + 1, state.step)
                (self.folder / "progress.txt").write_text(line + "\n")
                report(line)
            if config.checkpoint_steps and state.step % config.checkpoint_steps == 0:
                self._save()
        return {f"{name}_loss": total / state.position for name, total in state.sums.items()}

    def _require_numbers(self, losses: dict[str, float]) -> None:
        for name, value in losses.items():
            if not math.isfinite(value):
                raise TrainingError(
                    f"{name} loss is {value} at step {self.state.step + 1} (epoch "
                    f"{self.state.epoch + 1}); the last good checkpoint is "
                    f"{self.files.checkpoint}: lower the learning rate, or set gradient_clip, and "
                    "begin a new run"
                )

    def _validate(self) -> dict[str, float]:
        """Validate the averaged weights, which are the ones a run gives away."""
        try:
            metrics = validate(self.network, self.validation)
            if not all(math.isfinite(value) for value in metrics.values()):
                raise EvaluationError(f"it gives {describe(metrics)}")  # noqa: TRY301 - told below
        except EvaluationError as error:
            raise TrainingError(
                f"validation after epoch {self.state.epoch + 1}: {error}; the last good checkpoint "
                f"is {self.files.checkpoint}: lower the learning rate, or set gradient_clip"
            ) from error
        return metrics

    def _finish_epoch(self, values: dict[str, float]) -> None:
        """Close the epoch with a checkpoint; weights count as the best once it is on disk."""
        # Before anything is given a name: a checkpoint would refuse them too late.
        require_finite(self.training_step.variables, self.files.checkpoint)
        state = self.state
        state.epoch += 1
        state.position, state.sums = 0, {}
        best = values["score"] > state.best_score
        if best:
            state.best_score, state.best_epoch = values["score"], state.epoch
            save_weights(self.network, self._coming_best())
        save_weights(self.network, self.folder / "last.npz")
        self._count_seconds()
        state.history.append({"epoch": state.epoch, "seconds": state.seconds} | values)
        self._save()
        self._publish_best()
        self.files.write(state)
        write_events(state.history[-1], self.folder / "tensorboard")
        if time.monotonic() - self._drawn_at > SECONDS_BETWEEN_PICTURES:
            draw_curves(state.history, state.best_epoch, self.folder / "curves.png")
            self._drawn_at = time.monotonic()

    def _save(self) -> None:
        self._count_seconds()
        save_checkpoint(self.files.checkpoint, self.training_step.variables, vars(self.state))

    def _count_seconds(self) -> None:
        now = time.monotonic()
        self.state.seconds += now - self._saved_at
        self._saved_at = now

    def _alone(self) -> AbstractContextManager[None]:
        """Keep a second process from training in the same folder."""
        held = TrainingError(f"{self.folder}: another process is training here")
        return locked(self.folder / LOCK, held)

    def _coming_best(self) -> Path:
        return self.folder / f"best-{self.state.best_epoch}.npz"

    def _publish_best(self) -> None:
        """Give the best weights their name, also those a crash left behind after the checkpoint."""
        if self._coming_best().exists():
            self._coming_best().replace(self.folder / "best.npz")
        for unconfirmed in self.folder.glob("best-*.npz"):
            unconfirmed.unlink()


def _warm_up(step: int, steps: int) -> float:
    return min(1.0, (step + 1) / steps) if steps else 1.0
