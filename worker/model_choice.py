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
    """Return a version of the database as it lies on disk, None if it does not."""
    return registry.find(ModelVersion(row.name, row.version, row.sha256))
