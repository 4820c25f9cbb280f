"""Scenarios fail where they should: what would make each fail is put before its judge."""

import json
import time
from collections import Counter
from contextlib import nullcontext
from types import SimpleNamespace

import pytest

from bench.faults.cheap_screening import POISON
from bench.faults.counting_pacs import CountingPacs
from bench.faults.kill_points import Plan, tally
from bench.faults.scenario import Trials
from bench.faults.scenarios import many_jobs, pacs_away, poison_study, soak
from bench.faults.scenarios.worker_killed import judge_inside
from bench.faults.screening_site import ScreeningSite
from worker.db import deliveries, events, schema, screenings
from worker.db.tables import Study
from worker.lifecycle import Progress, StudyEvent

KINDS = ("seg", "sr")


class SiteWithoutProcesses(ScreeningSite):
    """A site whose studies are screened and sent by the test, in its database and to its PACS."""

    screened_times = sent_times = 1
    pacs: CountingPacs

    def __enter__(self):
        schema.upgrade(self.database.engine)
        return self

    def __exit__(self, *_):
        self.database.close()

    def wait_until_at_rest(self, count, seconds):
        with self.database.transaction() as session:
            for study in session.query(Study):
                if study.study_instance_uid.startswith(POISON):
                    self._fail(session, study.screenings[-1])
                else:
                    self._complete(session, study.screenings[-1])
        return self.at_rest() == count

    def children(self, role=""):
        return [SimpleNamespace(signal=9)] * self.kills

    def _fail(self, session, screening):
        for _ in range(self.kills):
            screenings.claim(session, screening.id, "here", 60)
            screenings.release(session, screening, "worker lost", self.kills)

    def _complete(self, session, screening):
        study = screening.study
        claim = screenings.claim(session, screening.id, "here", 60)
        screenings.finish(session, claim)
        events.follow(session, screening, StudyEvent.SCREENED, Progress.WAITING_FOR_DESTINATION)
        for _ in range(self.screened_times - 1):
            events.record(session, StudyEvent.SCREENED.value, study, screening)
        for _ in range(self.sent_times):
            for kind in KINDS:
                uids = {
                    f"{of}_uid": f"{study.study_instance_uid}.{kind == 'sr':d}"
                    for of in ("sop_class", "sop_instance", "series_instance")
                }
                entry = {"kind": kind, "path": kind, "sha256": "", **uids}
                deliveries.put(session, screening, "pacs", entry)
            session.flush()
            for delivery in deliveries.take_due(session, "pacs", 60):
                deliveries.mark_delivered(session, delivery.id)
                self.pacs.stored[study.study_instance_uid, "", delivery.sop_instance_uid] += 1
        deliveries.settle(session, screening.id)


@pytest.fixture(params=[(many_jobs, 1), (poison_study, 3)], ids=["many_jobs", "poison_study"])
def outcome_of_effects(request, tmp_path, monkeypatch):
    """Run a trial whose studies are screened and sent so many times."""
    module, kills = request.param
    pacs = CountingPacs()

    def run(*, screened_times=1, sent_times=1):
        told = {"screened_times": screened_times, "sent_times": sent_times}
        site = type("Site", (SiteWithoutProcesses,), {**told, "kills": kills, "pacs": pacs})
        monkeypatch.setattr(module, "ScreeningSite", site)
        monkeypatch.setattr(module, "CountingPacs", lambda: nullcontext(pacs))
        return module.run(Trials(0, 1, short=True), tmp_path)

    monkeypatch.setattr(many_jobs, "_JOBS_PER_QUICK_KILL", 4)
    monkeypatch.setattr(many_jobs.Kills, "carry_out", lambda *_: time.time())
    monkeypatch.setattr(poison_study, "_STUDIES", 5)
    return run


def test_studies_that_are_screened_and_sent_once_pass(outcome_of_effects):
    outcome = outcome_of_effects()
    assert outcome.passed, outcome.notes
    assert (outcome.lost, outcome.duplicated) == (0, 0)


def test_an_object_that_is_sent_again_is_a_double_effect(outcome_of_effects):
    outcome = outcome_of_effects(sent_times=2)
    assert outcome.notes == "8 objects sent more than once"
    assert (outcome.passed, outcome.lost, outcome.duplicated) == (False, 0, 8)


def test_a_study_that_is_screened_again_is_a_double_effect(outcome_of_effects):
    outcome = outcome_of_effects(screened_times=2)
    assert outcome.notes == "4 studies screened more than once"
    assert (outcome.passed, outcome.lost, outcome.duplicated) == (False, 0, 4)


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
    assert judge_inside(counts, {"reading", "acknowledging"})[0] is enough


def test_a_run_in_which_no_kill_could_be_aimed_proves_nothing():
    assert judge_inside({}, {}) == (False, "no kill could be aimed")


def test_a_stage_that_every_kill_of_a_batch_missed_fails_it():
    counts = {"reading": (5, 5), "network": (5, 5), "encoding": (0, 5)}
    enough, told = judge_inside(counts, counts)
    assert not enough
    assert "no kill lay inside encoding" in told
    # A single kill, as each stage has in a short run, may miss.
    assert judge_inside({"reading": (1, 1), "encoding": (0, 1)}, counts)[0]


def test_stages_that_are_too_short_to_aim_at_are_named():
    counts = {"reading": (5, 5), "network": (4, 5)}
    enough, told = judge_inside(counts, {*counts, "writing_sr", "acknowledging"})
    assert enough
    assert told.endswith("at least 90 % lay inside; too short to aim at: writing_sr, acknowledging")
    assert judge_inside(counts, counts)[1].endswith("lay inside")


def test_the_title_of_the_soak_tells_how_visits_are_split_over_its_listeners(tmp_path, monkeypatch):
    visited = []

    class Partner:
        def __init__(self, folder, *_):
            self.name = folder.name
            self.listener = SimpleNamespace(start=list, stop=list)

        def echo(self):
            visited.append(self.name)
            return True

        echo_and_store = echo
        note_base = list
        missing = int

        def growth(self):
            return SimpleNamespace(passed=True)

    monkeypatch.setattr(soak, "_Partner", Partner)
    monkeypatch.setattr(soak, "_WARM_UP", 0)
    assert soak.run(Trials(0, 300, short=False), tmp_path).passed
    assert sorted(visited) == ["plain"] * 200 + ["tls"] * 100
    assert "with two listeners, one in 3 with the one that speaks TLS" in soak.SCENARIO.title


@pytest.mark.parametrize(
    ("recovery", "notes"),
    [
        (60.0, ""),
        (61.0, "1 recoveries of more than 60 s"),
        (None, "1 recoveries not done in 120 s"),
    ],
)
def test_an_absent_pacs_whose_results_come_late_or_not_in_time_fails(monkeypatch, recovery, notes):
    committed = SimpleNamespace(uncommitted=lambda: 0)
    monkeypatch.setattr(pacs_away, "OutboxView", lambda _: committed)
    # Done by now, but not when the wait for it was over.
    done = SimpleNamespace(unfinished=lambda _: {})
    held = Counter({(kind, "1.2.3"): 1 for kind in KINDS})
    outcome = pacs_away._judge(done, ["1.2.3"], held, recovery, {})
    assert (outcome.notes, outcome.passed) == (notes, not notes)


def test_the_recovery_from_an_absent_pacs_is_said_to_count_from_the_next_probe():
    assert pacs_away.SCENARIO.passes_if.endswith("within 60 s of the next probe")
