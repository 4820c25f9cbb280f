"""What a network reaches on the validation split, and the one score a run is stopped by."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from model.config import Task
from model.data.dataset import sources_with_both_classes
from model.errors import EvaluationError
from model.evaluation.metrics import dice, roc_auc_within

if TYPE_CHECKING:
    from collections.abc import Sequence

    import keras
    from numpy.typing import NDArray

    from model.data.dataset import Sample

BATCH_SIZE = 8


def predict_samples(
    network: keras.Model, samples: Sequence[Sample]
) -> dict[str, NDArray[np.float32]]:
    """Return the outputs of the network for every sample, stacked, by task."""
    images = np.stack([sample.image for sample in samples])[..., None]
    outputs: dict[str, NDArray[np.float32]] = network.predict(images, BATCH_SIZE, verbose=0)
    return outputs


def validate(network: keras.Model, samples: Sequence[Sample]) -> dict[str, float]:
    """Measure each task and the score a run is stopped by.

    Parameters
    ----------
    network
        A network with any set of tasks.
    samples
        Validation samples.

    Returns
    -------
    dict
        ``auc`` over pairs of images of one source (so that knowing the source does not help),
        ``dice`` as the mean over the images with a mask, ``reconstruction_mse``, and ``score``: the
        mean of AUC and Dice as far as they exist.

    Raises
    ------
    EvaluationError
        If an output is not a number: compared with a threshold it would pass for a healthy image.

    Notes
    -----
    Samples that cannot measure a task give 0.5 and 0. A run does not begin with such samples
    (`model.data.dataset.require_measurable`); one that an earlier version began ends as it would
    have there.
    """
    outputs = predict_samples(network, samples)
    _require_numbers(outputs, samples)
    metrics: dict[str, float] = {}
    if Task.CLASSIFICATION in outputs:
        probability = outputs[Task.CLASSIFICATION].reshape(-1).astype(np.float64)
        metrics["auc"] = auc_within_sources(samples, probability)
    if Task.SEGMENTATION in outputs:
        masks = outputs[Task.SEGMENTATION][..., 0] >= 0.5
        scores = [
            dice(sample.mask, mask)
            for sample, mask in zip(samples, masks, strict=True)
            if sample.mask is not None
        ]
        metrics["dice"] = float(np.mean(scores)) if scores else 0.0
    score = float(np.mean(list(metrics.values()))) if metrics else 0.0
    if Task.RECONSTRUCTION in outputs:
        images = np.stack([sample.image for sample in samples])
        error = np.square(outputs[Task.RECONSTRUCTION][..., 0] - images)
        metrics["reconstruction_mse"] = float(error.mean())
        score = score or -metrics["reconstruction_mse"]
    return metrics | {"score": score}


def _require_numbers(outputs: dict[str, NDArray[np.float32]], samples: Sequence[Sample]) -> None:
    for task, values in outputs.items():
        finite = np.isfinite(values.reshape(len(samples), -1)).all(axis=1)
        if not finite.all():
            path = samples[int(np.argmin(finite))].path
            raise EvaluationError(f"the {task} of {path} is not a number")


def auc_within_sources(samples: Sequence[Sample], probability: NDArray[np.float64]) -> float:
    """Return the AUC over pairs of one source, or 0.5 if no source has both classes."""
    both = sources_with_both_classes(samples)
    if not both:
        return 0.5
    chosen = np.array([s.source in both and s.covid is not None for s in samples], bool)
    truth = np.array([bool(sample.covid) for sample in samples])[chosen]
    sources = np.array([sample.source for sample in samples])[chosen]
    return roc_auc_within(truth, probability[chosen], sources)
