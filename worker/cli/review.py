"""`lungwatch studies review`: a radiologist's word on a result."""

from __future__ import annotations

import getpass
from pathlib import Path  # noqa: TC003 - typer reads it at run time
from typing import Annotated, Any

import typer

from worker.cli import output
from worker.cli.options import JsonOption, KeyArgument  # noqa: TC001 - typer reads them
from worker.cli.start import start_command
from worker.judgement import REJECT_MEANINGS, RejectReason

_REASONS = "; ".join(f"{reason.value}: {words}" for reason, words in REJECT_MEANINGS.items())
_CLASS = {True: "COVID-19", False: "not COVID-19", None: "not said"}


def review(  # noqa: PLR0913 - the options of a command
    study: KeyArgument,
    *,
    accept: Annotated[
        bool, typer.Option("--accept", help="The result is right, its lesions included.")
    ] = False,
    reject: Annotated[
        RejectReason | None, typer.Option(help=f"The result is wrong. {_REASONS}.")
    ] = None,
    corrected: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            metavar="SEG.dcm",
            help="The lesions as they should be: a DICOM Segmentation drawn on the series that "
            "was screened. One whose segment is empty clears the study.",
        ),
    ] = None,
    covid: Annotated[
        bool | None,
        typer.Option(
            "--covid/--no-covid",
            help="With --corrected: the study's class. Unset, a positive result with lesions "
            "stays positive, an empty segmentation is negative, and lesions drawn into a negative "
            "result leave the class open.",
        ),
    ] = None,
    reviewer: Annotated[
        str, typer.Option(help="Who judges. Unset: the user of this terminal.")
    ] = "",
    note: Annotated[
        str, typer.Option(help="A remark; it stays in the database and trains nothing.")
    ] = "",
    json: JsonOption = False,
) -> None:
    """Record a radiologist's review of a result: one of --accept, --reject or --corrected.

    A later review of the study supersedes this one, which stays on record. What was reviewed is
    what `lungwatch retrain` learns from.
    """
    from worker.learning import review_desk
    from worker.review.reviews import Reviewer

    _check_one(accept=accept, reject=reject, corrected=corrected)
    if covid is not None and corrected is None:
        raise typer.BadParameter("--covid and --no-covid go with --corrected only")
    desk = review_desk(start_command())
    by = Reviewer(reviewer.strip() or _user(), note)
    if accept:
        document = desk.accept(study, by)
    elif reject is not None:
        document = desk.reject(study, reject, by)
    else:
        assert corrected is not None  # noqa: S101 - narrows the type
        document = desk.correct(study, corrected, by, covid=covid)
    if json:
        output.print_json(document)
    else:
        _print(document)


def _check_one(*, accept: bool, reject: RejectReason | None, corrected: Path | None) -> None:
    given = accept + (reject is not None) + (corrected is not None)
    if given != 1:
        raise typer.BadParameter(
            f"give exactly one of --accept, --reject and --corrected, not {given or 'none'}"
        )


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        raise typer.BadParameter("this user has no name: add --reviewer") from None


def _print(document: dict[str, Any]) -> None:
    lines = [
        f"Study {document['study']}: {document['decision']} by {document['reviewer']}.",
        f"Class: {_CLASS[document['covid']]}. Lesions: {document['lesions']}.",
    ]
    if left_out := document.get("left_out_segments"):
        lines.append(f"Segments that are no lesions were left out: {', '.join(left_out)}.")
    typer.echo(output.harmless("\n".join(lines)))


def print_reviews(reviews: list[dict[str, Any]]) -> None:
    """Print a study's reviews, oldest first; the last one counts."""
    rows = [
        (
            each["reviewed_at"].split(".")[0].replace("T", " "),
            each["reviewer"],
            each["decision"] + (f": {each['reason']}" if each["reason"] else ""),
            _CLASS[each["covid"]],
            each["lesions"],
            "counts" if each is reviews[-1] else "superseded",
            each["note"],
        )
        for each in reviews
    ]
    columns = ("when", "reviewer", "decision", "class", "lesions", "state", "note")
    output.print_table("Reviews", columns, rows)
