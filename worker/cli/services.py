"""`lungwatch up`, `node` and `worker`: the services, together or apart."""

from __future__ import annotations

import typer

from worker.cli.start import start_service


def up() -> None:
    """Run everything on this machine: broker, listener, worker and delivery.

    Needs no Redis and no PostgreSQL: an embedded Valkey and SQLite in the data folder serve.
    Ctrl-C stops all parts in order.
    """
    from worker.up import run_up

    run_up(start_service())


def node() -> None:
    """Run the DICOM side: listener, assembly, sweeper and delivery.

    One node for each data folder. It needs an up-to-date database and a broker.
    """
    from worker.node import run_node

    run_node(start_service())


def worker() -> None:
    """Run the screening worker: one process for each GPU, or as many as are set on a CPU.

    It needs the database, the broker and the node's data folder.
    """
    from worker.fleet import run_workers

    raise typer.Exit(run_workers(start_service()))
