"""Errors of the demonstration."""

from worker.errors import WorkerError


class DemoError(WorkerError):
    """The demonstration cannot go on; the message says what to look at."""
