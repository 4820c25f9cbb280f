"""What is asked of a retraining; it round-trips through JSON, for the training queue."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.errors import ConfigError, RegistryError
from model.registry import require_name

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class RetrainingRequest:
    """Data, run folder and settings of a retraining; None: as the version in use was trained.

    Attributes
    ----------
    out
        Run folder, absolute.
    base
        Manifest of the data that the reviewed studies are added to, absolute; empty: none.
    config
        JSON with training settings instead of those of the version in use; its network is always
        that version's. Absolute; empty: none.
    version
        Version of the candidate; empty: the next free one.
    epochs, patience, learning_rate, steps_per_epoch
        Of the training.
    reviewed_share
        Share of each epoch drawn from reviewed studies, where the settings draw by shares.
    slices_per_study
        Most slices of a reviewed study.
    """

    out: str
    base: str = ""
    config: str = ""
    version: str = ""
    epochs: int | None = None
    patience: int | None = None
    learning_rate: float | None = None
    steps_per_epoch: int | None = None
    reviewed_share: float = 0.25
    slices_per_study: int = 64

    def __post_init__(self) -> None:
        if self.version:
            try:
                require_name("version", self.version)
            except RegistryError as error:
                raise ConfigError(str(error)) from error
        if not Path(self.out).is_absolute():
            raise ConfigError(f"run folder {self.out}: give its absolute path")
        if not 0 < self.reviewed_share < 1:
            raise ConfigError(f"reviewed share must lie between 0 and 1, not {self.reviewed_share}")

    @property
    def folder(self) -> Path:
        """The run folder."""
        return Path(self.out)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON types."""
        return asdict(self)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> RetrainingRequest:
        """Read what `to_json` gave.

        Raises
        ------
        ConfigError
            If it is something else.
        """
        try:
            return cls(**stored)
        except TypeError as error:
            raise ConfigError(f"retraining: {error}: {json.dumps(dict(stored))}") from error
