"""The harness itself: it resumes, counts, fails when it should, and its page is current."""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from functools import reduce
from operator import add

import pytest

from bench.faults import __main__ as harness
from bench.faults import absence, results, scorecard
from bench.faults.catalogue import CATALOGUE
from bench.faults.disk import LoopDisk
from bench.faults.scenario import Outcome, Scenario
from bench.faults.scenarios.store_order import events, is_ordered

GOOD = Outcome(2, 20, 0, 0, 1.5, passed=True)


class Recorder:
    """A scenario that notes what was asked of it, and raises or loses where told to."""

    def __init__(self, raise_at=None, lose_at=None, error=None):
        self.raise_at, self.lose_at = raise_at, lose_at
        self.error = error or RuntimeError("in /a/path")
        self.asked, self.short = [], set()
        self.scenario = Scenario("drawn", "nothing", "always", 6, 2, 2, self.run)

    def run(self, trials, folder):
        self.asked.append((trials.first, trials.count))
        self.short.add(trials.short)
        assert list(folder.iterdir()) == []
        if trials.first == self.raise_at:
            raise self.error
        return (
            replace(GOOD, trials=trials.count, lost=1, passed=False)
            if (trials.first == self.lose_at)
            else replace(GOOD, trials=trials.count)
        )


def cut_off_at(trial):
    """As SIGTERM or Ctrl-C would."""
    return Recorder(raise_at=trial, error=SystemExit(1))


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    def run(recorder, *arguments, commit="c0ffee"):
        monkeypatch.setattr(harness, "CATALOGUE", (recorder.scenario,))
        monkeypatch.setattr(results, "commit_of", commit if callable(commit) else lambda _: commit)
        file = tmp_path / "faults.jsonl"
        # A scenario that fails leaves its folder, for whoever looks for the reason.
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
        monkeypatch.setattr(sys, "argv", ["faults", "--results", str(file), *arguments])
        try:
            code = harness.main()
        except SystemExit as cut_off:
            code = cut_off.code
        printed = capsys.readouterr().out.splitlines()
        return code, json.loads(printed[-1]) if printed else None

    return run


@pytest.fixture
def recorded(tmp_path):
    """The lines of the results file."""

    def recorded():
        file = tmp_path / "faults.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    return recorded


def test_a_whole_run_prints_one_line_with_the_sums(run):
    code, line = run(Recorder())
    assert code == 0
    assert line == {
        "scenario": "drawn",
        "trials": 6,
        "acknowledged": 60,
        "lost": 0,
        "duplicated": 0,
        "recovery_s": 1.5,
        "pass": True,
    }


def test_a_run_that_was_cut_off_goes_on_behind_its_last_batch(run):
    assert run(cut_off_at(4)) == (1, None)
    resumed = Recorder()
    code, line = run(resumed)
    assert (code, line["trials"], resumed.asked) == (0, 6, [(4, 2)])


def test_a_line_that_was_cut_off_is_no_result(run, tmp_path):
    run(cut_off_at(4))
    file = tmp_path / "faults.jsonl"
    file.write_text(file.read_text()[:-20])
    resumed = Recorder()
    assert run(resumed)[1]["trials"] == 6
    assert resumed.asked == [(2, 2), (4, 2)]


@pytest.mark.parametrize(
    ("arguments", "commit"), [((), "decaf"), (("--again",), "c0ffee"), ((), "c0ffee-changed")]
)
def test_other_commits_and_again_begin_anew(run, arguments, commit):
    run(cut_off_at(4), commit=commit if "changed" in commit else "c0ffee")
    anew = Recorder()
    assert run(anew, *arguments, commit=commit)[1]["trials"] == 6
    assert anew.asked == [(0, 2), (2, 2), (4, 2)]


def test_neither_a_short_run_nor_a_whole_one_goes_on_with_the_other(run, recorded):
    run(cut_off_at(2))
    short = Recorder()
    assert run(short, "--short")[1]["trials"] == 2
    assert (short.asked, short.short) == ([(0, 2)], {True})
    rest = Recorder()
    assert run(rest)[1]["trials"] == 6
    assert (rest.asked, rest.short) == ([(2, 2), (4, 2)], {False})
    assert [line["short"] for line in recorded()] == [False, True, False, False]


def test_lines_from_before_short_runs_were_told_apart_are_those_of_whole_ones(run, tmp_path):
    run(cut_off_at(4))
    file = tmp_path / "faults.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for line in lines:
        del line["short"], line["seconds"], line["begins_run"]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    rest = Recorder()
    assert run(rest)[1]["trials"] == 6
    assert rest.asked == [(4, 2)]


@pytest.mark.parametrize("first", [0, 2])
def test_a_batch_that_breaks_off_fails_its_run_and_is_run_again(run, recorded, first):
    code, line = run(Recorder(raise_at=first))
    assert (code, line["trials"], line["pass"]) == (1, first, False)
    last = recorded()[-1]
    assert (last["trials"], last["pass"]) == (0, False)
    assert last["notes"] == "broke off: RuntimeError"
    again = Recorder()
    code, line = run(again)
    assert again.asked[0] == (first, 2)
    assert (code, line["trials"], line["pass"]) == (1, 6, False)
    assert run(Recorder(), "--again")[0] == 0


