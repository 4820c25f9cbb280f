"""Every scenario of the fault harness, once: `make faults` runs them in full."""

import pytest

from bench.faults.catalogue import CATALOGUE
from bench.faults.scenario import Trials

# Where another kind of fault is worth its seconds: Redis is emptied after it was killed.
TRIALS = {"broker_away": 2}


@pytest.mark.parametrize("scenario", CATALOGUE, ids=lambda scenario: scenario.name)
def test_the_system_withstands(scenario, tmp_path):
    trials = Trials(0, TRIALS.get(scenario.name, 1), short=True)
    outcome = scenario.run(trials, tmp_path)
    assert outcome.passed, outcome.notes
    assert (outcome.lost, outcome.duplicated) == (0, 0)
    assert outcome.trials >= 1
