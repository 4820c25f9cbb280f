"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

KeyArgument = Annotated[
    str, typer.Argument(metavar="STUDY", help="Id from the list, or Study Instance UID.")
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")
]
