"""One line of an examination by `worker.doctor.examination`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the examination: a part, and how it is.

    Attributes
    ----------
    part
        What was examined.
    level
        `Level.FAIL` keeps the installation from working, `Level.WARN` needs a decision.
    message
        What was found.
    remedy
        What to do; empty where all is well.
    """

    part: str
    level: Level
    message: str
    remedy: str = ""
