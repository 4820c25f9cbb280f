"""Exit codes of `lungwatch`, so that scripts and schedulers can tell failures apart."""

from __future__ import annotations

import sys
from enum import IntEnum

from dicom_node.errors import ConfigurationError, PeerUnavailableError, RefusedError
from model.errors import ConfigError, ModelError, NoLungError, RegistryError
from worker.errors import (
    AlreadyRunningError,
    BackupError,
    FolderError,
    NotFoundError,
    PromotionError,
    ReviewError,
    SchemaOutdatedError,
    SettingsError,
    TransitionError,
)


class ExitCode(IntEnum):
    """What the number a command ends with says."""

    OK = 0
    FAILED = 1
    USAGE = 2
    SETTINGS = 3
    REFUSED = 4
    NOT_FOUND = 5
    UNAVAILABLE = 6
    STATE = 7
    MODEL = 8
    SCHEMA = 9
    PROMOTION = 10
    INTERRUPTED = 130


MEANINGS: dict[ExitCode, str] = {
    ExitCode.OK: "Done.",
    ExitCode.FAILED: "It failed, or a check found something wrong; the message says what.",
    ExitCode.USAGE: (
        "The command line is wrong: unknown command or option, no study or several in a folder."
    ),
    ExitCode.SETTINGS: (
        "A setting is wrong or missing; the message names its variable, or the entry of a training "
        "configuration."
    ),
    ExitCode.REFUSED: "The input is no chest CT that can be screened; the coded reason says why.",
    ExitCode.NOT_FOUND: "There is no such study.",
    ExitCode.UNAVAILABLE: "A service does not answer: database, broker, PACS or listener.",
    ExitCode.STATE: "The state of the study, the database or the installation does not allow it.",
    ExitCode.MODEL: "The model version is absent, ambiguous, damaged or cannot be used.",
    ExitCode.SCHEMA: "The database's schema is not this version's: run `lungwatch db upgrade`.",
    ExitCode.PROMOTION: "A model version may not come into use; the message says why.",
    ExitCode.INTERRUPTED: "Stopped by Ctrl-C.",
}

_OURS: tuple[tuple[type[Exception], ExitCode], ...] = (
    (SettingsError, ExitCode.SETTINGS),
    (ConfigurationError, ExitCode.SETTINGS),
    (ConfigError, ExitCode.SETTINGS),
    (FolderError, ExitCode.USAGE),
    (RefusedError, ExitCode.REFUSED),
    (NoLungError, ExitCode.REFUSED),
    (NotFoundError, ExitCode.NOT_FOUND),
    (PeerUnavailableError, ExitCode.UNAVAILABLE),
    (TransitionError, ExitCode.STATE),
    (AlreadyRunningError, ExitCode.STATE),
    (PromotionError, ExitCode.PROMOTION),
    (ReviewError, ExitCode.STATE),
    (SchemaOutdatedError, ExitCode.SCHEMA),
    (BackupError, ExitCode.STATE),
    (RegistryError, ExitCode.MODEL),
    (ModelError, ExitCode.FAILED),
)

# Raised by libraries that no quick command may import: looked up only where they are loaded.
_SERVICES: tuple[tuple[str, str], ...] = (
    ("worker.embedded.errors", "EmbeddedServiceError"),
    ("sqlalchemy.exc", "OperationalError"),
    ("redis.exceptions", "ConnectionError"),
    ("redis.exceptions", "TimeoutError"),
    ("kombu.exceptions", "OperationalError"),
)


def exit_code_of(error: Exception) -> ExitCode:
    """Tell the exit code a command ends with after this error."""
    for kind, code in _OURS:
        if isinstance(error, kind):
            return code
    for module, name in _SERVICES:
        loaded = sys.modules.get(module)
        if loaded is not None and isinstance(error, getattr(loaded, name)):
            return ExitCode.UNAVAILABLE
    return ExitCode.FAILED
