"""`lungwatch doctor`: is this installation fit to work, and what to do where it is not."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from worker.cli import output
from worker.cli.exit_codes import ExitCode
from worker.cli.options import JsonOption  # noqa: TC001 - typer reads it at run time
from worker.cli.start import start_command
from worker.errors import SettingsError

if TYPE_CHECKING:
    from worker.doctor.check import Check

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def doctor(*, json: JsonOption = False) -> None:
    """Examine settings, secrets, disk, database, workers, broker, model, senders and destinations.

    Exit code 0 without a FAIL, 3 for a wrong setting, else 1.
    """
    checks, code = _examine()
    if json:
        output.print_json([asdict(check) for check in checks])
    else:
        _print(checks)
    if code is not ExitCode.OK:
        raise typer.Exit(code)


def _examine() -> tuple[list[Check], ExitCode]:
    from worker.doctor.check import Check, Level
    from worker.doctor.examination import examine

    try:
        settings = start_command()
    except SettingsError as error:
        wrong = Check("settings", Level.FAIL, str(error), "docs/settings.md lists all settings.")
        return [wrong], ExitCode.SETTINGS
    checks = [Check("settings", Level.OK, "all can be read")]
    with output.progress_bar("examining") as report:
        checks += examine(settings, lambda part: report(part, None))
    failed = any(check.level is Level.FAIL for check in checks)
    return checks, ExitCode.FAILED if failed else ExitCode.OK


def _print(checks: list[Check]) -> None:
    from rich.text import Text

    console = output.stdout()
    for check in checks:
        level = check.level.value
        line = Text.assemble(
            (f"{level.upper():4}", _COLOURS[level]), f"  {check.part}: {check.message}"
        )
        console.print(line, soft_wrap=True)
        if check.remedy:
            console.print(Text(f"      {check.remedy}", style="dim"), soft_wrap=True)
