"""Which model version an installation screens with: this is the one place that decides it.

1. A version named by ``LUNGWATCH_MODEL`` is pinned: nothing else counts, promotions are refused.
2. Otherwise it is the version that was promoted last and not rolled back.
3. Before the first promotion it is the newest one shipped with the package. A further version in
   the installation's own folder must not come into use by lying there.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from model.errors import ModelIntegrityError, RegistryError
from model.prediction import ModelVersion
from worker.db import model_versions
from worker.lifecycle import ModelState

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from model.registry import Registry, RegistryEntry
    from worker.db.tables import ModelVersionRow


class Origin(StrEnum):
    """Why a version is in use."""

    PINNED = "pinned"
    PROMOTED = "promoted"
    SHIPPED = "shipped"


@dataclass(frozen=True, slots=True)
class Choice:
    """The version in use.

    Attributes
    ----------
    entry
        The version.
    origin
        Why it is this one.
    generation
        Number of the latest promotion or rollback it was chosen after, 0 before the first.
    """

    entry: RegistryEntry
    origin: Origin
    generation: int = 0


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a version stands; without `entry` the database knows it, but no folder holds it."""

    title: str
    sha256: str
    state: ModelState
    entry: RegistryEntry | None
    registered: bool


def choose(registry: Registry, pin: str | None, session: Session | None) -> Choice:
    """Decide which version to screen with.

    Parameters
    ----------
    registry
        The versions on disk.
    pin
        Value of ``LUNGWATCH_MODEL``.
    session
        The database that holds the promotions, None where there is none yet.

    Raises
    ------
    RegistryError
        If the version is not on disk.
    ModelIntegrityError
        If its manifest is not the one that was promoted.
    """
    if pin is not None:
        return Choice(registry.get(pin), Origin.PINNED)
    row = model_versions.current(session) if session is not None else None
    if session is None or row is None:
        return Choice(registry.newest_shipped(), Origin.SHIPPED)
    entry = installed(registry, row)
    if entry is None:
        raise RegistryError(
            f"{row.name}-{row.version} (sha256 {row.sha256[:12]}) was promoted, but no model "
            "folder holds it: put its folder back into LUNGWATCH_MODEL_DIR, or run `lungwatch "
            "model rollback`"
        )
    if row.manifest_sha256 not in {None, entry.manifest_sha256}:
        raise ModelIntegrityError(
            f"{entry.title}: {entry.folder} has another manifest than the one that was promoted; "
            "install the version again, or run `lungwatch model rollback`"
        )
    return Choice(entry, Origin.PROMOTED, model_versions.generation(session))


def installed(registry: Registry, row: ModelVersionRow) -> RegistryEntry | None:
    """Return a version of the database as it lies on disk, None if it does not.

    Of several folders that hold it the one with the manifest that was registered counts.
    """
    return registry.find(ModelVersion(row.name, row.version, row.sha256), row.manifest_sha256)


def standings(registry: Registry, session: Session | None) -> list[Standing]:
    """List every version on disk or in the database, and where it stands.

    Parameters
    ----------
    registry
        The versions on disk.
    session
        The database, None where there is none: then the newest shipped version is current.
    """
    entries = registry.list()
    rows = list(model_versions.every(session)) if session is not None else []
    states = model_versions.states(session) if session is not None else {}
    if ModelState.CURRENT not in states.values():
        in_use = choose(registry, None, None).entry
    else:
        in_use = None
    placed = {entry.folder: row for row in rows if (entry := installed(registry, row))}
    listed = []
    for entry in entries:
        row = placed.get(entry.folder)
        state = states[row.id] if row else ModelState.CANDIDATE
        if in_use is not None and entry == in_use:
            state = ModelState.CURRENT
        registered = row is not None and row.registered_at is not None
        listed.append(Standing(entry.title, entry.manifest.sha256, state, entry, registered))
    listed += [
        Standing(f"{row.name}-{row.version}", row.sha256, states[row.id], None, registered=True)
        for row in rows
        if row not in placed.values()
    ]
    return listed
