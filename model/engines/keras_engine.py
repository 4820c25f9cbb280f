"""The network on Keras and TensorFlow; the only module of inference that imports them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import tensorflow as tf

from model.architectures import build
from model.config import Task
from model.devices import configure_devices
from model.engines.engine import EngineOutput
from model.weights_file import load_weights

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from model.config import NetworkConfig


class KerasEngine:
    """Runs segmentation and classification as one traced function on a fixed batch size.

    Parameters
    ----------
    config
        Shape of the trained network; its reconstruction decoder is not built, since nothing
        uses its output at inference.
    weights
        Verified weights file.
    batch_size
        Slices in each call.
    """

    name = "keras"

    def __init__(self, config: NetworkConfig, weights: Path, batch_size: int) -> None:
        configure_devices()
        tasks = (Task.SEGMENTATION, Task.CLASSIFICATION)
        network = build(replace(config, tasks=tasks), initialise=False)
        load_weights(network, weights)
        size = config.input_size
        signature = tf.TensorSpec((batch_size, size, size, 1), tf.float32)
        # AutoGraph has nothing to convert here, and would leave files in the temporary folder.
        self._run = tf.function(
            lambda images: network(images, training=False),
            input_signature=[signature],
            autograph=False,
        )

    def run(self, images: NDArray[np.float32]) -> EngineOutput:
        """Run the network; see `model.engines.engine.Engine`."""
        outputs = self._run(tf.constant(images[..., None]))
        return EngineOutput(
            covid_probability=np.asarray(outputs[Task.CLASSIFICATION.value])[:, 0],
            lesion_probability=np.asarray(outputs[Task.SEGMENTATION.value])[..., 0],
        )
