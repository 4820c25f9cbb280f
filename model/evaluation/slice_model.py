"""A network as evaluation sees it: images in, raw probabilities and lesion maps out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from model.config import Architecture, Task
from model.errors import EvaluationError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from model.config import NetworkConfig
    from model.data.dataset import Sample

BATCH_SIZE = 8


@dataclass(frozen=True, slots=True, eq=False)
class BatchOutput:
    """What a network says of a batch; None for a task it has no branch for.

    Attributes
    ----------
    probability
        Array of (batch,), raw, before calibration.
    lesion_probability
        Array of (batch, input_size, input_size).
    """

    probability: NDArray[np.float32] | None
    lesion_probability: NDArray[np.float32] | None


class SliceModel(Protocol):
    """Whatever judges single slices: a network, or a system of several parts."""

    @property
    def title(self) -> str:
        """What it is called in messages and reports."""
        ...

    def run(self, images: NDArray[np.float32]) -> BatchOutput:
        """Judge images of shape (batch, input_size, input_size), 0 to 1."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class SliceOutputs:
    """What a network says of all samples.

    Attributes
    ----------
    probability
        Raw probability of each, (samples,), or None.
    lesions
        Lesion masks, (samples, input_size, input_size), or None.
    """

    probability: NDArray[np.float32] | None
    lesions: NDArray[np.bool_] | None

    def only(self, chosen: NDArray[np.bool_]) -> SliceOutputs:
        """Return what it says of the chosen samples."""
        return SliceOutputs(
            None if self.probability is None else self.probability[chosen],
            None if self.lesions is None else self.lesions[chosen],
        )


class KerasSliceModel:
    """A trained Keras network of any kind, without its reconstruction, which nobody judges.

    Parameters
    ----------
    config
        Shape of the network.
    weights
        Its weights file, verified where it comes from a registry.
    title
        What it is called.
    """

    def __init__(self, config: NetworkConfig, weights: Path, title: str) -> None:
        # TensorFlow takes seconds to import; only who runs a network may pay for it.
        import tensorflow as tf  # noqa: PLC0415

        from model.architectures import build  # noqa: PLC0415
        from model.devices import configure_devices  # noqa: PLC0415
        from model.weights_file import load_weights  # noqa: PLC0415

        configure_devices()
        judged = tuple(task for task in config.tasks if task is not Task.RECONSTRUCTION)
        if not judged:
            raise EvaluationError(
                f"{title} reconstructs images only: it has no branch that can be measured"
            )
        if config.architecture is Architecture.MULTITASK:
            config = replace(config, tasks=judged)
        network = build(config, initialise=False)
        load_weights(network, weights)
        size = config.input_size
        self._title = title
        # AutoGraph has nothing to convert here, and would leave files in the temporary folder.
        self._run = tf.function(
            lambda images: network(images, training=False),
            input_signature=[tf.TensorSpec((None, size, size, 1), tf.float32)],
            autograph=False,
        )

    @property
    def title(self) -> str:
        """What it is called in messages and reports."""
        return self._title

    def run(self, images: NDArray[np.float32]) -> BatchOutput:
        """Judge a batch; see `SliceModel.run`."""
        outputs = {name: np.asarray(value) for name, value in self._run(images[..., None]).items()}
        probability = outputs.get(Task.CLASSIFICATION.value)
        lesions = outputs.get(Task.SEGMENTATION.value)
        return BatchOutput(
            None if probability is None else probability[:, 0].astype(np.float32),
            None if lesions is None else lesions[..., 0].astype(np.float32),
        )


def run_slices(
    slice_model: SliceModel,
    samples: Sequence[Sample],
    lesion_threshold: float,
    report: Callable[[float], None] | None = None,
) -> SliceOutputs:
    """Run a network over all samples, in batches.

    Parameters
    ----------
    slice_model
        The network.
    samples
        At least one.
    lesion_threshold
        A pixel at or above it is lesion.
    report
        Called with the finished share, 0 to 1.

    Raises
    ------
    EvaluationError
        If an output is not a number; the message names the first image.
    """
    probabilities: list[NDArray[np.float32]] = []
    lesions: list[NDArray[np.bool_]] = []
    for start in range(0, len(samples), BATCH_SIZE):
        batch = samples[start : start + BATCH_SIZE]
        output = slice_model.run(np.stack([sample.image for sample in batch]))
        for values in (output.probability, output.lesion_probability):
            if values is not None:
                _require_numbers(slice_model, batch, values)
        if output.probability is not None:
            probabilities.append(output.probability)
        if output.lesion_probability is not None:
            lesions.append(output.lesion_probability >= lesion_threshold)
        if report:
            report((start + len(batch)) / len(samples))
    return SliceOutputs(
        np.concatenate(probabilities) if probabilities else None,
        np.concatenate(lesions) if lesions else None,
    )


def _require_numbers(
    slice_model: SliceModel, batch: Sequence[Sample], values: NDArray[np.float32]
) -> None:
    finite = np.isfinite(values.reshape(len(batch), -1)).all(axis=1)
    if not finite.all():
        raise EvaluationError(
            f"{slice_model.title}: its output for {batch[int(np.argmin(finite))].path} is not a "
            "number: these weights are damaged or their training diverged; take an earlier version "
            "or train again"
        )