def test_a_program_that_is_missing_fails_the_run_and_is_no_result(run, recorded):
    for error in (pytest.skip.Exception("none"), pytest.fail.Exception("none")):
        code, line = run(Recorder(raise_at=2, error=error), "--again")
        assert (code, line["trials"], line["pass"]) == (1, 2, False)
    assert [line["first_trial"] for line in recorded()] == [0, 0]
    assert run(Recorder())[0] == 0


@pytest.mark.parametrize("raise_at", [None, 2])
def test_a_batch_during_which_the_code_changes_is_not_recorded(run, recorded, raise_at):
    recorder = Recorder(raise_at=raise_at)

    def commit(_):
        return "c0ffee" if len(recorder.asked) < 2 else "decaf"

    code, line = run(recorder, commit=commit)
    assert (code, line["trials"], line["pass"]) == (1, 2, False)
    assert [(line["commit"], line["first_trial"]) for line in recorded()] == [("c0ffee", 0)]


def test_code_that_changes_before_a_scenario_is_not_what_was_loaded(run, recorded):
    commits = iter(["c0ffee", "decaf"])
    recorder = Recorder()
    assert run(recorder, commit=lambda _: next(commits))[0] == 1
    assert (recorder.asked, recorded()) == ([], [])


def test_lines_say_how_long_a_batch_took_and_a_short_run_may_not_take_long(
    run, recorded, monkeypatch
):
    assert run(Recorder(), "--short")[0] == 0
    assert recorded()[0]["seconds"] >= 0
    monkeypatch.setattr(harness, "_SHORT_RUN_SECONDS", -1)
    code, line = run(Recorder(), "--short", "--again")
    assert (code, line["pass"]) == (1, True)
    # What it goes on with counts as well: there is nothing left to do, and it took as long.
    assert run(Recorder(), "--short")[0] == 1
    assert run(Recorder())[0] == 0


def test_one_loss_fails_the_run_and_the_next_one_until_the_code_changes(run):
    code, line = run(Recorder(lose_at=2))
    assert (code, line["lost"], line["pass"]) == (1, 1, False)
    again = Recorder()
    assert run(again)[0] == 1
    assert again.asked == []
    assert run(Recorder(), commit="decaf")[0] == 0


@pytest.mark.parametrize(
    ("changed", "anew"),
    [
        ("worker/job.py", True),
        ("bench/faults/load.py", True),
        ("tests/support/services.py", True),
        ("bench/faults/scenarios/own.py", True),
        ("bench/faults/scenarios/other.py", False),
        ("bench/faults/catalogue.py", False),
        ("bench/faults/README.md", False),
        ("tests/own/test.py", True),
        ("tests/own.corpus/seed.bin", True),
        ("tests/other/test.py", False),
    ],
)
def test_a_result_holds_until_what_it_is_about_changes(tmp_path, monkeypatch, changed, anew):
    def git(*arguments):
        command = ["git", "-c", "user.name=n", "-c", "user.email=e", *arguments]
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)

    scenario = replace(Recorder().scenario, rests_on=("tests/own/test.py", "tests/own.corpus"))
    own = tmp_path / "bench" / "faults" / "scenarios" / "own.py"
    monkeypatch.setattr(results, "REPOSITORY", tmp_path)
    monkeypatch.setattr(results.inspect, "getsourcefile", lambda _: str(own))
    own.parent.mkdir(parents=True)
    own.touch()
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "Begin")
    before = results.commit_of(scenario)
    file = tmp_path / changed
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("changed")
    assert results.commit_of(scenario).endswith("-changed") is anew
    git("add", ".")
    git("commit", "-qm", "Change")
    assert (results.commit_of(scenario) != before) is anew


@pytest.fixture
def page(tmp_path, monkeypatch):
    monkeypatch.setattr(scorecard, "CATALOGUE", (Recorder().scenario,))
    return lambda: scorecard.page(tmp_path / "faults.jsonl")


def test_the_scorecard_shows_the_last_run_and_says_when_it_is_short(run, page):
    assert "| 0 of 6 | | | | | not run |" in page()
    run(Recorder(), "--short", commit="decaf")
    assert "| 2 of 6 (short run: reduced parameters) | 20 | 0 | 0 | 1.5 s | pass |" in page()
    assert "at decaf on" in page()
    run(Recorder(lose_at=2))
    assert "| 6 | 60 | 1 | 0 | 1.5 s | **FAIL** |" in page()
    run(cut_off_at(4), commit="decaf")
    assert "| 4 of 6 | 40 | 0 | 0 | 1.5 s | pass |" in page()


def test_what_several_batches_note_is_shown_once():
    noted = [replace(GOOD, notes=notes) for notes in ("low", "slow; low", "", "slow", "low")]
    assert reduce(add, noted).notes == "low; slow"


