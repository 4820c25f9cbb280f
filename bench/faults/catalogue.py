"""Every scenario there is, in the order of the scorecard."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.faults.scenarios import (
    listener_killed,
    oversized_pdu,
    soak,
    starved_listener,
    store_order,
)

if TYPE_CHECKING:
    from bench.faults.scenario import Scenario

CATALOGUE: tuple[Scenario, ...] = (
    listener_killed.SCENARIO,
    store_order.SCENARIO,
    starved_listener.SCENARIO,
    oversized_pdu.SCENARIO,
    soak.SCENARIO,
)
