"""Every scenario there is, in the order of the scorecard."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.faults.scenarios import (
    broker_away,
    database_away,
    disk_full,
    input_corpus,
    listener_killed,
    malformed_datasets,
    many_jobs,
    mutated_pdus,
    oversized_pdu,
    pacs_away,
    parts_killed,
    poison_study,
    power_cut,
    soak,
    starved_listener,
    store_order,
    study_histories,
    worker_killed,
)

if TYPE_CHECKING:
    from bench.faults.scenario import Scenario

CATALOGUE: tuple[Scenario, ...] = (
    listener_killed.SCENARIO,
    store_order.SCENARIO,
    power_cut.SCENARIO,
    worker_killed.SCENARIO,
    parts_killed.SCENARIO,
    many_jobs.SCENARIO,
    poison_study.SCENARIO,
    pacs_away.SCENARIO,
    broker_away.SCENARIO,
    database_away.SCENARIO,
    disk_full.SCENARIO,
    starved_listener.SCENARIO,
    oversized_pdu.SCENARIO,
    mutated_pdus.SCENARIO,
    malformed_datasets.SCENARIO,
    input_corpus.SCENARIO,
    study_histories.SCENARIO,
    soak.SCENARIO,
)
