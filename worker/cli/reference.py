"""Writes docs/cli.md, docs/settings.md and docs/reasons.md: ``python -m worker.cli.reference``.

A test fails when the pages are not what this module writes.
"""

from __future__ import annotations

import argparse
import inspect
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from worker.cli.exit_codes import MEANINGS
from worker.explanations import EDGE_REASONS, PROGRESS, REASONS, STATES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pydantic import BaseModel

    from worker.explanations import Explanation

_GENERATED = "<!-- Written by `make docs`; do not edit by hand. -->"
_STREAMS = (
    "Results go to stdout, progress and errors to stderr. `--json` prints JSON and nothing else on "
    "stdout."
)
_SETTINGS = (
    "Every setting is an environment variable. An empty one counts as unset. A wrong one stops the "
    "start with one sentence that names it. A secret may come from a file instead: the variable "
    "with `_FILE` at its end names it."
)
_STATES = (
    "Every study is in exactly one state, with a coded reason. `lungwatch studies list` shows "
    "both; `lungwatch studies show` adds what to do."
)
_REFUSALS = (
    "Of an instance, a series or a whole study. Where a study is refused, its reason is that of "
    "the series that came closest."
)
_EDGE_REFUSALS = (
    "What the listener turned away before it could be read, so that it belongs to no study: "
    "`lungwatch studies refusals` lists it. There `unsupported_transfer_syntax` and `too_large` "
    "occur too."
)


def cli_page() -> str:
    """Page with every command, its arguments and options, and the exit codes."""
    import typer.main

    from worker.cli.main import app

    command = typer.main.get_command(app)
    context = typer.Context(command, info_name="lungwatch")
    parts = [
        "# Command line reference",
        _GENERATED,
        _STREAMS,
        *_command_sections(context),
        "## Exit codes",
        _table(("code", "meaning"), [(str(int(c)), text) for c, text in MEANINGS.items()]),
    ]
    return "\n\n".join(parts) + "\n"


def _command_sections(context: Any) -> Iterator[str]:  # noqa: ANN401 - typer keeps its click private
    command = context.command
    yield f"## `{context.command_path}`"
    yield _paragraphs(command.help or "")
    usage = [context.command_path, *command.collect_usage_pieces(context)]
    yield f"    {' '.join(usage)}"
    records = (parameter.get_help_record(context) for parameter in command.get_params(context))
    rows = [(f"`{names}`", " ".join(text.split())) for names, text in filter(None, records)]
    yield _table(("argument or option", "meaning"), rows)
    for name, child in getattr(command, "commands", {}).items():
        yield from _command_sections(type(context)(child, info_name=name, parent=context))


def settings_page() -> str:
    """Page with every setting: variable, type, default and description."""
    from worker.settings import GROUPS

    sections = (part for group in GROUPS for part in _settings_section(group))
    return "\n\n".join(["# Settings", _GENERATED, _SETTINGS, *sections]) + "\n"


def _settings_section(group: type[BaseModel]) -> Iterator[str]:
    from worker.setting_groups.secrets import secret_fields
    from worker.settings import PREFIX

    title, _, meaning = (group.__doc__ or "").partition(": ")
    yield f"## {title}"
    yield inspect.cleandoc(meaning[0].upper() + meaning[1:]).replace("``", "`")
    secrets = secret_fields(group)
    rows = [
        (
            f"`{PREFIX}{name.upper()}`",
            _type_in_words(schema) + (", secret" if name in secrets else ""),
            _default(schema),
            str(schema["description"]),
        )
        for name, schema in group.model_json_schema()["properties"].items()
    ]
    yield _table(("variable", "type", "default", "meaning"), rows)


def _type_in_words(schema: Mapping[str, Any]) -> str:
    choices = schema.get("anyOf", [schema])
    kinds = [choice for choice in choices if choice.get("type") != "null"]
    kind = kinds[0]
    if "enum" in kind:
        return "one of " + ", ".join(f"`{value}`" for value in kind["enum"])
    words = {
        "integer": "whole number",
        "number": "number",
        "array": "list, separated by commas",
        "boolean": "true or false",
        "string": {"path": "path", "password": "text"}.get(kind.get("format", ""), "text"),
    }
    limits = {
        "minimum": "at least",
        "exclusiveMinimum": "above",
        "maximum": "at most",
        "maxLength": "at most characters:",
    }
    said = [f"{text} {kind[key]:g}" for key, text in limits.items() if key in kind]
    return ", ".join([words[kind["type"]], *said])


def _default(schema: Mapping[str, Any]) -> str:
    value = schema.get("default")
    if value in (None, "", []):
        return ""
    return f"`{', '.join(value) if isinstance(value, list) else value}`"


def reasons_page() -> str:
    """Page with every state and every coded reason, in words and with what to do."""
    parts = [
        "# States and reasons",
        _GENERATED,
        _STATES,
        "## States of a study",
        _table(("state", "meaning"), [(f"`{s.value}`", words) for s, words in STATES.items()]),
        "## Reasons on the way",
        _reason_table(PROGRESS),
        "## Reasons for not screening",
        _REFUSALS,
        _reason_table(REASONS),
        "## Reasons for refusing an association or an object",
        _EDGE_REFUSALS,
        _reason_table(EDGE_REASONS),
    ]
    return "\n\n".join(parts) + "\n"


def _reason_table(explanations: Mapping[Any, Explanation]) -> str:
    rows = [(f"`{code.value}`", e.words, e.remedy) for code, e in explanations.items()]
    return _table(("reason", "meaning", "what to do"), rows)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    lines = [columns, ["---"] * len(columns), *escaped]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _paragraphs(text: str) -> str:
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))


PAGES: dict[str, Callable[[], str]] = {
    "cli.md": cli_page,
    "settings.md": settings_page,
    "reasons.md": reasons_page,
}


def main() -> None:
    """Write the pages, or with ``--check`` tell whether they are current."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, fail when stale")
    parser.add_argument("folder", type=Path, nargs="?", default=Path("docs"))
    arguments = parser.parse_args()
    for name, page in PAGES.items():
        path = arguments.folder / name
        if not arguments.check:
            path.write_text(page(), encoding="utf-8")
        elif path.read_text(encoding="utf-8") != page():
            sys.exit(f"{path} is stale: run `make docs`")


if __name__ == "__main__":
    main()
