"""Every scenario of the fault harness, once: `make faults` runs them in full."""

import pytest

from bench.faults.catalogue import CATALOGUE


@pytest.mark.parametrize("scenario", CATALOGUE, ids=lambda scenario: scenario.name)
def test_the_system_withstands(scenario, tmp_path):
    outcome = scenario.run(0, 1, tmp_path)
    assert outcome.passed, outcome.notes
    assert (outcome.lost, outcome.duplicated) == (0, 0)
    assert outcome.trials >= 1
