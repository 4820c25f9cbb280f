"""`lungwatch data`: manifests of training data, and what is wrong with them."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.cli import output
from worker.cli.options import JsonOption

if TYPE_CHECKING:
    from model.data.check import Check

_SHOWN_OF_A_KIND = 10

data_app = typer.Typer(help="Import, merge and check training data.", no_args_is_help=True)


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
    from worker.training.layouts import LAYOUTS

    rows = LAYOUTS[layout.value](folder)
    rows = [rebased(row, folder, out.parent) for row in rows]
    if split is not None:
        rows = [replace(row, split=Split(split)) for row in rows]
    if source:
        rows = [replace(row, source=source) for row in rows]
    if covid is not None:
        rows = [replace(row, covid=covid if row.covid is None else row.covid) for row in rows]
    write_manifest(out, rows)
    _written(out, len(rows))


@data_app.command("merge")
def merge_(
    manifests: Annotated[
        list[Path],
        typer.Argument(metavar="MANIFEST...", exists=True, dir_okay=False, help="Manifests (CSV)."),
    ],
    *,
    out: Annotated[Path, typer.Option(help="Manifest to write (CSV).")],
) -> None:
    """Put manifests together: a network learns both classes and lesions from several data sets.

    A file in two of them, or a patient in two splits, is refused by name.
    """
    from model.data.manifest import merge, read_manifest, write_manifest
    from model.errors import DatasetError

    if out.resolve() in {manifest.resolve() for manifest in manifests}:
        raise DatasetError(f"--out: {out} is one of the manifests to merge; name another file")
    rows = merge([read_manifest(manifest) for manifest in manifests], out.parent)
    write_manifest(out, rows)
    _written(out, len(rows))


@data_app.command("check")
def check(
    manifest: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="Manifest (CSV).")],
    *,
    contact_sheet: Annotated[
        Path | None,
        typer.Option(metavar="PNG", help="Draw what the network sees of each source and class."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Look for leaks across splits, unreadable files and class-by-source shortcuts.

    Ends with an error if something has to be mended before training.
    """
    from model.data.check import check_manifest
    from model.data.contact_sheet import draw_contact_sheet
    from worker.cli.exit_codes import ExitCode
    from worker.training.slices import read_training_slice

    with output.progress_bar("reading") as report:
        found = check_manifest(
            manifest, read_training_slice, lambda done: report(f"reading {manifest}", done)
        )
    if contact_sheet is not None:
        draw_contact_sheet(contact_sheet, found)
    if json:
        output.print_json(_document(found))
    else:
        _print(manifest, found)
    if found.failed:
        raise typer.Exit(ExitCode.FAILED)


@data_app.command("augmentations")
def augmentations(
    manifest: Annotated[
        Path | None,
        typer.Argument(
            exists=True, dir_okay=False, help="Manifest (CSV); absent: the synthetic chest."
        ),
    ] = None,
    *,
    out: Annotated[Path, typer.Option(metavar="PNG", help="Picture to write.")],
    config: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="JSON with training settings."),
    ] = None,
) -> None:
    """Draw what augmentation does to training images: each change alone, then all together."""
    from model.config import TrainingConfig
    from model.data.dataset import load_samples
    from model.training.augmentation_picture import draw_augmentations
    from worker.demo.phantom_samples import phantom_samples
    from worker.training.slices import read_training_slice

    settings = TrainingConfig.from_file(config) if config else TrainingConfig()
    size = settings.network.input_size
    samples = (
        phantom_samples(size)
        if manifest is None
        else load_samples(manifest, size, read_training_slice)
    )
    draw_augmentations(out, samples, settings.augmentation, settings.seed)
    output.stderr().print(f"{out} written", markup=False, highlight=False)


def _print(manifest: Path, found: Check) -> None:
    label = {True: "yes", False: "no", None: "unknown"}
    output.print_table(
        f"{manifest}: slices with lung",
        ["source", "COVID-19", "split", "slices", "patients", "with lesions drawn", "Hounsfield"],
        [
            (c.source, label[c.covid], c.split, c.slices, c.patients, c.masks, c.hounsfield)
            for c in found.counts
        ],
    )
    if found.unknown_patients:
        _say(
            f"{found.unknown_patients} slices name no patient: near duplicates are kept together, "
            "and figures on them are slice-level."
        )
    shortcut = found.shortcut
    for source, covid in shortcut.one_class_sources:
        shown = "with" if covid else "without"
        _say(f"Shortcut: {source} holds slices {shown} COVID-19 only; report by source.")
    if shortcut.auc is not None and shortcut.accuracy is not None:
        _say(
            f"Guessing the class of the validation data from its source alone: accuracy "
            f"{shortcut.accuracy:.3f}, AUC {shortcut.auc:.3f} (0.5 would be no shortcut)."
        )
    if found.findings:
        output.print_table("Found", ["what", "where"], _findings(found))
    _say(
        "Mend these before training."
        if found.failed
        else "No leak across splits, no unreadable file."
    )


def _findings(found: Check) -> list[tuple[str, str]]:
    """Give the findings as rows, of each kind the first ones."""
    by_kind: dict[str, list[str]] = {}
    for finding in found.findings:
        by_kind.setdefault(finding.kind.value, []).append(finding.text)
    rows = []
    for kind, texts in by_kind.items():
        rows += [(kind, text) for text in texts[:_SHOWN_OF_A_KIND]]
        if len(texts) > _SHOWN_OF_A_KIND:
            rows.append((kind, f"... and {len(texts) - _SHOWN_OF_A_KIND} more: --json"))
    return rows


def _written(out: Path, count: int) -> None:
    output.stderr().print(
        f"{out}: {count} rows. Check them: lungwatch data check {out}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )


def _say(text: str) -> None:
    output.stdout().print(text, markup=False, highlight=False)


def _document(found: Check) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "failed": found.failed,
        "counts": [asdict(count) for count in found.counts],
        "unknown_patients": found.unknown_patients,
        "shortcut": asdict(found.shortcut),
        "findings": [asdict(finding) for finding in found.findings],
    }
