"""`lungwatch studies export-reviewed`: the reviewed studies as a data set for training."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads it at run time
from typing import Annotated

import typer

from worker.cli import output
from worker.cli.options import JsonOption  # noqa: TC001 - typer reads it at run time
from worker.cli.start import start_command


def export_reviewed(
    *,
    out: Annotated[Path, typer.Option(file_okay=False, help="Folder for slices and manifest.")],
    slices_per_study: Annotated[
        int, typer.Option(min=2, help="Most slices of a study; of more, every n-th is taken.")
    ] = 64,
    json: JsonOption = False,
) -> None:
    """Write the reviewed studies as training data: MANIFEST.csv, slices and lesions.

    Slices are written anew from pixels and geometry alone; patients have names that only this
    installation can trace back. Nothing else of a patient leaves.
    """
    from model.data.manifest import write_manifest
    from model.errors import DatasetError
    from worker.audit.trail import acted
    from worker.audit_entry import AuditAction
    from worker.bootstrap import open_database
    from worker.db.tables import Study
    from worker.learning import reviewed_data

    settings = start_command()
    database = open_database(settings)
    data = reviewed_data(settings, database)
    studies, left_out = data.collect()
    with output.progress_bar("writing the reviewed studies") as report:
        rows, gone = data.export(
            studies,
            out,
            slices_per_study,
            lambda done: report("writing the reviewed studies", done),
        )
    left_out += gone
    if not rows:
        why = "; ".join(f"study {each.study_id}: {each.why}" for each in left_out)
        raise DatasetError(
            f"no reviewed study teaches anything{f' ({why})' if why else ' yet'}: review some with "
            "`lungwatch studies review`"
        )
    write_manifest(out / "MANIFEST.csv", rows)
    exported = {each.study_id for each in studies} - {each.study_id for each in gone}
    with database.transaction() as session:
        uids = [session.get_one(Study, number).study_instance_uid for number in sorted(exported)]
        acted(session, AuditAction.REVIEWED_EXPORTED, study_instance_uids=uids)
    document = {
        "manifest": str(out / "MANIFEST.csv"),
        "studies": len(rows),
        "patients": len({row.patient for row in rows}),
        "left_out": [{"study": each.study_id, "why": each.why} for each in left_out],
    }
    if json:
        output.print_json(document)
        return
    typer.echo(
        f"{document['studies']} studies of {document['patients']} patients: {document['manifest']}"
    )
    for each in left_out:
        typer.echo(f"Study {each.study_id} is left out: {each.why}.")
