"""`lungwatch up`, `node`, `worker` and `trainer`: the services, together or apart."""

from __future__ import annotations

import typer


def up() -> None:
    """Run everything on this machine: broker, listener, worker and delivery.

    Needs no Redis and no PostgreSQL: an embedded Valkey and SQLite in the data folder serve.
    Ctrl-C stops all parts in order.
    """
    from worker.services.up import run_up
    from worker.settings import load_settings

    run_up(load_settings())


def node() -> None:
    """Run the DICOM side: listener, assembly, sweeper and delivery.

    One node for each data folder and database. It needs an up-to-date database and a broker.
    """
    from worker.services.node import run_node
    from worker.settings import load_settings

    run_node(load_settings())


def trainer() -> None:
    """Run the trainer: it takes what `lungwatch retrain --queue` asks for, and never screens.

    Trains on the CPU, behind screening, unless LUNGWATCH_TRAINING_GPUS names GPUs of its own. Told
    to stop, it leaves a training in work to the next trainer, which goes on with it.
    """
    from worker.services.trainer import run_trainer
    from worker.settings import load_settings

    raise typer.Exit(run_trainer(load_settings()))


def worker() -> None:
    """Run the screening worker: one process for each GPU, or as many as are set on a CPU.

    It needs the database, the broker and the node's data folder.
    """
    from worker.services.fleet import run_workers
    from worker.settings import load_settings

    raise typer.Exit(run_workers(load_settings()))
