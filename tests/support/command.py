"""The command `lungwatch` as a process of its own, with settings of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        """What it printed, which has to be JSON and nothing else."""
        return json.loads(self.stdout)


def lungwatch(*arguments: object, timeout: float = 120, **settings: object) -> Done:
    """Run `lungwatch`; settings are given by their field name, and no others are set."""
    done = subprocess.run(
        [sys.executable, "-m", "worker.cli.main", *map(str, arguments)],
        env=environment(settings),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def environment(settings: Mapping[str, object]) -> dict[str, str]:
    """Environment with these settings, and wide enough for tables."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LUNGWATCH_")}
    given = {f"LUNGWATCH_{name.upper()}": str(value) for name, value in settings.items()}
    return {**kept, "COLUMNS": "250", "CUDA_VISIBLE_DEVICES": "", **given}
