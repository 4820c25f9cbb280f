"""The harness itself: it resumes, counts, fails when it should, and its page is current."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import pytest

from bench.faults import __main__ as harness
from bench.faults import absence, results, scorecard
from bench.faults.catalogue import CATALOGUE
from bench.faults.disk import LoopDisk
from bench.faults.kill_points import Plan, tally
from bench.faults.scenario import Outcome, Scenario
from bench.faults.scenarios.store_order import events, is_ordered
from bench.faults.scenarios.worker_killed import judge_inside

GOOD = Outcome(2, 20, 0, 0, 1.5, passed=True)


class Recorder:
    """A scenario that notes what was asked of it, and breaks off or loses where told to."""

    def __init__(self, break_at=None, lose_at=None):
        self.break_at, self.lose_at = break_at, lose_at
        self.asked = []
        self.scenario = Scenario("drawn", "nothing", "always", 6, 2, 2, self.run)

    def run(self, first_trial, trials, folder):
        self.asked.append((first_trial, trials))
        assert list(folder.iterdir()) == []
        if first_trial == self.break_at:
            raise RuntimeError("cut off")
        return (
            replace(GOOD, trials=trials, lost=1, passed=False)
            if (first_trial == self.lose_at)
            else replace(GOOD, trials=trials)
        )


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    def run(recorder, *arguments, commit="c0ffee"):
        monkeypatch.setattr(harness, "CATALOGUE", (recorder.scenario,))
        monkeypatch.setattr(results, "commit_of", lambda _: commit)
        file = tmp_path / "faults.jsonl"
        monkeypatch.setattr(sys, "argv", ["faults", "--results", str(file), *arguments])
        code = harness.main()
        printed = capsys.readouterr().out.splitlines()
        return code, json.loads(printed[-1]) if printed else None

    return run


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
    broken = Recorder(break_at=4)
    assert run(broken) == (1, None)
    resumed = Recorder()
    code, line = run(resumed)
    assert (code, line["trials"], resumed.asked) == (0, 6, [(4, 2)])


def test_a_line_that_was_cut_off_is_no_result(run, tmp_path):
    run(Recorder(break_at=4))
    file = tmp_path / "faults.jsonl"
    file.write_text(file.read_text()[:-20])
    resumed = Recorder()
    assert run(resumed)[1]["trials"] == 6
    assert resumed.asked == [(2, 2), (4, 2)]


@pytest.mark.parametrize(
    ("arguments", "commit"), [((), "decaf"), (("--again",), "c0ffee"), ((), "c0ffee-changed")]
)
def test_other_commits_and_again_begin_anew(run, arguments, commit):
    run(Recorder(break_at=4), commit=commit if "changed" in commit else "c0ffee")
    anew = Recorder()
    assert run(anew, *arguments, commit=commit)[1]["trials"] == 6
    assert anew.asked == [(0, 2), (2, 2), (4, 2)]


def test_a_short_run_is_a_part_of_the_whole_one(run):
    assert run(Recorder(), "--short")[1]["trials"] == 2
    rest = Recorder()
    assert run(rest)[1]["trials"] == 6
    assert rest.asked == [(2, 2), (4, 2)]


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
    ],
)
def test_a_result_holds_until_what_it_is_about_changes(tmp_path, monkeypatch, changed, anew):
    def git(*arguments):
        command = ["git", "-c", "user.name=n", "-c", "user.email=e", *arguments]
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)

    own = tmp_path / "bench" / "faults" / "scenarios" / "own.py"
    monkeypatch.setattr(results, "REPOSITORY", tmp_path)
    monkeypatch.setattr(results.inspect, "getsourcefile", lambda _: str(own))
    own.parent.mkdir(parents=True)
    own.touch()
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "Begin")
    before = results.commit_of(Recorder().scenario)
    file = tmp_path / changed
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("changed")
    assert results.commit_of(Recorder().scenario).endswith("-changed") is anew
    git("add", ".")
    git("commit", "-qm", "Change")
    assert (results.commit_of(Recorder().scenario) != before) is anew


def test_the_scorecard_shows_the_last_run_and_says_when_it_is_short(run, tmp_path, monkeypatch):
    recorder = Recorder()
    monkeypatch.setattr(scorecard, "CATALOGUE", (recorder.scenario,))
    file = tmp_path / "faults.jsonl"
    assert "| 0 of 6 | | | | | not run |" in scorecard.page(file)
    run(Recorder(lose_at=2))
    assert "| 6 | 60 | 1 | 0 | 1.5 s | **FAIL** |" in scorecard.page(file)
    run(recorder, "--short", commit="decaf")
    assert "| 2 of 6 | 20 | 0 | 0 | 1.5 s | pass |" in scorecard.page(file)
    assert "at decaf on" in scorecard.page(file)


def test_the_published_scorecard_is_current():
    assert scorecard.PAGE.read_text() == scorecard.page(), "run python -m bench.faults.scorecard"


def test_scenarios_have_names_of_their_own_and_trials_for_every_run():
    assert len({scenario.name for scenario in CATALOGUE}) == len(CATALOGUE)
    for scenario in CATALOGUE:
        assert scenario.name.isidentifier()
        assert 1 <= scenario.short_trials <= scenario.trials
        assert scenario.batch >= 1


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


@pytest.mark.parametrize(("inside", "enough"), [(0, False), (2, False), (3, True), (6, True)])
def test_kills_at_the_ends_of_stages_are_too_few_inside(tmp_path, inside, enough):
    lines = [["reading", True, 0.1], ["reading", False, 0.3], ["acknowledging", True, 0.0005]]
    (tmp_path / "durations.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    plans = {str(number): Plan("reading", 0.5) for number in range(6)}
    plans |= {"brief": Plan("acknowledging", 0.5), "missed": Plan("reading", 0.5)}
    kills = {str(number): (1.0, number < inside) for number in range(6)}
    kills |= {"brief": (1.0, True), "missed": None}
    counts = tally(plans, kills, tmp_path)
    assert counts == {"reading": (inside, 6)}
    assert judge_inside(counts)[0] is enough


def test_a_run_in_which_no_kill_could_be_aimed_proves_nothing():
    assert judge_inside({}) == (False, "no kill could be aimed")


def test_studies_come_throughout_an_absence_and_not_too_many(monkeypatch):
    assert list(absence._during(0)) == [0]
    monkeypatch.setattr(absence, "_BETWEEN_SECONDS", 0.0)
    assert 5 < len(list(absence._during(0.3))) <= absence._MOST_DURING + 1
