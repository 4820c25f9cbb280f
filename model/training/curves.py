"""The curves of a run: a picture for people and event files for TensorBoard."""

from __future__ import annotations

from typing import TYPE_CHECKING

import tensorflow as tf
from matplotlib.figure import Figure
from tensorflow.core.framework.summary_pb2 import SummaryMetadata

from model.files import replaced

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    History = Sequence[dict[str, float]]

_NOT_DRAWN = ("epoch", "seconds")
_SCALAR = SummaryMetadata(
    plugin_data=SummaryMetadata.PluginData(plugin_name="scalars"), data_class=1
)


def draw_curves(history: History, best_epoch: int, path: Path) -> None:
    """Draw losses and validation figures over the epochs, with the best epoch marked."""
    names = [name for name in history[0] if name not in _NOT_DRAWN]
    losses = [name for name in names if name.endswith("_loss")]
    measures = [name for name in names if name not in losses]
    figure = Figure(figsize=(8, 2.6 * 2), layout="constrained")
    epochs = [row["epoch"] for row in history]
    for axes, title, shown in zip(
        figure.subplots(2, 1, sharex=True),
        ("training losses", "validation (averaged weights)"),
        (losses, measures),
        strict=True,
    ):
        for name in shown:
            axes.plot(epochs, [row[name] for row in history], marker=".", label=name)
        axes.set_title(title, fontsize=9)
        axes.grid(visible=True, alpha=0.3)
        if best_epoch:
            axes.axvline(best_epoch, color="grey", linestyle="--", label=f"best: {best_epoch}")
        if shown:
            axes.legend(fontsize=7)
    axes.set_xlabel("epoch")
    with replaced(path) as temporary:
        figure.savefig(temporary, dpi=110)


def write_events(row: dict[str, float], folder: Path) -> None:
    """Add one epoch to the event files; an epoch run again has the same values.

    They are written without TensorBoard's package, which only the reader needs.

    Raises
    ------
    OSError
        If they cannot be written, on a full disk for instance.
    """
    try:
        writer = tf.summary.create_file_writer(str(folder))
        with writer.as_default():
            for name, value in row.items():
                if name not in _NOT_DRAWN:
                    group = "loss" if name.endswith("_loss") else "validation"
                    tag = f"{group}/{name.removesuffix('_loss')}"
                    tf.summary.write(tag, tf.constant(value), step=row["epoch"], metadata=_SCALAR)
        writer.close()
    except tf.errors.OpError as error:
        raise OSError(f"{folder} cannot be written: {error.message}") from error
