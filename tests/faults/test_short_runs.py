"""A short run is easier where it says so; a whole one never is, however few trials it ends with."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from bench.faults.scenario import Outcome, Trials
from bench.faults.scenarios import (
    broker_away,
    database_away,
    many_jobs,
    pacs_away,
    worker_killed,
)

GOOD = Outcome(1, 1, 0, 0, None, passed=True)


@pytest.fixture
def conditions(tmp_path, monkeypatch):
    """Run a single trial of a scenario without its site, and give what the site would be told."""

    def conditions(module, *, short):
        told = []

        def note(*arguments, **settings):
            told.append((arguments, settings))
            return GOOD

        for name, part in PARTS[module].items():
            monkeypatch.setattr(module, name, part(note))
        folder = tmp_path / str(short)
        folder.mkdir()
        module.run(Trials(0, 1, short=short), folder)
        return told[0]

    return conditions


def site(note):
    return lambda *_, **settings: nullcontext(note(**settings))


PARTS = {
    broker_away: {"_with_studies": lambda note: lambda _, __, quick: note(**quick)},
    database_away: {"_KINDS": lambda note: [lambda *_, quick: note(quick)]},
    many_jobs: {
        "_lungwatch": lambda note: lambda kills, _, **quick: note(kills.distance, **quick),
        "_plain_celery": lambda _: lambda *_: (0, 0),
    },
    pacs_away: {"_KINDS": lambda note: [lambda _, uids, hours: note(len(uids), hours)]},
    worker_killed: {
        "ThrowAwayOrthanc": lambda _: lambda _: nullcontext(SimpleNamespace(dicom_port=1)),
        "write_tiny_model": lambda _: lambda _: "tiny",
        "ScreeningSite": site,
        "_run": lambda _: lambda *_: GOOD,
    },
}


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        (broker_away, ()),
        (database_away, (False,)),
        (many_jobs, (75,)),
        (pacs_away, (100, 3)),
        (worker_killed, ()),
    ],
)
def test_a_single_trial_of_a_whole_run_is_as_hard_as_its_title_says(conditions, module, arguments):
    short, whole = (conditions(module, short=short) for short in (True, False))
    assert short != whole
    assert whole[0] == arguments
    # What sites are told beside that is what makes them quick.
    assert not {"lease_seconds", "sweep_seconds"} & {*whole[1]}
