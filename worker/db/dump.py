"""The whole database as one file that restores into SQLite and PostgreSQL alike.

A zip of one JSON-lines file per table and a manifest with the schema's revision and, for each
table, the number of its rows and their SHA-256. It is read from one snapshot, so a running system
can be backed up.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import JSON, DateTime, MetaData, false, func, insert, select

from model.files import replaced
from worker.db import schema
from worker.errors import BackupError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy import Connection, Engine, Table

FORMAT = 1
_MANIFEST = "manifest.json"
_ROWS_AT_ONCE = 500
_VERSION_TABLE = "alembic_version"


@dataclass(frozen=True, slots=True)
class TableFigures:
    """How many rows a table has, and the SHA-256 of its lines."""

    rows: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup holds.

    Attributes
    ----------
    revision
        Revision of the schema.
    made_at
        When, in ISO 8601.
    tables
        Figures of each table, in an order in which a row refers to earlier ones only.
    """

    revision: str
    made_at: str
    tables: dict[str, TableFigures]

    @property
    def rows(self) -> int:
        """Rows of all tables."""
        return sum(figures.rows for figures in self.tables.values())


def backup(engine: Engine, path: Path) -> Manifest:
    """Write a backup; an existing file is replaced once the new one is whole and on disk.

    Raises
    ------
    BackupError
        If the database's schema is not this version's.
    OSError
        If the file cannot be written.
    """
    status = schema.check(engine)
    if not status.up_to_date:
        raise BackupError(
            f"the database is at revision {status.current or 'none'}, this version needs "
            f"{status.expected}: run `lungwatch db upgrade` first"
        )
    figures: dict[str, TableFigures] = {}
    with replaced(path) as temporary:
        # It holds patients' names.
        temporary.touch(mode=0o600)
        with (
            zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive,
            _snapshot(engine) as connection,
        ):
            for table in _tables(connection):
                figures[table.name] = _write_table(connection, table, archive)
            manifest = Manifest(
                status.expected, datetime.now(UTC).isoformat(timespec="seconds"), figures
            )
            archive.writestr(_MANIFEST, json.dumps({"format": FORMAT, **asdict(manifest)}))
    return manifest


def read_manifest(path: Path) -> Manifest:
    """Read what a backup says of itself.

    Raises
    ------
    BackupError
        If it is none, or of a later version.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            content = json.loads(archive.read(_MANIFEST))
        if content.pop("format") != FORMAT:
            raise BackupError(f"{path.name} is a backup of a later version of Lungwatch")
        tables = {name: TableFigures(**each) for name, each in content.pop("tables").items()}
        return Manifest(tables=tables, **content)
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError, EOFError) as error:
        raise BackupError(f"{path.name} is no backup of Lungwatch, or is damaged") from error


def restore(engine: Engine, path: Path) -> Manifest:
    """Restore a backup into an empty database, and bring its schema up to date.

    All or nothing, but for the migrations, which can be repeated.

    Raises
    ------
    BackupError
        If the file is damaged or of a later version, or the database is not empty.
    """
    manifest = read_manifest(path)
    if manifest.revision not in schema.revisions():
        raise BackupError(
            f"{path.name} has schema revision {manifest.revision}, which this version does not "
            "know: restore it with the version that made it, or a later one"
        )
    _check_empty(engine)
    schema.upgrade(engine, manifest.revision)
    try:
        with engine.begin() as connection, zipfile.ZipFile(path) as archive:
            tables = {table.name: table for table in _tables(connection)}
            if set(tables) != set(manifest.tables):
                raise BackupError(f"{path.name} does not have the tables of its revision")
            for name, figures in manifest.tables.items():
                _read_table(connection, tables[name], archive, figures)
                _restart_keys(connection, tables[name])
    except (zipfile.BadZipFile, KeyError, ValueError, EOFError) as error:
        raise BackupError(f"{path.name} is damaged; nothing of it was restored") from error
    schema.upgrade(engine)
    return manifest


def _check_empty(engine: Engine) -> None:
    with engine.connect() as connection:
        for table in _tables(connection):
            if connection.execute(select(func.count()).select_from(table)).scalar_one():
                raise BackupError(
                    f"the database is not empty (its table {table.name} has rows): restore into a "
                    "new one, or put the SQLite file out of the way"
                )


def _tables(connection: Connection) -> list[Table]:
    """Give the tables as the database has them, whatever its revision."""
    metadata = MetaData()
    metadata.reflect(connection)
    for table in metadata.sorted_tables:
        for column in table.columns:
            if isinstance(column.type, JSON):
                # What was no value is to be none again, not the value null of JSON.
                column.type.none_as_null = True
    return [table for table in metadata.sorted_tables if table.name != _VERSION_TABLE]


def _snapshot(engine: Engine) -> Connection:
    if engine.dialect.name == "postgresql":
        return engine.connect().execution_options(isolation_level="REPEATABLE READ")
    return engine.connect().execution_options(read_only=True)


def _write_table(connection: Connection, table: Table, archive: zipfile.ZipFile) -> TableFigures:
    digest, rows = hashlib.sha256(), 0
    query = select(table).order_by(*table.primary_key)
    with archive.open(f"{table.name}.jsonl", "w", force_zip64=True) as file:
        for row in connection.execution_options(yield_per=_ROWS_AT_ONCE).execute(query).mappings():
            line = json.dumps({name: _plain(value) for name, value in row.items()}).encode() + b"\n"
            file.write(line)
            digest.update(line)
            rows += 1
    return TableFigures(rows, digest.hexdigest())


def _read_table(
    connection: Connection, table: Table, archive: zipfile.ZipFile, figures: TableFigures
) -> None:
    digest, rows = hashlib.sha256(), 0
    for chunk in _chunks(archive, f"{table.name}.jsonl"):
        for line in chunk:
            digest.update(line)
        rows += len(chunk)
        values = [_typed(table, json.loads(line)) for line in chunk]
        connection.execute(insert(table), values)
    if TableFigures(rows, digest.hexdigest()) != figures:
        raise ValueError(f"table {table.name} is not what the manifest says")


def _chunks(archive: zipfile.ZipFile, name: str) -> Iterator[list[bytes]]:
    with archive.open(name) as file:
        chunk: list[bytes] = []
        for line in file:
            chunk.append(line)
            if len(chunk) == _ROWS_AT_ONCE:
                yield chunk
                chunk = []
        if chunk:
            yield chunk


def _plain(value: Any) -> Any:  # noqa: ANN401 - columns of all types
    if isinstance(value, datetime):
        # SQLite keeps no zones: all of ours are UTC.
        moment = value if value.tzinfo else value.replace(tzinfo=UTC)
        return moment.astimezone(UTC).isoformat()
    return value


def _typed(table: Table, row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: datetime.fromisoformat(value)
        if value is not None and isinstance(table.c[name].type, DateTime)
        else value
        for name, value in row.items()
    }


def _restart_keys(connection: Connection, table: Table) -> None:
    """Let PostgreSQL count on after the keys that were restored."""
    (key, *more) = table.primary_key
    if connection.dialect.name != "postgresql" or more:
        return
    sequence = func.pg_get_serial_sequence(table.name, key.name)
    if connection.scalar(select(sequence)) is not None:
        highest = select(func.coalesce(func.max(key), 0) + 1).scalar_subquery()
        connection.execute(select(func.setval(sequence, highest, false())))
