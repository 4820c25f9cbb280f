"""How a command begins: checked settings, and log lines that stay out of its results."""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worker.settings import Settings


def start_command() -> Settings:
    """Read the settings; only what a person at the terminal should know is logged."""
    from worker.settings import load_settings
    from worker.telemetry import configure_logging

    settings = load_settings()
    configure_logging(settings.model_copy(update={"log_level": "warning"}))
    return settings


def quiet_tensorflow() -> None:
    """Import TensorFlow without its start-up notes.

    It writes some before it can be told not to, so stderr is held back until it has looked for its
    devices, and shown if that fails. Somebody who set a level sees everything. What chooses the
    devices (``CUDA_VISIBLE_DEVICES``) has to be set before.
    """
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    with _stderr_held_back():
        import tensorflow as tf

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
