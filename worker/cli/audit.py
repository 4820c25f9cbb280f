"""`lungwatch audit`: who did what, whether anybody changed it, and for the audit repository."""

from __future__ import annotations

import socket
from contextlib import closing
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from worker.cli import output
from worker.cli.exit_codes import ExitCode
from worker.cli.options import JsonOption
from worker.cli.start import start_command

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session

    from worker.audit.messages import AuditSource
    from worker.audit_entry import AuditAction
    from worker.db.tables import AuditEvent
    from worker.settings import Settings

audit_app = typer.Typer(
    help="The audit trail: who did what. List it, verify it, export it.", no_args_is_help=True
)

_SinceOption = Annotated[
    datetime | None, typer.Option(help="Only from this moment on, UTC; for instance 2026-01-31.")
]


class ExportFormat(StrEnum):
    """How a line of the trail is written."""

    JSON = "json"
    DICOM = "dicom"


@audit_app.command("list")
def list_(
    *,
    since: _SinceOption = None,
    limit: Annotated[int, typer.Option(min=1, help="How many, the latest first.")] = 100,
    json: JsonOption = False,
) -> None:
    """List the audit trail, the latest line first; that it was listed is one as well."""
    from worker.audit.attempts import attempt
    from worker.audit_entry import AuditAction
    from worker.bootstrap import open_database
    from worker.db import audit

    action = AuditAction.AUDIT_LISTED
    with closing(open_database(start_command())) as database, attempt(database, action):
        with database.transaction() as session:
            _used(session, action)
        with database.reading() as session:
            rows = [_document(line) for line in audit.lines(session, _utc(since), limit)]
    if json:
        output.print_json(rows)
        return
    columns = ("number", "at", "action", "outcome", "who", "from", "study", "detail")
    cells = [
        (
            row["number"],
            row["at"].split(".")[0].replace("T", " "),
            row["action"].replace("_", " "),
            row["outcome"].replace("_", " "),
            row["actor"],
            row["source"],
            row["study_instance_uid"],
            "; ".join(f"{name} {value}" for name, value in row["detail"].items()),
        )
        for row in rows
    ]
    output.print_table(f"{len(rows)} lines of the audit trail", columns, cells)


@audit_app.command()
def verify(
    *,
    expect: Annotated[
        str,
        typer.Option(
            metavar="NUMBER:DIGEST",
            help="What an earlier run told: also finds an end that was cut off or written anew.",
        ),
    ] = "",
    json: JsonOption = False,
) -> None:
    """Check that nobody changed, removed or added a line; tell number and digest of the last one.

    Exit code 1 where somebody did. That it was checked, and whether it was intact, is a line as
    well: the one after those that were.
    """
    from worker.audit.attempts import attempt
    from worker.audit_entry import AuditAction
    from worker.bootstrap import open_database
    from worker.db import audit

    expected, action = _parse_head(expect), AuditAction.AUDIT_VERIFIED
    with closing(open_database(start_command())) as database, attempt(database, action):
        with database.reading() as session:
            broken = audit.find_break(audit.in_order(session))
            if broken is None and expected is not None:
                broken = _differs(session, *expected)
            head = audit.head(session)
        # Before anything is written: it has to be told of a trail that takes no line, too.
        _tell(broken, head, json=json)
        with database.transaction() as session:
            _used(session, action, intact=not broken)
    if broken:
        raise typer.Exit(ExitCode.FAILED)


