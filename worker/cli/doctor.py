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
    from worker.doctor import Finding

_COLOURS = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def doctor(*, json: JsonOption = False) -> None:
    """Examine settings, disk, database, broker, model, listener and destinations.

    Exit code 0 without a FAIL, 3 for a wrong setting, else 1.
    """
    findings, code = _examine()
    if json:
        output.print_json([asdict(finding) for finding in findings])
    else:
        _print(findings)
    if code is not ExitCode.OK:
        raise typer.Exit(code)


def _examine() -> tuple[list[Finding], ExitCode]:
    from worker.doctor import Finding, Level, examine

    try:
        settings = start_command()
    except SettingsError as error:
        wrong = Finding("settings", Level.FAIL, str(error), "docs/settings.md lists all settings.")
        return [wrong], ExitCode.SETTINGS
    findings = [Finding("settings", Level.OK, "all can be read")]
    with output.progress_bar("examining") as report:
        findings += examine(settings, lambda part: report(part, None))
    failed = any(finding.level is Level.FAIL for finding in findings)
    return findings, ExitCode.FAILED if failed else ExitCode.OK


def _print(findings: list[Finding]) -> None:
    from rich.text import Text

    console = output.stdout()
    for finding in findings:
        level = finding.level.value
        line = Text.assemble(
            (f"{level.upper():4}", _COLOURS[level]), f"  {finding.part}: {finding.message}"
        )
        console.print(line, soft_wrap=True)
        if finding.remedy:
            console.print(Text(f"      {finding.remedy}", style="dim"), soft_wrap=True)
