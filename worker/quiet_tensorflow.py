"""TensorFlow without its start-up notes, which are no news to whoever reads a log or a terminal."""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_ERRORS_ONLY = "3"


def import_tensorflow_quietly() -> None:
    """Import TensorFlow without its start-up notes.

    It writes some before it can be told not to, so stderr is held back until it has looked for its
    devices, and shown if that fails. Somebody who set a lower level sees everything. What chooses
    the devices (``CUDA_VISIBLE_DEVICES``) has to be set before.
    """
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", _ERRORS_ONLY) != _ERRORS_ONLY:
        return
    with _stderr_held_back():
        import tensorflow as tf  # noqa: PLC0415 - the point of this function

        tf.config.list_physical_devices()


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
