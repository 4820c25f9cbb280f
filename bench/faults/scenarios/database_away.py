"""The database is stopped, or locked by another process, while studies come in and are screened."""

from __future__ import annotations

import sqlite3
import tempfile
from contextlib import closing, contextmanager
from functools import reduce
from operator import add
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
from psycopg import sql
from sqlalchemy.engine import make_url
from support.services import PostgresqlServer

from bench.faults.absence import QUICK, withstand
from bench.faults.counting_pacs import CountingPacs
from bench.faults.scenario import Scenario
from bench.faults.screening_site import ScreeningSite, write_tiny_model
from worker.db.base import Base

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from bench.faults.scenario import Outcome, Trials

    Away = Callable[[float], AbstractContextManager[float]]

_AWAY_SECONDS, _SHORTLY_SECONDS = 60.0, 5.0
_RECOVERY_SECONDS = 120.0


def run(trials: Trials, folder: Path) -> Outcome:
    """Lock an SQLite file, stop a PostgreSQL and lock one, in turns."""
    outcomes = []
    for kind, run_with in enumerate(_KINDS):
        numbers = trials.numbers[(kind - trials.first) % len(_KINDS) :: len(_KINDS)]
        if numbers:
            own = folder / str(kind)
            own.mkdir()
            outcomes.append(run_with(numbers, own, quick=trials.short))
    return reduce(add, outcomes)


def _with_sqlite(numbers: Sequence[int], folder: Path, *, quick: bool) -> Outcome:
    @contextmanager
    def locked(seconds: float) -> Iterator[float]:
        # This process is another one to the system, as a backup or a curious person would be.
        url = make_url(site.settings.resolved_database_url)
        with closing(sqlite3.connect(str(url.database), isolation_level=None)) as connection:
            connection.execute("BEGIN EXCLUSIVE")
            yield seconds
            connection.execute("ROLLBACK")

    with CountingPacs() as pacs, _site(folder, pacs, quick=quick) as site:
        return _withstand(site, pacs, numbers, locked, quick=quick)


def _with_postgresql_stopped(numbers: Sequence[int], folder: Path, *, quick: bool) -> Outcome:
    @contextmanager
    def stopped(seconds: float) -> Iterator[float]:
        server.stop()
        yield seconds
        server.start()

    with _postgresql() as server, CountingPacs() as pacs:
        url = server.create_database()
        with _site(folder, pacs, quick=quick, database_url=url) as site:
            return _withstand(site, pacs, numbers, stopped, quick=quick)


def _with_postgresql_locked(numbers: Sequence[int], folder: Path, *, quick: bool) -> Outcome:
    @contextmanager
    def locked(seconds: float) -> Iterator[float]:
        # As a migration or a VACUUM FULL would hold every table.
        with psycopg.connect(url.replace("+psycopg", "")) as connection:
            _lock_all_tables(connection)
            yield seconds
            connection.rollback()

    with _postgresql() as server, CountingPacs() as pacs:
        url = server.create_database()
        with _site(folder, pacs, quick=quick, database_url=url) as site:
            return _withstand(site, pacs, numbers, locked, quick=quick)


_KINDS = (_with_sqlite, _with_postgresql_stopped, _with_postgresql_locked)


def _lock_all_tables(connection: psycopg.Connection) -> None:
    """Lock them in one transaction; whoever holds one already and wants another is in the way."""
    tables = sql.SQL(", ").join(map(sql.Identifier, Base.metadata.tables))
    while True:
        try:
            connection.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(tables))
        except psycopg.errors.DeadlockDetected:
            connection.rollback()
        else:
            return


@contextmanager
def _postgresql() -> Iterator[PostgresqlServer]:
    # The harness's folders are closed to the user postgres, as whom root has to run it.
    with tempfile.TemporaryDirectory(prefix="lungwatch-postgresql-") as data:
        server = PostgresqlServer(Path(data))
        server.start()
        try:
            yield server
        finally:
            server.stop()


def _withstand(
    site: ScreeningSite, pacs: CountingPacs, numbers: Sequence[int], away: Away, *, quick: bool
) -> Outcome:
    seconds = _SHORTLY_SECONDS if quick else _AWAY_SECONDS
    return withstand(site, pacs, numbers, lambda _: away(seconds), _RECOVERY_SECONDS)


def _site(folder: Path, pacs: CountingPacs, *, quick: bool, **settings: object) -> ScreeningSite:
    return ScreeningSite(
        folder,
        ("node", "worker"),
        pacs.url,
        model_dir=folder / "models",
        model=write_tiny_model(folder / "models"),
        **(QUICK if quick else {}),
        **settings,
    )


SCENARIO = Scenario(
    name="database_away",
    title=(
        "database away for 60 s with studies coming in: SQLite locked by another process, "
        "PostgreSQL stopped, or its tables locked by another session"
    ),
    passes_if=(
        "every C-STORE accepted meanwhile and none falsely, every study completed within 120 s "
        "of the database's return, one SEG and one SR each"
    ),
    trials=12,
    short_trials=3,
    batch=6,
    run=run,
)
