"""`lungwatch data pseudo-masks`: let earlier networks outline lesions to train the base model."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads the annotations
from typing import Annotated

import typer


def pseudo_masks(
    manifest: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="Manifest (CSV).")],
    *,
    model: Annotated[
        list[str],
        typer.Option(help="Version, version folder or run folder; several are averaged."),
    ],
    out: Annotated[Path, typer.Option(help="Manifest to write (CSV).")],
    masks: Annotated[Path, typer.Option(help="Folder for the masks (PNG).")],
) -> None:
    """Outline lesions on COVID-19 training figures without a mask; the rows say `pseudo`.

    For the base model only: `lungwatch retrain` learns from reviewed studies and leaves such rows
    out.
    """
    from worker.cli.start import start_command
    from worker.quiet_tensorflow import import_tensorflow_quietly

    import_tensorflow_quietly()
    from model.data.manifest import LabelOrigin, read_manifest, write_manifest
    from model.errors import DatasetError
    from model.evaluation.subject import find_subject
    from model.training.pseudo_masks import draw_pseudo_masks
    from worker.bootstrap import registry
    from worker.cli.output import progress_bar, stderr

    subjects = [find_subject(name, lambda: registry(start_command())) for name in model]
    sizes = {subject.network.input_size for subject in subjects}
    if len(sizes) > 1:
        raise DatasetError(f"--model: input sizes differ: {sorted(sizes)}; take models of one size")
    with progress_bar("outlining lesions") as report:
        rows = draw_pseudo_masks(
            read_manifest(manifest),
            [subject.slice_model() for subject in subjects],
            sizes.pop(),
            masks,
            out.parent,
            report=lambda share: report("outlining lesions", share),
        )
    write_manifest(out, rows)
    drawn = sum(row.label_origin is LabelOrigin.PSEUDO for row in rows)
    stderr().print(f"{out}: {len(rows)} rows, {drawn} with pseudo-labels", highlight=False)
