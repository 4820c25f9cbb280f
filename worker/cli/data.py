"""`lungwatch data`: manifests of training data, and what is wrong with them."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

data_app = typer.Typer(help="Import and check training data.", no_args_is_help=True)


class LayoutName(StrEnum):
    """Published layouts that can be turned into a manifest."""

    COVID_CT = "covid-ct"
    HUNDRED_SLICES = "hundred-slices"
    DICOM = "dicom"
    DEVELOPMENT = "development"


class SplitName(StrEnum):
    """Parts of the data, as `model.data.manifest.Split`, which no quick command imports."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


@data_app.command("import")
def import_(
    layout: Annotated[LayoutName, typer.Argument(help="How the folder is laid out.")],
    folder: Annotated[
        Path, typer.Argument(exists=True, file_okay=False, help="Folder of the data set.")
    ],
    *,
    out: Annotated[Path, typer.Option(help="Manifest to write (CSV).")],
    split: Annotated[
        SplitName | None,
        typer.Option(help="Put every file into this split; absent: as published, or by hash."),
    ] = None,
    source: Annotated[
        str, typer.Option(help="Name of the data set; empty: that of the layout.")
    ] = "",
    covid: Annotated[
        bool | None,
        typer.Option(
            "--covid/--no-covid", help="Class of every file of a DICOM folder; absent: unknown."
        ),
    ] = None,
) -> None:
    """Write the manifest of a data set in one of its published layouts (docs/training.md)."""
    from dataclasses import replace

    from model.data.manifest import Split, rebased, write_manifest
    from worker.cli.output import stderr
    from worker.training_layouts import LAYOUTS

    rows = LAYOUTS[layout.value](folder)
    rows = [rebased(row, folder, out.parent) for row in rows]
    if split is not None:
        rows = [replace(row, split=Split(split)) for row in rows]
    if source:
        rows = [replace(row, source=source) for row in rows]
    if covid is not None:
        rows = [replace(row, covid=covid if row.covid is None else row.covid) for row in rows]
    write_manifest(out, rows)
    stderr().print(
        f"{out}: {len(rows)} rows. Check them: lungwatch data check {out}",
        markup=False,
        highlight=False,
    )
