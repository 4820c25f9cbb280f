"""A corpus of odd and spoilt studies from real series, through spool, intake, assembly, reading."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
from pydicom.errors import InvalidDicomError
from support.ct_corpus import expected_volume
from support.ct_corpus_handled import HANDLED
from support.ct_corpus_refused import REFUSED
from support.real_data import real_data
from support.spooling import spool_file

from bench.faults.reading_site import ReadingSite
from bench.faults.scenario import Outcome, Scenario, Trials
from dicom_node.reading.decoder import Decoder
from dicom_node.reasons import Reason
from worker.lifecycle import AT_REST, Progress, StudyState

if TYPE_CHECKING:
    from pathlib import Path

    from support.ct_corpus import Case

CORPUS = (*HANDLED, *REFUSED)
# The intake keeps the first of two instances under one UID, flags the other, and goes on.
_FLAGGED = "other bytes under a known UID"
# What an installation calls what a command calls otherwise: a spool gives everything file meta
# information, so that the letter in it lacks attributes, and a study without CT is not refused.
_SAME: dict[str, str] = {
    Reason.NOT_DICOM: Reason.MISSING_ATTRIBUTES,
    Reason.NOT_CT: Progress.NOTHING_TO_SCREEN,
}


def run(trials: Trials, folder: Path) -> Outcome:
    """Take one study of the corpus after the other through an empty installation."""
    problems = []
    with Decoder() as decoder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number in trials.numbers:
            case = CORPUS[number % len(CORPUS)]
            site_folder = folder / str(number)
            (site_folder / "study").mkdir(parents=True)
            with ReadingSite(site_folder, decoder) as site:
                if problem := _problem(case, site, site_folder / "study"):
                    problems.append(f"{case.name}: {problem}")
    return Outcome(
        trials=trials.count,
        acknowledged=trials.count,
        lost=0,
        duplicated=0,
        recovery_s=None,
        passed=not problems,
        notes="; ".join(problems[:3]),
    )


def _problem(case: Case, site: ReadingSite, folder: Path) -> str:
    """Tell what is wrong with what became of a study; empty where it is right."""
    for number, path in enumerate(case.write(real_data(), folder)):
        try:
            spool_file(site.spool, path)
        except InvalidDicomError:
            site.store(path.read_bytes(), "1.2.840.10008.1.2.1", f"1.2.3.{number}")
    site.intake.run_once()
    series = site.judge()
    endings = site.endings()
    if any(not each.reason for each in endings):
        return "a study without a reason"
    if case.name == _FLAGGED:
        return "" if series and endings[0].conflicts == 1 else "the conflict is not flagged"
    if case.reason is not None:
        allowed = (case.reason, _SAME.get(case.reason, case.reason))
        wrong = [each for each in endings if each.reason not in allowed]
        at_rest = all(each.state in AT_REST for each in endings)
        return "" if series is None and not wrong and at_rest else f"ends as {endings}"
    if series is None or [each.state for each in endings] != [StudyState.SCREENING]:
        return f"ends as {endings}"
    expected = expected_volume(real_data(), case.series)
    right = not case.same_volume or np.array_equal(series.volume.hounsfield, expected)
    return "" if right else "read as another volume"


SCENARIO = Scenario(
    name="input_corpus",
    title="Odd and spoilt studies made from real series",
    passes_if="each is read to the right volume, or refused with the right reason",
    trials=len(CORPUS),
    # `make test` reads them all.
    short_trials=len(CORPUS) // 3,
    batch=len(CORPUS),
    run=run,
)
