"""`lungwatch demo`: the whole way of one study, from the PACS and back into it."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from worker.cli import output
from worker.cli.exit_codes import ExitCode
from worker.cli.options import JsonOption  # noqa: TC001 - typer reads it at run time

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from worker.demo.demo import DemoOutcome

    Report = Callable[[str, float | None], None]

_SYNTHETIC = "SYNTHETIC: the study is a computed phantom, not a patient."
_NOTICE = "Unverified, for review by a radiologist, for research use only."


def demo(
    *,
    study: Annotated[
        Path | None,
        typer.Option(
            exists=True, file_okay=False, help="Folder of one study; without it a phantom is made."
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option(file_okay=False, help="Folder for what the PACS then holds.")
    ] = Path("demo-out"),
    data: Annotated[
        Path | None,
        typer.Option(
            file_okay=False, help="Folder to keep everything the system stored; else it is removed."
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Show the whole way: PACS, C-STORE, screening, results back into the PACS.

    Starts everything it needs on this machine, and ends it again. Leaves seg.dcm (where there are
    lesions), sr.dcm, summary.dcm, overlay.png and result.json. Exit code 0 only if all of it
    arrived, 4 if the study was refused.
    """
    with output.progress_bar("preparing") as report, _work_folder(data) as work:
        outcome = _run(study, work, _stop_in_order(report))
    document = {
        "synthetic": study is None,
        "pacs": outcome.pacs,
        **outcome.document,
    }
    from worker.screening.result_files import write_result_files

    files = write_result_files(out, outcome.objects, document)
    if json:
        output.print_json(document)
    else:
        _print(outcome, out, files, synthetic=study is None)
    code = _exit_code(outcome)
    if code is not ExitCode.OK:
        raise typer.Exit(code)


def _stop_in_order(report: Report) -> Report:
    """Let SIGINT and SIGTERM end every child, and a second one not prevent that.

    Returns
    -------
    callable
        `report`, which also ends us when a library lost the interrupt, as finalisers do.
    """
    import signal

    interrupted = False

    def stop(_number: int, _frame: object) -> None:
        nonlocal interrupted
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        typer.echo("Stopping what was started; a study in work is finished first.", err=True)
        interrupted = True
        raise KeyboardInterrupt

    def report_or_stop(stage: str, done: float | None) -> None:
        if interrupted:
            raise KeyboardInterrupt
        report(stage, done)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    return report_or_stop


def _run(study: Path | None, work: Path, report: Report) -> DemoOutcome:
    from worker.demo.demo import run_demo

    if study is None:
        from worker.demo.phantom_study import write_phantom_study

        report("computing the phantom", None)
        study = work / "phantom"
        write_phantom_study(study)
    return run_demo(study, work, report)


@contextmanager
def _work_folder(given: Path | None) -> Iterator[Path]:
    from tempfile import TemporaryDirectory

    if given is not None:
        given.mkdir(parents=True, exist_ok=True)
        yield given
        return
    with TemporaryDirectory(prefix="lungwatch-demo-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _print(outcome: DemoOutcome, out: Path, files: list[str], *, synthetic: bool) -> None:
    from rich.panel import Panel
    from rich.text import Text

    from worker.cli.study_page import print_decisions, print_result
    from worker.explanations import explain

    document, console = outcome.document, output.stdout()
    explanation = explain(document["reason"])
    lines = [
        *([_SYNTHETIC] if synthetic else []),
        _NOTICE,
        f"PACS: {outcome.pacs}",
        f"Study {document['study_instance_uid']}",
        f"{document['state']}: {explanation.words} ({document['reason']})",
        *([document["detail"]] if document["detail"] else []),
        *([f"What to do: {explanation.remedy}"] if explanation.remedy else []),
    ]
    console.print(
        Panel(Text(output.harmless("\n".join(lines))), title="Lungwatch demo", expand=False)
    )
    if "covid_probability" in document:
        print_result(document)
    else:
        print_decisions(document)
    for kind in outcome.missing:
        console.print(Text(f"Missing in the PACS: {kind}", style="bold red"))
    console.print(Text(f"{out}: {', '.join(files)}"))


def _exit_code(outcome: DemoOutcome) -> ExitCode:
    state = outcome.document["state"]
    if state in {"refused", "ignored"}:
        return ExitCode.REFUSED
    arrived = {"sr", "summary"} <= outcome.objects.keys() and not outcome.missing
    return ExitCode.OK if state == "completed" and arrived else ExitCode.FAILED
