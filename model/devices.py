"""How TensorFlow uses this machine's devices; called once, before the first tensor is made."""

from __future__ import annotations

import keras
import tensorflow as tf


def configure_devices(*, mixed_precision: bool = False) -> tuple[str, ...]:
    """Let GPU memory grow instead of taking all of it, and choose the arithmetic.

    Parameters
    ----------
    mixed_precision
        Compute in float16 with float32 weights where there is a GPU. A CPU always computes in
        float32: it has nothing to gain from float16.

    Returns
    -------
    tuple[str, ...]
        Names of the GPUs, empty on a CPU-only machine.
    """
    gpus = tf.config.list_physical_devices("GPU")
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, enable=True)
    keras.mixed_precision.set_dtype_policy(
        "mixed_float16" if gpus and mixed_precision else "float32"
    )
    return tuple(gpu.name for gpu in gpus)
