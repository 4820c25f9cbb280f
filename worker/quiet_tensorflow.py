"""TensorFlow without its start-up notes, and without what nobody uses of it."""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_ERRORS_ONLY = "3"
# Keras loads them for wrappers and plots of its own wherever they are installed: 2 of the 7 seconds
# that the import takes, and 80 MB of each worker.
_NOT_FOR_KERAS = ("matplotlib", "pandas", "sklearn")


def import_tensorflow_quietly() -> None:
    """Import TensorFlow without its start-up notes.

    It writes some before it can be told not to, so stderr is held back until it has looked for its
    devices, and shown if that fails. Somebody who set a lower level sees everything. What chooses
    the devices (``CUDA_VISIBLE_DEVICES``) has to be set before.
    """
    level = os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", _ERRORS_ONLY)
    with _stderr_held_back() if level == _ERRORS_ONLY else nullcontext(), _hidden_from_keras():
        import tensorflow as tf  # noqa: PLC0415 - the point of this function

        tf.config.list_physical_devices()


@contextmanager
def _hidden_from_keras() -> Iterator[None]:
    """Let Keras find these not installed; who wants one imports it afterwards as ever."""
    hidden = [name for name in _NOT_FOR_KERAS if name not in sys.modules]
    # What `import` takes for a module that cannot be had.
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


@contextmanager
def _stderr_held_back() -> Iterator[None]:
    """Hold back what native code writes too; an exception lets it out."""
    sys.stderr.flush()
    shown = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(shown, held.read())
            raise
        finally:
            os.dup2(shown, 2)
            os.close(shown)
