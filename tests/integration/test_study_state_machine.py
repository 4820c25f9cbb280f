"""The life of studies by model: any order of events and crashes, the same promises after each.

The ordinary run is short and always the same; `LUNGWATCH_FUZZ_EXAMPLES` asks for as many random
histories.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from pathlib import Path
from unittest.mock import patch

import pytest
import structlog
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from support import study_invariants
from support.drawn_instances import SLICES, Drawn
from support.faulty_parts import Pacs
from support.faulty_site import Site, Worker, encode_briefly, make_template

from dicom_node.errors import SpoolError
from dicom_node.receiving.spool import Spool

_EXAMPLES = int(os.environ.get("LUNGWATCH_FUZZ_EXAMPLES", "0"))
_IN_MEMORY = Path("/dev/shm")

which = st.integers(0, 9)
seldom = st.sampled_from([False] * 7 + [True])
moods = st.sampled_from(["stores", *Pacs.MOODS])


def killed_within(steps: int) -> st.SearchStrategy[int | None]:
    """After how many of its steps a process dies: most live."""
    return st.sampled_from([None] * 2 * (steps + 1) + list(range(steps + 1)))


class StudyHistories(RuleBasedStateMachine):
    """Everything that can happen to two studies between the sender's success and the PACS."""

    template: Path

    @initialize()
    def start(self) -> None:
        self.folder = Path(tempfile.mkdtemp(dir=_IN_MEMORY if _IN_MEMORY.is_dir() else None))
        self.site = Site(self.folder, self.template)
        # Most of what can go wrong begins with a study that waits for a worker.
        self.a_series_comes(study=0, series=0, crash=None)

    @rule(study=st.integers(0, 1), series=st.sampled_from([0, 0, 0, 1]), crash=killed_within(20))
    def a_series_comes(self, study: int, series: int, crash: int | None) -> None:
        for index in range(SLICES - 1):
            self.site.receive(Drawn(study, series, index))
        self.site.round(crash)

    @rule(
        study=st.sampled_from([0, 0, 1]),
        series=st.sampled_from([0, 0, 1]),
        index=st.integers(0, SLICES - 1),
        other=seldom,
        crash=killed_within(8),
    )
    def an_instance_comes_late_or_again(
        self, study: int, series: int, index: int, crash: int | None, *, other: bool
    ) -> None:
        self.site.receive(Drawn(study, series, index, other))
        self.site.round(crash)

    @rule(index=st.integers(0, SLICES - 1), crash=killed_within(6))
    def an_instance_comes_and_cannot_be_read(self, index: int, crash: int | None) -> None:
        self.site.receive(Drawn(0, 1, index))
        self.site.round_without_reading(crash)

    @rule(study=st.integers(0, 1), index=st.integers(0, SLICES - 1), crash=killed_within(6))
    def an_instance_comes_and_cannot_be_moved(
        self, study: int, index: int, crash: int | None
    ) -> None:
        self.site.receive(Drawn(study, 0, index))
        with patch.object(Spool, "file_into_study", side_effect=SpoolError("not now")):
            self.site.round()
            self.site.round(crash)

    @rule(index=st.integers(0, SLICES - 1), other=st.booleans(), crash=killed_within(8))
    def an_instance_comes_while_the_disk_is_low(
        self, index: int, crash: int | None, *, other: bool
    ) -> None:
        self.site.receive(Drawn(0, 0, index, other))
        self.site.round_with_low_disk(crash)

    @precondition(lambda self: self.site.held())
    @rule(number=which, crash=killed_within(8))
    def an_own_result_comes_back_while_the_disk_is_low(
        self, number: int, crash: int | None
    ) -> None:
        held = self.site.held()
        self.site.receive_own(held[number % len(held)])
        self.site.round_with_low_disk(crash)

    @precondition(lambda self: self.site.held())
    @rule(number=which)
    def an_own_result_comes_back(self, number: int) -> None:
        held = self.site.held()
        self.site.receive_own(held[number % len(held)])

    @rule(expired=st.booleans(), ended=st.booleans(), crash=killed_within(8))
    def time_passes(self, crash: int | None, *, expired: bool, ended: bool) -> None:
        if expired:
            self.site.expire_leases()
        if ended:
            self.site.let_pauses_end()
        self.site.round(crash)

    @precondition(lambda self: self.site.published)
    @rule(number=which, again=seldom, crash=killed_within(2))
    def a_worker_takes_a_message(self, number: int, crash: int | None, *, again: bool) -> None:
        if not self.site.messages or again:
            self.site.redeliver(number)
        self.site.take_message(number, crash)

    @precondition(lambda self: self.site.messages)
    @rule(crash=killed_within(2))
    def two_workers_get_the_same_message(self, crash: int | None) -> None:
        self.site.messages.insert(0, self.site.messages[0])
        self.site.take_message(0, crash)
        self.site.take_message(0)

    @precondition(lambda self: self.site.messages)
    @rule(number=which, crash=killed_within(6))
    def a_worker_screens_at_once(self, number: int, crash: int | None) -> None:
        before = len(self.site.workers)
        self.site.take_message(number)
        if len(self.site.workers) > before:
            self.site.finish_worker(before, "result", crash)

    @precondition(lambda self: self.site.workers)
    @rule(
        number=which,
        ending=st.sampled_from([*["result"] * 4, *Worker.ENDINGS]),
        crash=killed_within(4),
    )
    def a_worker_comes_to_its_end(self, number: int, ending: str, crash: int | None) -> None:
        self.site.finish_worker(number, ending, crash)

    @precondition(lambda self: self.site.messages)
    @rule()
    def the_broker_forgets_everything(self) -> None:
        self.site.forget_messages()

    @rule(pacs=moods, archive=moods, crash=killed_within(12))
    def results_are_delivered(self, pacs: str, archive: str, crash: int | None) -> None:
        self.site.let_pauses_end()
        self.site.deliver([pacs, archive], crash)

    @rule(number=which, lost=seldom, crash=killed_within(4))
    def each_pacs_tells_what_it_keeps(self, number: int, crash: int | None, *, lost: bool) -> None:
        if lost:
            self.site.lose(number)
        self.site.let_pauses_end()
        self.site.ask_for_promises(crash)

    @rule(number=which, crash=killed_within(12))
    def one_pacs_refuses_and_the_other_forgets(self, number: int, crash: int | None) -> None:
        self.results_are_delivered("refuses", "stores", None)
        self.each_pacs_tells_what_it_keeps(number, crash, lost=True)

    @rule(crash=killed_within(6))
    def time_is_over(self, crash: int | None) -> None:
        self.site.clean(crash)

    @rule(number=which, rescreen=st.booleans())
    def a_person_requeues(self, number: int, *, rescreen: bool) -> None:
        self.site.requeue(number, rescreen=rescreen)
        self.site.round()

    @rule(really=seldom)
    def everything_is_well_for_a_while(self, *, really: bool) -> None:
        if not really:
            return
        self.site.heal()
        study_invariants.check_at_rest(self.site)

    @invariant()
    def nothing_is_lost_and_nothing_is_twice(self) -> None:
        study_invariants.check(self.site)

    def teardown(self) -> None:
        if not hasattr(self, "site"):
            return
        try:
            self.everything_is_well_for_a_while(really=True)
            study_invariants.check(self.site)
        finally:
            self.site.close()
            shutil.rmtree(self.folder)


@pytest.fixture
def quiet() -> None:
    """Thousands of steps, each with its lines in the log."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


@pytest.mark.usefixtures("quiet")
def test_any_history_keeps_every_promise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    StudyHistories.template = tmp_path / "template.db"
    make_template(StudyHistories.template)
    monkeypatch.setattr("worker.screening.screening.encode_result", encode_briefly)
    run_state_machine_as_test(
        StudyHistories,
        settings=settings(
            max_examples=_EXAMPLES or 12,
            stateful_step_count=40,
            derandomize=not _EXAMPLES,
            database=None,
            deadline=None,
            # Shrinking takes minutes, and forty steps can be read.
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
