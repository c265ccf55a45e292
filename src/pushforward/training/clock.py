"""The time that is given to a whole fit, of which training is a part."""

from __future__ import annotations

import math
import time

_LEAST = 1e-3  # seconds of a training, when its time is over


class Clock:
    """Starts when it is made; some of its time may be kept for what follows a training.

    Args:
        seconds: for all of a fit, or None.
    """

    def __init__(self, seconds: float | None) -> None:
        self.seconds, self._began = seconds, time.perf_counter()

    @property
    def elapsed(self) -> float:
        """Seconds since it started."""
        return time.perf_counter() - self._began

    def until(self, kept: float = 0.0) -> float:
        """When the time is over but for the seconds kept, by `time.perf_counter`; infinite without a limit."""
        return math.inf if self.seconds is None else self._began + self.seconds - kept

    def left(self, kept: float = 0.0) -> float | None:
        """The seconds that are left but for those kept, a thousandth at least; None without a limit."""
        return None if self.seconds is None else max(self.seconds - self.elapsed - kept, _LEAST)
