"""`lungwatch screen`: the same result from a folder of DICOM, without network or database."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003 - typer reads it at run time
from typing import Annotated, Any

import typer

from worker.cli import output
from worker.cli.exit_codes import ExitCode
from worker.cli.options import JsonOption  # noqa: TC001 - typer reads it at run time
from worker.cli.start import start_command


def screen(
    folder: Annotated[
        Path,
        typer.Argument(exists=True, file_okay=False, help="Folder with a study."),
    ],
    *,
    out: Annotated[Path, typer.Option(file_okay=False, help="Folder for the result.")],
    json: JsonOption = False,
) -> None:
    """Screen a study from a folder, without network or database.

    Where there is a database all the same, the version promoted there screens.
    Leaves seg.dcm (where there are lesions), sr.dcm, summary.dcm, overlay.png and result.json.
    What cannot be screened leaves result.json with the coded reasons, and exit code 4.
    """
    from dicom_node.errors import RefusedError
    from worker.offline import FolderScreening
    from worker.screening.result_files import write_result_files

    screening = FolderScreening(folder, start_command())
    objects: dict[str, bytes] = {}
    try:
        with output.progress_bar("reading the study") as report:
            outcome = screening.run(report)
    except RefusedError as error:
        document = screening.document(error)
    else:
        document = screening.document()
        objects.update((encoded.kind, encoded.data) for encoded in outcome.objects)
    files = write_result_files(out, objects, document)
    if json:
        output.print_json(document)
    else:
        _print(document, out, files)
    if document["state"] == "refused":
        raise typer.Exit(ExitCode.REFUSED)


def _print(document: dict[str, Any], out: Path, files: list[str]) -> None:
    from rich.text import Text

    from worker.cli.study_page import print_decisions, print_result
    from worker.explanations import explain

    if document["state"] == "refused":
        words = explain(document["reason"]).words
        line = f"Refused: {words} ({document['reason']}): {document['detail']}"
        output.stdout().print(Text(output.harmless(line)))
    else:
        print_result(document)
    print_decisions(document)
    output.stdout().print(Text(f"{out}: {', '.join(files)}"))
