"""Errors of the embedded services."""

from worker.errors import WorkerError


class EmbeddedServiceError(WorkerError):
    """An embedded service that is not installed, did not start, or refused a request."""
