"""Bootstrap intervals that resample whole patients, all repeats at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from model.evaluation.metrics import Statistic

REPEATS = 1000
LEVEL = 0.95
# Fewer clusters than this say too little of how others would differ.
FEWEST_CLUSTERS = 6
# Fewer resampled sets than this that hold both classes give no percentiles worth telling.
FEWEST_SETS = 100
_CHUNK = 2_000_000


class Resampler:
    """Draws patients with replacement; what is drawn counts by how often it was.

    Parameters
    ----------
    clusters
        Patient of each image: images of one patient are not independent.
    repeats, seed
        Number of resampled sets, and the seed they are drawn with: the same data give the same
        intervals.
    """

    def __init__(
        self, clusters: NDArray[np.generic], *, repeats: int = REPEATS, seed: int = 0
    ) -> None:
        names, self._membership = np.unique(clusters, return_inverse=True)
        generator = np.random.default_rng(seed)
        shares = np.full(names.size, 1 / max(names.size, 1))
        self._counts = generator.multinomial(names.size, shares, repeats).astype(np.float32)
        self._clusters = names.size

    def interval(self, statistic: Statistic) -> tuple[float, float] | None:
        """Return the percentile interval, or None where there is too little to resample.

        Parameters
        ----------
        statistic
            Takes weights of shape (sets, images), gives (sets,) values; NaN for a set it cannot
            judge, such as one without a class: such sets are left out.
        """
        if self._clusters < FEWEST_CLUSTERS:
            return None
        step = max(1, _CHUNK // self._membership.size)
        parts = [
            statistic(self._counts[start : start + step, self._membership].astype(np.float64))
            for start in range(0, len(self._counts), step)
        ]
        values = np.concatenate(parts)
        values = values[np.isfinite(values)]
        if values.size < FEWEST_SETS:
            return None
        low, high = np.percentile(values, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
        return float(low), float(high)

    def measure(self, statistic: Statistic) -> tuple[float, tuple[float, float] | None]:
        """Return the statistic of the images as they are, and its interval."""
        value = statistic(np.ones((1, self._membership.size)))
        return float(value[0]), self.interval(statistic)
