"""`lungwatch studies export-reviewed`: the reviewed studies as a data set for training."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from pathlib import Path  # noqa: TC003 - typer reads it at run time
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli import output
from worker.cli.options import JsonOption  # noqa: TC001 - typer reads it at run time
from worker.cli.start import start_command

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from model.data.manifest import ManifestRow
    from model.errors import DatasetError
    from worker.audit_entry import AuditOutcome
    from worker.db.engine import Database
    from worker.review.reviewed_data import LeftOut, ReviewedStudy
    from worker.settings import Settings

    Report = Callable[[str, float | None], None]


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
    from worker.bootstrap import open_database

    settings = start_command()
    with (
        closing(open_database(settings)) as database,
        output.progress_bar("writing the reviewed studies") as report,
    ):
        rows, left_out = _export(settings, database, out, slices_per_study, report)
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


def _export(
    settings: Settings, database: Database, out: Path, slices_per_study: int, report: Report
) -> tuple[tuple[ManifestRow, ...], tuple[LeftOut, ...]]:
    from model.data.manifest import write_manifest
    from worker.audit.attempts import attempt
    from worker.audit_entry import AuditAction, AuditOutcome
    from worker.learning import reviewed_data

    with attempt(database, AuditAction.REVIEWED_EXPORTED) as tried:
        data = reviewed_data(settings, database)
        studies, left_out = data.collect()
        if studies:
            # The line comes first: no study leaves without being named in one.
            tried.detail["study_instance_uids"] = _audit(database, studies)
        rows, gone = data.export(
            studies, out, slices_per_study, partial(report, "writing the reviewed studies")
        )
        left_out += gone
        if not rows:
            raise _nothing_to_teach(left_out)
        if gone:
            # What failed has a line of its own (PS3.15 section A.5.2).
            _audit(database, gone, AuditOutcome.MINOR_FAILURE)
        write_manifest(out / "MANIFEST.csv", rows)
    return rows, left_out


def _audit(
    database: Database,
    studies: Sequence[ReviewedStudy | LeftOut],
    outcome: AuditOutcome | None = None,
) -> list[str]:
    from worker.audit.trail import acted
    from worker.audit_entry import AuditAction, AuditOutcome
    from worker.db.tables import Study

    numbers = sorted({each.study_id for each in studies})
    with database.transaction() as session:
        uids = [session.get_one(Study, number).study_instance_uid for number in numbers]
        acted(
            session,
            AuditAction.REVIEWED_EXPORTED,
            outcome=outcome or AuditOutcome.SUCCESS,
            study_instance_uids=uids,
        )
    return uids


def _nothing_to_teach(left_out: Sequence[LeftOut]) -> DatasetError:
    from model.errors import DatasetError

    why = "; ".join(f"study {each.study_id}: {each.why}" for each in left_out)
    return DatasetError(
        f"no reviewed study teaches anything{f' ({why})' if why else ' yet'}: review some with "
        "`lungwatch studies review`"
    )
