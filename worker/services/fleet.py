"""The workers of one machine: one process on a CPU, or one for each GPU."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from worker import bootstrap
from worker.settings import PREFIX
from worker.supervisor import Supervisor, run_until_signal
from worker.tasks import run_worker
from worker.telemetry import configure_logging

if TYPE_CHECKING:
    from collections.abc import Mapping

    from worker.settings import Settings


def run_workers(settings: Settings) -> int:
    """Run this machine's workers until SIGTERM or SIGINT.

    One process screens in itself; several are children, each seeing its own GPU only
    (``CUDA_VISIBLE_DEVICES``), restarted when they die.

    Returns
    -------
    int
        Exit code.

    Raises
    ------
    SettingsError, RegistryError, ModelIntegrityError, SchemaOutdatedError
        As `bootstrap.check_before_start`.
    """
    configure_logging(settings)
    bootstrap.check_before_start(settings, screens=True)
    if settings.worker_processes == 1 and not settings.gpus:
        return run_worker(settings)
    supervisor = Supervisor()
    add_workers(supervisor, settings, os.environ)
    run_until_signal(supervisor)
    return 0


def add_workers(supervisor: Supervisor, settings: Settings, environment: Mapping[str, str]) -> None:
    """Add this machine's workers to a supervisor, each as a process of its own."""
    for number, own in enumerate(worker_environments(settings)):
        supervisor.add(
            f"worker-{number}",
            [sys.executable, "-m", "worker.cli.main", "worker"],
            # A child is one worker: it must not take the settings for a fleet of its own.
            {**environment, **own, f"{PREFIX}WORKER_PROCESSES": "1", f"{PREFIX}GPUS": ""},
        )


def worker_environments(settings: Settings) -> list[dict[str, str]]:
    """Give for each worker process what its environment has beside ours.

    Without GPUs the workers share the cores evenly, or each would start threads for all.
    """
    if settings.gpus:
        return [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in settings.gpus]
    if settings.worker_processes == 1:
        return [{}]
    threads = max(1, (os.cpu_count() or 1) // settings.worker_processes)
    return [{"OMP_NUM_THREADS": str(threads)} for _ in range(settings.worker_processes)]
