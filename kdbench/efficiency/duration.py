"""How long measuring takes at least, which the protocol says in closed form."""

from __future__ import annotations

from collections.abc import Iterable

from kdbench.efficiency.energy import WINDOW_SECONDS
from kdbench.efficiency.protocol import Protocol
from kdbench.efficiency.turns import samples_wanted


def least_timing_seconds(protocol: Protocol, latencies_ms: Iterable[float]) -> float:
    """Return how long it takes to time models of these latencies: one for each model in each place.

    The sum over them, with t the latency in seconds, of the warm-up max(warmup_seconds, warmup_calls·t), of
    one call in each of the rounds that is not timed, and of the timed calls
    min(max_seconds, max(min_seconds, min_samples·t)), or 662·t, which a p99 needs, where that is longer
    and fits into max_seconds. A latency of 0 stands for a model that is faster than anything.
    """
    return sum(_of_one(protocol, ms) for ms in latencies_ms)


def _of_one(protocol: Protocol, ms: float) -> float:
    seconds = ms / 1000
    timed = samples_wanted(ms, protocol) * seconds if ms else protocol.min_seconds
    warm_up = max(protocol.warmup_seconds, protocol.warmup_calls * seconds)
    return warm_up + timed + protocol.rounds * seconds


def least_further_seconds(protocol: Protocol, models: int, devices: int, start_seconds: float) -> float:
    """Return how long the rest of a measurement takes, whose processes need so long to start.

    That is one process for all models, and one for each model, device and batch size if memory is measured;
    two seconds for each of these for energy; and the probe whether the machine is quiet.
    """
    cells = models * devices * len(protocol.batch_sizes)
    processes = 1 + (cells if protocol.dimensions.memory else 0)
    windows = cells if protocol.dimensions.energy else 0
    probe = protocol.probe_seconds if devices else 0.0
    return processes * start_seconds + windows * WINDOW_SECONDS + probe