@audit_app.command()
def export(
    *,
    since: _SinceOption = None,
    form: Annotated[
        ExportFormat,
        typer.Option("--format", help="json, or dicom: audit messages of PS3.15 section A.5."),
    ] = ExportFormat.DICOM,
    patient: Annotated[
        bool,
        typer.Option(
            "--patient", help="Name patients by their Patient ID instead of a pseudonym (dicom)."
        ),
    ] = False,
) -> None:
    """Write the audit trail to stdout, oldest line first, each line on one of its own.

    That it was exported, and by whom, is in the trail as well.
    """
    from worker.audit.attempts import attempt
    from worker.audit_entry import AuditAction
    from worker.bootstrap import open_database
    from worker.db import audit

    settings, action = start_command(), AuditAction.AUDIT_EXPORTED
    with closing(open_database(settings)) as database, attempt(database, action):
        with database.transaction() as session:
            _used(session, action, format=form.value, patient=patient)
        with database.reading() as session:
            write = _writer(settings, session, form, patient=patient)
            for line in audit.in_order(session, _utc(since)):
                typer.echo(write(line))


def _tell(broken: tuple[int, str] | None, head: tuple[int, str], *, json: bool) -> None:
    number, digest = head
    if json:
        problem = broken[1] if broken else None
        document = {"intact": not broken, "problem": problem, "lines": number, "digest": digest}
        output.print_json(document)
    elif broken:
        typer.echo(f"The audit trail was tampered with: {broken[1]}.")
    else:
        typer.echo(f"The audit trail is intact: {number} lines.")
        typer.echo(f"Note elsewhere, for --expect: {number}:{digest}")


def _used(session: Session, action: AuditAction, **detail: Any) -> None:  # noqa: ANN401 - JSON
    """Record a use of the trail (PS3.15 section A.5.3.2), if there is anything in it.

    A database has to stay empty that a backup is to be restored into.
    """
    from worker.audit.trail import acted
    from worker.audit_entry import AuditOutcome
    from worker.db import audit

    intact = detail.get("intact", True)
    if audit.head(session)[0] or not intact:
        outcome = AuditOutcome.SUCCESS if intact else AuditOutcome.SERIOUS_FAILURE
        acted(session, action, outcome=outcome, **detail)


def _writer(
    settings: Settings, session: Session, form: ExportFormat, *, patient: bool
) -> Callable[[AuditEvent], str]:
    import json

    from worker.audit.messages import dicom_message

    if form is ExportFormat.JSON:
        return lambda line: json.dumps(_document(line), sort_keys=True)
    source = _source(settings, session, patient=patient)
    return lambda line: dicom_message(line, source)


def _source(settings: Settings, session: Session, *, patient: bool) -> AuditSource:
    from worker.audit.messages import AuditSource
    from worker.db.studies import by_uid
    from worker.pseudonyms import Pseudonyms

    pseudonyms = Pseudonyms(settings.pseudonym_key)

    def patient_of(study_instance_uid: str) -> str:
        # A study that was cleaned away stands for a patient of its own.
        study = by_uid(session, study_instance_uid)
        patient_id = study.patient_id if study else ""
        if patient and patient_id:
            return patient_id
        return pseudonyms.of(patient_id, study_instance_uid).patient

    return AuditSource(
        settings.ae_title, socket.gethostname(), settings.institution_name, patient_of
    )


def _document(line: AuditEvent) -> dict[str, Any]:
    names = ("number", "action", "outcome", "actor_kind", "actor", "source", "study_instance_uid")
    return {
        **{name: getattr(line, name) for name in names},
        "at": line.at.isoformat(timespec="microseconds"),
        "detail": line.detail,
        "previous_digest": line.previous_digest,
        "digest": line.digest,
    }


def _utc(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment else None


def _parse_head(expected: str) -> tuple[int, str] | None:
    if not expected:
        return None
    number, _, digest = expected.partition(":")
    if not number.isdecimal() or len(digest) != 64:
        raise typer.BadParameter("it is not the NUMBER:DIGEST that `lungwatch audit verify` tells")
    return int(number), digest


def _differs(session: Session, number: int, digest: str) -> tuple[int, str] | None:
    from worker.db.tables import AuditEvent

    if number == 0:
        return None
    line = session.get(AuditEvent, number)
    if line is None:
        return number, f"line {number}, which was there, and what follows it is missing"
    if line.digest != digest:
        return number, f"line {number} is another one than it was, or one before it is"
    return None
