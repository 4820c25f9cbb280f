"""How far a run is, in one line with the time that is left."""

from __future__ import annotations

import time
from collections import deque

RECENT_STEPS = 50


class Progress:
    """Watches the steps of a run.

    Parameters
    ----------
    steps
        Steps of the whole run, if it is not stopped early.
    """

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self._moments: deque[float] = deque([time.monotonic()], maxlen=RECENT_STEPS)
        self._losses: deque[dict[str, float]] = deque(maxlen=RECENT_STEPS)

    def count(self, losses: dict[str, float]) -> None:
        """Note that a step with these losses is done."""
        self._moments.append(time.monotonic())
        self._losses.append(losses)

    def line(self, epoch: int, step: int) -> str:
        """Tell epoch, step, the recent means of the losses, and the time that is left at most."""
        means = {
            name: sum(losses[name] for losses in self._losses) / len(self._losses)
            for name in self._losses[-1]
        }
        seconds = (self._moments[-1] - self._moments[0]) / max(len(self._moments) - 1, 1)
        left = describe_seconds(seconds * (self.steps - step))
        return f"{describe({'epoch': epoch, 'step': step, **means})}  at most {left} left"


def describe(values: dict[str, float]) -> str:
    """Write names and values side by side."""
    return "  ".join(
        f"{name} {value:.4f}" if isinstance(value, float) else f"{name} {value}"
        for name, value in values.items()
    )


def describe_seconds(seconds: float) -> str:
    """Write a time as people say it.

    >>> describe_seconds(7500)
    '2 h 05 min'
    """
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"
