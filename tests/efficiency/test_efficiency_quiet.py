"""Whether the machine is quiet: shares of the processor, the spread of a fixed loop, and the retry."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import psutil
import pytest

from kdbench.efficiency import quiet
from kdbench.efficiency.quiet import Quietness, Watch, probe, wait_for_quiet


def clocks(monkeypatch: pytest.MonkeyPatch, *readings: tuple[float, float, float]) -> None:
    """Let the machine be read as (wall, processor seconds of all, of this process), one after the other."""
    left: Iterator[tuple[float, float, float]] = iter(readings)
    monkeypatch.setattr(quiet, "_clocks", lambda: next(left))
    monkeypatch.setattr(psutil, "cpu_count", lambda: 4)


def test_the_share_of_others_is_what_this_process_did_not_use(monkeypatch: pytest.MonkeyPatch) -> None:
    # In 10 s four cores have 40 s; 14 were used, 8 of them by this process.
    clocks(monkeypatch, (100.0, 500.0, 20.0), (110.0, 514.0, 28.0))
    found = Watch().quietness()
    assert found == Quietness(seconds=10.0, others=0.15, spread=None)
    assert found.noise == "other processes used 15% of the processor time"


def test_a_stretch_too_short_for_the_systems_clock_tells_nothing_of_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clocks(monkeypatch, (0.0, 0.0, 0.0), (0.1, 0.4, 0.0))
    assert Watch().quietness() == Quietness(0.1, None, None)
    assert Quietness(0.1, None, None).noise is None


def test_own_time_that_the_system_rounds_up_is_not_negative(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks(monkeypatch, (0.0, 0.0, 0.0), (1.0, 1.0, 1.02))
    assert Watch().quietness().others == 0.0


def test_the_spread_is_the_interquartile_range_over_the_median(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks(monkeypatch, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    watch = Watch()
    watch.loops_ms += list(np.linspace(8.0, 12.0, 101))
    found = watch.quietness()
    assert found.spread == pytest.approx(2.0 / 10.0)
    assert found.noise == "a fixed piece of work varied by 20%"


def test_the_loop_is_real_work_and_is_noted() -> None:
    watch = Watch()
    watch.loop(times=5)
    assert len(watch.loops_ms) == 5
    assert min(watch.loops_ms) > 0
    found = probe(0.0)
    assert found.as_json().keys() == {"seconds", "others", "spread", "noise"}


@pytest.mark.parametrize(("shares", "pauses"), [([0.02], 0), ([0.5, 0.02], 1), ([0.5, 0.5, 0.5, 0.02], 2)])
def test_a_busy_machine_is_probed_up_to_three_times(
    shares: list[float], pauses: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = iter(shares)
    slept: list[float] = []
    monkeypatch.setattr(quiet, "probe", lambda seconds: Quietness(seconds, next(left), 0.01))
    monkeypatch.setattr(quiet.time, "sleep", slept.append)
    probes = wait_for_quiet(0.5)
    assert [found.others for found in probes] == shares[:3]
    assert slept == [2.0] * pauses
    assert (probes[-1].noise is None) == (shares[len(probes) - 1] == 0.02)


def test_the_clocks_count_busy_time_once(monkeypatch: pytest.MonkeyPatch) -> None:
    class Times:
        def _asdict(self) -> dict[str, float]:
            # 3 of the 10 s of users were those of guests; stolen time was taken by others.
            return {"user": 10.0, "system": 2.0, "idle": 70.0, "iowait": 5.0, "steal": 1.0, "guest": 3.0}

    monkeypatch.setattr(psutil, "cpu_times", Times)
    assert quiet._clocks()[1] == 10.0 + 2.0 + 1.0
