"""How TensorFlow uses this machine's devices; called once, before the first tensor is made."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import keras
import tensorflow as tf

if TYPE_CHECKING:
    from collections.abc import Iterator


def configure_devices() -> tuple[str, ...]:
    """Let GPU memory grow instead of taking all of it, and compute in float32.

    Returns
    -------
    tuple[str, ...]
        Names of the GPUs, empty on a CPU-only machine.
    """
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, enable=True)
    keras.mixed_precision.set_dtype_policy("float32")
    return tuple(gpu.name for gpu in gpus)


@contextmanager
def precision(policy: str) -> Iterator[None]:
    """Build the layers within the block for an arithmetic, such as ``mixed_bfloat16``."""
    before = keras.mixed_precision.dtype_policy()
    keras.mixed_precision.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.mixed_precision.set_dtype_policy(before)


def choose_strategy() -> tf.distribute.Strategy:
    """Return the way to spread a step: over all GPUs if there are several, else none."""
    gpus = tf.config.list_logical_devices("GPU")
    return tf.distribute.MirroredStrategy() if len(gpus) > 1 else tf.distribute.get_strategy()
