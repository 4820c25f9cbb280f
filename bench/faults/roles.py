"""What the children of a nursery are: each imports first, and runs when it is forked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import celery.bin.worker  # noqa: F401 - a worker would import it as it starts
import cv2
from support.synthetic_result import TINY_LESIONS, context_of, predict, tiny_series

import dicom_node.peers.dimse  # noqa: F401 - the node's first delivery would
from bench.faults import cheap_screening, kill_points, plain_celery
from bench.faults.moody_proxy import IMPATIENT_SECONDS
from dicom_node.config import DimseDestination
from dicom_node.objects.results import encode_result
from worker.services.fleet import run_workers
from worker.services.node import run_node
from worker.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Run = Callable[[], None]


def worker(folder: Path) -> Run:
    """Be `lungwatch worker`, with kill points."""
    import model.engines.keras_engine  # noqa: F401, PLC0415 - the slow import, for these alone

    _encode_once()

    def run() -> None:
        kill_points.install_in_worker(folder)
        run_workers(load_settings())

    return run


def cheap_worker(_: Path) -> Run:
    """Be `lungwatch worker` whose jobs take milliseconds."""

    def run() -> None:
        cheap_screening.install()
        run_workers(load_settings())

    return run


def plain_worker(folder: Path) -> Run:
    """Be a worker of plain Celery."""
    return lambda: plain_celery.run(load_settings().required_broker_url, folder)


def node(folder: Path) -> Run:
    """Be `lungwatch node`, with kill points."""

    def run() -> None:
        kill_points.install_in_node(folder)
        run_node(load_settings())

    return run


def impatient_node(folder: Path) -> Run:
    """Be `lungwatch node` that waits for a reply for seconds, not for a minute."""
    settled = node(folder)

    def run() -> None:
        DimseDestination.__init__.__kwdefaults__["response_timeout"] = IMPATIENT_SECONDS
        settled()

    return run


def _encode_once() -> None:
    """Encode a result: the first time takes a process seconds."""
    # Its pool would be threads that a fork leaves behind.
    cv2.setNumThreads(0)
    series = tiny_series()
    encode_result(series, predict(series, TINY_LESIONS), context_of(series))


ROLES = {
    "worker": worker,
    "cheap_worker": cheap_worker,
    "plain_worker": plain_worker,
    "node": node,
    "impatient_node": impatient_node,
}
