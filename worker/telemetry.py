"""Log lines: structured, for people or for machines, and never with patient data.

What our own packages log is chosen line by line. What libraries log is not: they are heard from
warnings up, and what they warn of or raise is told by its kind and place, never by its words.
"""

from __future__ import annotations

import logging
import sys
import threading
import traceback
import warnings
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor

    from worker.settings import Settings


_OURS = ("worker", "dicom_node", "model")


def configure_logging(settings: Settings) -> None:
    """Send log lines to standard error, in the settings' format and from its level up.

    Lines of libraries go the same way, from warnings up. Of an exception the log shows type and
    place, not its text, which may quote what was sent; so of Python's own warnings and of what
    ends a thread.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _exception_without_text,
    ]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer()
                if settings.log_format == "json"
                else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty()),
            ],
        )
    )
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    logging.basicConfig(handlers=[handler], level=max(level, logging.WARNING), force=True)
    for package in _OURS:
        logging.getLogger(package).setLevel(level)
    # It tells of tasks, which are numbers; its debug lines are for its makers.
    logging.getLogger("celery").setLevel(max(level, logging.INFO))
    # These libraries' own lines quote requests and data sets.
    for library in ("pynetdicom", "pydicom", "highdicom"):
        logging.getLogger(library).setLevel(logging.ERROR)
    warnings.formatwarning = _without_words
    logging.captureWarnings(capture=True)
    threading.excepthook = _log_end_of_thread
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
    )


def _without_words(
    message: Warning | str,  # noqa: ARG001
    category: type[Warning],
    filename: str,
    lineno: int,
    line: str | None = None,  # noqa: ARG001
) -> str:
    """Format a warning without its words: pydicom's quote the value they find fault with."""
    return f"{category.__name__} at {filename}:{lineno}"


def _log_end_of_thread(ended: threading.ExceptHookArgs) -> None:
    """Log what ended a thread, where Python would print its words."""
    name = ended.thread.name if ended.thread else ""
    structlog.get_logger(__name__).error("thread_failed", thread=name, exc_info=ended.exc_value)


def _exception_without_text(_logger: Any, _method: str, line: EventDict) -> EventDict:  # noqa: ANN401
    """Replace an exception by its types and the places it passed."""
    found = line.pop("exc_info", None)
    if found is True:
        found = sys.exc_info()
    error = found[1] if isinstance(found, tuple) else found
    if not isinstance(error, BaseException):
        return line
    places = [
        f"{frame.filename}:{frame.lineno} {frame.name}"
        for frame in traceback.extract_tb(error.__traceback__)
    ]
    line["error"] = type(error).__name__
    line["cause"] = type(error.__cause__ or error.__context__).__name__
    line["places"] = places
    return line
