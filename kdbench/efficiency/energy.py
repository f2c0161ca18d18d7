"""Energy by counters of the hardware, over windows long enough for them; nothing is estimated."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from kdbench.errors import UserError

# RAPL and NVML count in steps of up to a tenth of a second.
WINDOW_SECONDS = 2.0

Joules = Callable[[], float]
_POWERCAP = Path("/sys/class/powercap")


class Rapl:
    """The energy of the processor packages by Intel's and AMD's RAPL, as Linux exports it.

    Called, it returns the joules since it was made, of all packages together. A counter that begins anew at
    its end is followed as long as it does so at most once between two calls.
    """

    def __init__(self, root: Path = _POWERCAP) -> None:
        """Open the counters; raises UserError where there are none, or only the superuser may read them."""
        # Zones with two colons are parts of a package and already counted in it.
        zones = sorted(zone for zone in root.glob("intel-rapl:*") if zone.name.count(":") == 1)
        self._zones = [zone for zone in zones if _text(zone / "name").startswith("package")]
        if not self._zones:
            raise UserError(f"this machine has no RAPL energy counter ({root})")
        try:
            self._ends = [int(_text(zone / "max_energy_range_uj")) for zone in self._zones]
            self._last = self._read()
        except PermissionError:
            raise UserError(
                f"the RAPL energy counter may not be read: chmod a+r {self._zones[0]}/energy_uj as root"
            ) from None
        self._joules = 0.0

    def __call__(self) -> float:
        """Return the joules since the counter was opened."""
        now = self._read()
        for last, new, end in zip(self._last, now, self._ends, strict=True):
            self._joules += (new - last if new >= last else new + end - last) / 1e6
        self._last = now
        return self._joules

    def _read(self) -> list[int]:
        return [int(_text(zone / "energy_uj")) for zone in self._zones]


def joules_per_example(
    call: Callable[[], object],
    batch: int,
    counter: Joules,
    *,
    finish: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Return the energy of one example: the counter's difference over calls of ``batch`` examples each.

    The calls go on for at least two seconds. ``finish`` waits for a device that works on its own. The energy
    is that of the whole package or GPU, idle power and other processes included. Raises UserError where
    the counter did not move.
    """
    call()
    finish()
    calls, begun, before = 0, clock(), counter()
    while clock() - begun < WINDOW_SECONDS:
        call()
        # Calls that are only queued would fill the queue long beyond the window.
        finish()
        calls += 1
    used = counter() - before
    if used <= 0:
        raise UserError(f"the energy counter did not move in {WINDOW_SECONDS:g} s")
    return used / (calls * batch)


def _text(path: Path) -> str:
    return path.read_text().strip()
