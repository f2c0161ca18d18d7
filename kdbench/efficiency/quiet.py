"""Is the machine quiet? What other processes use of it, and how evenly a fixed piece of work runs."""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import dataclass, field
from typing import Any

import psutil

from kdbench.efficiency.rounds import spread

# Beyond these a timing is noisy: the share of all cores that others use, and the spread of the loop.
MOST_OTHERS = 0.10
MOST_SPREAD = 0.10

_WORK = bytes(1 << 17)
_ATTEMPTS = 3
# Between two probes the machine is given this many times the length of a probe to come to rest.
_PAUSE = 4
# The system counts processor time in hundredths of a second; a share of less than this means nothing.
_LEAST_SECONDS = 0.2


@dataclass(frozen=True)
class Quietness:
    """What disturbed a stretch of time; a quantity that could not be told is None.

    ``others`` is the share of all logical cores that was used by other processes, or taken by other virtual
    machines; ``spread`` the interquartile range of the calibration loop's times over their median.
    """

    seconds: float
    others: float | None
    spread: float | None

    @property
    def noise(self) -> str | None:
        """What is too much, in words; None for a quiet machine."""
        disturbances = []
        if self.others is not None and self.others > MOST_OTHERS:
            disturbances.append(f"other processes used {self.others:.0%} of the processor time")
        if self.spread is not None and self.spread > MOST_SPREAD:
            disturbances.append(f"a fixed piece of work varied by {self.spread:.0%}")
        return " and ".join(disturbances) or None

    def as_json(self) -> dict[str, Any]:
        """Return the figures and what is said of them."""
        return {"seconds": self.seconds, "others": self.others, "spread": self.spread, "noise": self.noise}


@dataclass
class Watch:
    """Watches a stretch of time in which this process measures, from its making to ``quietness``."""

    loops_ms: list[float] = field(default_factory=list)
    _started: tuple[float, float, float] = field(default_factory=lambda: _clocks())

    def loop(self, times: int = 3) -> None:
        """Run the calibration loop, a hash of 128 KiB, and note how long each run took."""
        for _ in range(times):
            start = time.perf_counter_ns()
            hashlib.sha256(_WORK).digest()
            self.loops_ms.append((time.perf_counter_ns() - start) / 1e6)

    def quietness(self) -> Quietness:
        """Return what happened since the watch was made."""
        wall, busy, own = (now - then for now, then in zip(_clocks(), self._started, strict=True))
        cores = psutil.cpu_count() or 1
        others = min(1.0, max(0.0, busy - own) / (wall * cores)) if wall >= _LEAST_SECONDS else None
        loops = round(spread(self.loops_ms), 4) if self.loops_ms else None
        return Quietness(round(wall, 3), None if others is None else round(others, 4), loops)


def probe(seconds: float) -> Quietness:
    """Watch the machine for a while in which this process only runs the calibration loop."""
    watch = Watch()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        watch.loop()
    return watch.quietness()


def wait_for_quiet(seconds: float) -> list[Quietness]:
    """Probe up to three times, with pauses, until the machine is quiet; return every probe, the last last."""
    probes: list[Quietness] = []
    while True:
        probes.append(probe(seconds))
        if probes[-1].noise is None or len(probes) == _ATTEMPTS:
            return probes
        time.sleep(_PAUSE * seconds)


def _clocks() -> tuple[float, float, float]:
    """Return wall-clock seconds, processor seconds of the machine, and those of this process."""
    machine = psutil.cpu_times()._asdict()
    # Linux counts the time of guests in that of users as well.
    idle = sum(machine.get(name, 0.0) for name in ("idle", "iowait", "guest", "guest_nice"))
    own = os.times()
    used = own.user + own.system + own.children_user + own.children_system
    return time.monotonic(), sum(machine.values()) - idle, used
