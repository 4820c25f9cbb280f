"""The small interface behind which a network runs, whatever library computes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, eq=False)
class EngineOutput:
    """What a network says of a batch.

    Attributes
    ----------
    covid_probability
        Array of (batch,), raw, before calibration.
    lesion_probability
        Array of (batch, input_size, input_size).
    """

    covid_probability: NDArray[np.float32]
    lesion_probability: NDArray[np.float32]


class Engine(Protocol):
    """Runs a loaded network on batches of one size."""

    @property
    def name(self) -> str:
        """Name that results are identified by, for instance ``keras``."""
        ...

    def run(self, images: NDArray[np.float32]) -> EngineOutput:
        """Run the network.

        Parameters
        ----------
        images
            Array of (batch, input_size, input_size), 0 to 1; the batch has the engine's size.
        """
        ...
