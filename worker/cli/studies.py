"""`lungwatch studies`: every study in its state, with the reason in words."""

from __future__ import annotations

from contextlib import closing, nullcontext
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.cli import output
from worker.cli.clean import clean
from worker.cli.export_reviewed import export_reviewed
from worker.cli.options import JsonOption, KeyArgument
from worker.cli.review import review
from worker.cli.start import start_command
from worker.errors import SettingsError
from worker.lifecycle import StudyState

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from sqlalchemy.orm import Session

    from worker.audit.attempts import Attempt
    from worker.db.engine import Database
    from worker.db.tables import Study

studies_app = typer.Typer(
    help="List, show, review, requeue and clean studies; list what was refused.",
    no_args_is_help=True,
)

PatientOption = Annotated[
    bool,
    typer.Option("--patient", help="Also show what identifies the patient."),
]

_PATIENT_FIELDS = (
    "patient_name",
    "patient_id",
    "accession_number",
    "study_date",
    "study_description",
)


@studies_app.command("list")
def list_(
    *,
    state: Annotated[StudyState | None, typer.Option(help="Only studies in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many, the latest change first.")] = 100,
    patient: PatientOption = False,
    json: JsonOption = False,
) -> None:
    """List studies in every state, the latest change first."""
    from worker.bootstrap import open_database
    from worker.db.studies import list_studies

    database = open_database(start_command())
    with database.reading() as session:
        rows = [
            {**_line(study), **(_patient(study) if patient else {})}
            for study in list_studies(session, state, limit)
        ]
    if patient:
        _patients_shown(database)
    if json:
        output.print_json(rows)
        return
    columns = [
        "id",
        "state",
        "why",
        "COVID-19 probability, unverified",
        "changed",
        "Study Instance UID",
    ]
    columns += ["patient", "patient id"] if patient else []
    output.print_table(_count(len(rows), limit), columns, [_cells(row) for row in rows])


@studies_app.command()
def show(study: KeyArgument, *, patient: PatientOption = False, json: JsonOption = False) -> None:
    """Show one study: its series, result, deliveries and history."""
    from worker.bootstrap import open_database
    from worker.cli.study_page import print_study
    from worker.db.studies import find

    with (
        closing(open_database(start_command())) as database,
        _attempt_to_see(database, study) if patient else nullcontext(),
    ):
        with database.reading() as session:
            row = find(session, study)
            document = _document(session, row, patient=patient)
        if patient:
            _patients_shown(database, row)
    if json:
        output.print_json(document)
    else:
        print_study(document)


@studies_app.command()
def refusals(
    *,
    limit: Annotated[int, typer.Option(min=1, help="How many, the latest first.")] = 100,
    json: JsonOption = False,
) -> None:
    """List what the listener turned away: associations, SOP classes, transfer syntaxes, objects.

    None of it belongs to a study. The same refusal of the same sender is noted once an hour.
    """
    from worker.bootstrap import open_database
    from worker.cli.refusals import print_refusals, refusal_document
    from worker.db.events import association_refusals

    with open_database(start_command()).reading() as session:
        rows = [refusal_document(event.detail) for event in association_refusals(session, limit)]
    if json:
        output.print_json(rows)
    else:
        print_refusals(rows, limit)


@studies_app.command()
def requeue(
    study: KeyArgument,
    *,
    rescreen: Annotated[
        bool,
        typer.Option("--rescreen", help="Screen again, as a new revision, though a result exists."),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Take a study up again that failed, was refused, or is to be delivered again."""
    from worker.audit.attempts import attempt
    from worker.audit.trail import acted
    from worker.audit_entry import AuditAction
    from worker.bootstrap import open_database
    from worker.db import studies
    from worker.delivery.destinations import parse_destinations

    settings = start_command()
    destinations = [destination.name for destination in parse_destinations(settings)]
    action = AuditAction.STUDY_REQUEUED
    with (
        closing(open_database(settings)) as database,
        attempt(database, action, study, rescreen=rescreen),
        database.transaction() as session,
    ):
        row = studies.find(session, study)
        if not (destinations or rescreen):
            _check_none_is_missing(row)
        studies.requeue(session, row, destinations, rescreen=rescreen)
        acted(session, action, row, rescreen=rescreen)
        line = {**_line(row), "destinations": destinations}
    if json:
        output.print_json(line)
        return
    typer.echo(f"Study {line['id']} is {line['state']} again; the node takes it from here.")
    if not rescreen:
        named = ", ".join(destinations) or "nobody, since no destination is set here"
        typer.echo(f"Where it has a result, that goes to {named}.")


studies_app.command()(review)
studies_app.command()(clean)
studies_app.command("export-reviewed")(export_reviewed)


def _attempt_to_see(database: Database, study: str) -> AbstractContextManager[Attempt]:
    from worker.audit.attempts import attempt
    from worker.audit_entry import AuditAction

    return attempt(database, AuditAction.PATIENT_SHOWN, study)


def _patients_shown(database: Database, study: Study | None = None) -> None:
    from worker.audit.trail import acted
    from worker.audit_entry import AuditAction

    action = AuditAction.PATIENT_SHOWN if study else AuditAction.PATIENTS_LISTED
    with database.transaction() as session:
        acted(session, action, study)


def _check_none_is_missing(study: Study) -> None:
    """Refuse to requeue from a shell that lacks the service's settings: nothing would be sent."""
    from worker.settings import PREFIX

    before = {each.destination for screening in study.screenings for each in screening.deliveries}
    if before:
        raise SettingsError(
            f"{PREFIX}DESTINATIONS is not set here, but results of study {study.id} went to "
            f"{', '.join(sorted(before))}: requeue it with the settings of the service "
            "(docs/operators-guide.md)."
        )


def _line(study: Study) -> dict[str, Any]:
    from worker.explanations import explain
    from worker.screening.result import study_summary

    result = study.screenings[-1].result if study.screenings else None
    found = {key: result[key] for key in ("covid_probability", "positive")} if result else {}
    return {**study_summary(study), "reason_in_words": explain(study.reason).words, **found}


def _patient(study: Study) -> dict[str, str]:
    return {name: getattr(study, name) for name in _PATIENT_FIELDS}


def _document(session: Session, study: Study, *, patient: bool) -> dict[str, Any]:
    from worker.db import reviews
    from worker.db.events import of_study
    from worker.explanations import explain
    from worker.screening.result import review_document, study_document

    document = study_document(study, list(of_study(session, study)))
    if patient:
        described = {each.series_instance_uid: each.description for each in study.series}
        for each in document["series"]:
            each["description"] = described[each["series_instance_uid"]]
    return {
        **document,
        "reason_in_words": explain(study.reason).words,
        "remedy": explain(study.reason).remedy,
        "reviews": [review_document(review) for review in reviews.of_study(session, study)],
        **(_patient(study) if patient else {}),
    }


def _cells(row: dict[str, Any]) -> list[object]:
    why = row["reason_in_words"]
    probability = row.get("covid_probability")
    cells: list[object] = [
        row["id"],
        row["state"],
        f"{why}: {row['detail']}" if row["detail"] else why,
        "" if probability is None else f"{probability:.2f}{' positive' * row['positive']}",
        row["updated_at"].split(".")[0].replace("T", " "),
        row["study_instance_uid"],
    ]
    if "patient_name" in row:
        cells += [row["patient_name"], row["patient_id"]]
    return cells


def _count(shown: int, limit: int) -> str:
    if shown == limit:
        return f"The {shown} studies changed last; --limit shows more"
    return f"{shown} {'study' if shown == 1 else 'studies'}"
