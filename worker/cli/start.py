"""How a command begins: checked settings, and log lines that stay out of its results."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from worker.settings import Settings


def start_command() -> Settings:
    """Read the settings; only what a person at the terminal should know is logged."""
    from worker.settings import load_settings
    from worker.telemetry import configure_logging

    settings = load_settings()
    configure_logging(settings.model_copy(update={"log_level": "warning"}))
    return settings
