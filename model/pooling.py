"""From a network's raw slice probabilities to one calibrated probability of a study."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from model.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Calibration:
    """The logit of a probability, times `slope`, plus `intercept`.

    With both it is Platt scaling, with the slope alone temperature scaling (by 1 / slope).
    """

    slope: float = 1.0
    intercept: float = 0.0

    @property
    def method(self) -> str:
        """``none``, ``temperature`` or ``platt``."""
        if self.intercept:
            return "platt"
        return "none" if self.slope == 1.0 else "temperature"

    def apply(self, probabilities: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return calibrated probabilities of the same shape."""
        clipped = np.clip(probabilities.astype(np.float64), 1e-7, 1 - 1e-7)
        logit = np.log(clipped / (1 - clipped))
        calibrated: NDArray[np.float64] = 1 / (1 + np.exp(-self.slope * logit - self.intercept))
        return calibrated


@dataclass(frozen=True, slots=True)
class Pooling:
    """A study's probability is the mean over the highest `top_share` of its screened slices.

    The disease shows in a part of the slices, so a mean over all dilutes it; a mean over few hangs
    on the network's errors. Which is worse is for validation data to say. At least one counts.
    """

    top_share: float = 0.2

    def __post_init__(self) -> None:
        if not 0 < self.top_share <= 1:
            raise ConfigError(f"top_share must lie in (0, 1], not {self.top_share}")

    def pool(self, probabilities: NDArray[np.float64]) -> float:
        """Return the probability of the study from those of its slices.

        Raises
        ------
        ValueError
            If there is no slice.
        """
        if not probabilities.size:
            raise ValueError("a study without screened slices has no probability")
        count = max(1, round(self.top_share * probabilities.size))
        return float(np.sort(probabilities)[-count:].mean())