def test_the_scorecard_shows_a_batch_that_broke_off(run, page):
    run(Recorder())
    run(Recorder(raise_at=0), commit="decaf")
    assert "| 0 of 6 | 0 | 0 | 0 |  | **FAIL** |" in page()
    assert "broke off: RuntimeError" in page()


def test_a_later_short_run_does_not_replace_a_whole_one_but_its_failure_is_shown(run, page):
    run(Recorder())
    run(Recorder(), "--short", commit="decaf")
    assert "| 6 | 60 | 0 | 0 | 1.5 s | pass |" in page()
    assert "short run failed" not in page()
    run(Recorder(raise_at=0), "--short", commit="facade")
    assert "| 6 | 60 | 0 | 0 | 1.5 s | pass |" in page()
    assert "**a short run failed** at facade on" in page()
    assert ": broke off: RuntimeError" in page()


@pytest.mark.parametrize(("commit", "shown"), [("c0ffee", False), ("decaf", True)])
def test_a_whole_run_of_later_code_makes_up_for_a_short_one_that_failed(
    tmp_path, page, commit, shown
):
    failed = replace(GOOD, passed=False)
    for day, code, outcome, short in ((1, "decaf", failed, True), (2, commit, GOOD, False)):
        batch = results.Batch(
            code, f"2026-12-0{day}", "drawn", 0, outcome, short=short, begins_run=True, seconds=1.0
        )
        results.append(tmp_path / "faults.jsonl", batch)
    assert ("a short run failed" in page()) is shown


def test_the_scorecard_says_how_to_see_what_changed_in_the_product_since(page):
    assert f"git log COMMIT.. -- {' '.join(results.PRODUCT)}" in page()


def test_the_published_scorecard_is_current():
    assert scorecard.PAGE.read_text() == scorecard.page(), "run python -m bench.faults.scorecard"


def test_scenarios_have_names_of_their_own_and_trials_for_every_run():
    assert len({scenario.name for scenario in CATALOGUE}) == len(CATALOGUE)
    for scenario in CATALOGUE:
        assert scenario.name.isidentifier()
        assert 1 <= scenario.short_trials <= scenario.trials
        assert scenario.batch >= 1
        assert all((results.REPOSITORY / path).exists() for path in scenario.rests_on)


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("study_histories", "tests/integration/test_study_state_machine.py"),
        ("mutated_pdus", "tests/fuzz/corpus"),
    ],
)
def test_results_rest_on_what_is_tried(name, path):
    (scenario,) = (scenario for scenario in CATALOGUE if scenario.name == name)
    assert path in scenario.rests_on


def test_a_success_before_its_folder_is_durable_is_seen(tmp_path):
    trace = f"""\
7 fsync(5<{tmp_path}/incoming/a.part>) = 0
7 rename("{tmp_path}/incoming/a.part", "{tmp_path}/inbox/a.dcm") = 0
7 fsync(5<{tmp_path}/inbox> <unfinished ...>
8 sendto(4<socket:[1]>, "\\4"..., 170, 0, NULL, 0) = 170
7 <... fsync resumed>) = 0
"""
    found = list(events(trace, tmp_path))
    assert [kind for kind, _ in found] == ["file", "rename", "answer", "folder"]
    assert not is_ordered(found)


def test_a_file_that_is_renamed_while_another_is_made_durable_is_seen(tmp_path):
    trace = """\
7 fsync(5<{0}/incoming/{1}.part>) = 0
7 renameat2(AT_FDCWD, "{0}/incoming/a.part", AT_FDCWD, "{0}/inbox/a.dcm", 0) = 0
7 fsync(5<{0}/inbox>) = 0
7 sendto(4<socket:[1]>, "\\4"..., 170, 0, NULL, 0) = 170
"""
    assert is_ordered(list(events(trace.format(tmp_path, "a"), tmp_path)))
    assert not is_ordered(list(events(trace.format(tmp_path, "b"), tmp_path)))


def test_a_power_cut_takes_what_was_not_synchronised(tmp_path):
    disk = LoopDisk(tmp_path, 16)
    with disk.mounted():
        (disk.root / "kept").write_bytes(b"durable")
        for path in (disk.root / "kept", disk.root):
            descriptor = os.open(path, os.O_RDONLY)
            os.fsync(descriptor)
            os.close(descriptor)
        (disk.root / "torn").write_bytes(b"in memory alone")
        with disk.after_power_cut(tmp_path / "cut") as root:
            found = {path.name: path.read_bytes() for path in root.iterdir() if path.is_file()}
    assert found == {"kept": b"durable"}


def test_studies_come_throughout_an_absence_and_not_too_many(monkeypatch):
    assert list(absence._during(0)) == [0]
    monkeypatch.setattr(absence, "_BETWEEN_SECONDS", 0.0)
    assert 5 < len(list(absence._during(0.3))) <= absence._MOST_DURING + 1
