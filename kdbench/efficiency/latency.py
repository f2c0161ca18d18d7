"""Timing models against one another: warm-up, then rounds in which every model has a turn.

Interleaving makes a speed-up a ratio of one run: whatever slows the machine for a while slows every model
of that round. Each call is timed by itself; the first call after a change of model is made and not timed,
for it pays for the caches that the other model left behind.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from math import ceil
from statistics import median

import torch
from torch import Tensor, nn

from kdbench.efficiency.protocol import SAMPLES_NEEDED, Protocol
from kdbench.errors import UserError

Call = Callable[[], object]
Timer = Callable[[Call], float]
OnTurn = Callable[[str, int], None]

# Warm-up is over once the medians of two successive windows of calls agree this well.
_WINDOW = 5
_TOLERANCE = 0.05


@dataclass(frozen=True)
class Turn:
    """What one model did in one round: the milliseconds of each call."""

    model: str
    round: int
    ms: list[float]


@dataclass
class Timing:
    """The turns of one run on one device at one batch size, and why a model failed."""

    turns: list[Turn] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)


def time_models(
    models: Mapping[str, nn.Module],
    inputs: Tensor,
    *,
    protocol: Protocol,
    reference: str | None = None,
    on_warm_up: Callable[[str], None] = lambda label: None,
    on_turn: OnTurn = lambda label, round_: None,
) -> Timing:
    """Time a forward pass of ``inputs`` (B, ...) through every model, interleaved.

    The models are moved to the device of the inputs and left there, in evaluation mode; where the inputs
    have four dimensions, they and the weights are laid out channels_last. A model that raises is left out,
    with its reason in ``failures``, and the others go on.
    """
    if inputs.dim() == 4:
        inputs = inputs.contiguous(memory_format=torch.channels_last)
    timer = cuda_timer() if inputs.is_cuda else cpu_timer
    failures: dict[str, str] = {}
    calls: dict[str, Call] = {}
    expected_ms: dict[str, float] = {}
    for label, model in models.items():
        on_warm_up(label)
        try:
            call = _placed(model, inputs)
            with torch.inference_mode():
                ms = warm_up(call, timer, protocol)
        except Exception as error:
            failures[label] = failure(error)
            continue
        if ms * SAMPLES_NEEDED[50] > 1000 * protocol.max_seconds:
            failures[label] = (
                f"one call takes {ms / 1000:.3g} s: {SAMPLES_NEEDED[50]} samples do not fit "
                f"into max_seconds = {protocol.max_seconds:g}"
            )
            continue
        calls[label], expected_ms[label] = call, ms
    with torch.inference_mode():
        rounds = interleave(calls, expected_ms, timer, protocol, reference, on_turn)
    return Timing(rounds.turns, failures | rounds.failures)


def _placed(model: nn.Module, inputs: Tensor) -> Call:
    """Put a model where its inputs are, in their layout, and return its forward pass as a call."""
    model.to(inputs.device).eval()
    if inputs.dim() == 4:
        model.to(memory_format=torch.channels_last)
    return partial(model, inputs)


def warm_up(call: Call, timer: Timer, protocol: Protocol) -> float:
    """Call until the latency is stable; return the median of the last calls in milliseconds.

    Stable means ``warmup_calls`` calls and ``warmup_seconds``, and the medians of the last two windows of
    five calls within 5 %. A model that does not settle is taken as it is after ``max_seconds``, but never
    after one call, which pays for set-up.
    """
    latest: list[float] = []
    seconds = 0.0
    while True:
        latest.append(timer(call))
        seconds += latest[-1] / 1000
        enough = len(latest) >= protocol.warmup_calls and seconds >= protocol.warmup_seconds
        if (enough and _stable(latest)) or (len(latest) > 1 and seconds >= protocol.max_seconds):
            return median(latest[-_WINDOW:])


def _stable(latest: list[float]) -> bool:
    if len(latest) < 2 * _WINDOW:
        return False
    before, now = median(latest[-2 * _WINDOW : -_WINDOW]), median(latest[-_WINDOW:])
    return abs(now - before) <= _TOLERANCE * before


def chunk_size(expected_ms: float, protocol: Protocol) -> int:
    """Return the calls of one turn, so that the rounds together give the samples that the protocol wants."""
    most = 1000 * protocol.max_seconds / expected_ms
    wanted = max(protocol.min_samples, 1000 * protocol.min_seconds / expected_ms)
    if most >= SAMPLES_NEEDED[99]:
        wanted = max(wanted, SAMPLES_NEEDED[99])
    if wanted > most:
        return max(1, int(most / protocol.rounds))
    return ceil(wanted / protocol.rounds)


@dataclass
class _Tally:
    """How far one model has come."""

    chunk: int
    samples: int = 0
    seconds: float = 0.0

    def spent(self, protocol: Protocol, rounds_begun: int) -> bool:
        """Whether the time is used up that the rounds so far may take: an even share for each round."""
        share = min(1.0, rounds_begun / protocol.rounds)
        return self.seconds >= share * protocol.max_seconds

    def satisfied(self, protocol: Protocol) -> bool:
        """Whether samples and seconds are enough, or all the time is used up."""
        enough = self.samples >= self.chunk * protocol.rounds and self.seconds >= protocol.min_seconds
        return enough or self.spent(protocol, protocol.rounds)


def interleave(
    calls: Mapping[str, Call],
    expected_ms: Mapping[str, float],
    timer: Timer,
    protocol: Protocol,
    reference: str | None = None,
    on_turn: OnTurn = lambda label, round_: None,
) -> Timing:
    """Time the calls in rounds until every model has what the protocol asks for.

    In each of the protocol's rounds every model has a turn; who begins moves on by one. A model that then
    lacks samples or seconds goes on in further rounds, with the reference. A call that raises ends its model,
    with the reason in ``failures``. The garbage collector waits meanwhile.
    """
    timing = Timing()
    tallies = {label: _Tally(chunk_size(expected_ms[label], protocol)) for label in calls}
    round_ = 0
    gc.collect()
    gc.disable()
    try:
        while True:
            running = [label for label in calls if label not in timing.failures]
            lacking = [label for label in running if not tallies[label].satisfied(protocol)]
            if not running or (round_ >= protocol.rounds and not lacking):
                return timing
            if round_ >= protocol.rounds:
                running = [label for label in running if label in lacking or label == reference]
            first = round_ % len(running)
            for label in running[first:] + running[:first]:
                on_turn(label, round_)
                try:
                    taken = _take_turn(calls[label], tallies[label], timer, protocol, round_)
                    timing.turns.append(Turn(label, round_, taken))
                except Exception as error:
                    timing.failures[label] = failure(error)
            round_ += 1
    finally:
        gc.enable()


def _take_turn(call: Call, tally: _Tally, timer: Timer, protocol: Protocol, round_: int) -> list[float]:
    taken: list[float] = []
    if tally.spent(protocol, round_ + 1):
        return taken
    timer(call)
    while len(taken) < tally.chunk and not tally.spent(protocol, round_ + 1):
        taken.append(timer(call))
        tally.samples += 1
        tally.seconds += taken[-1] / 1000
    return taken


def cpu_timer(call: Call) -> float:
    """Run a call and return its wall-clock time in milliseconds."""
    start = time.perf_counter_ns()
    call()
    return (time.perf_counter_ns() - start) / 1e6


def cuda_timer() -> Timer:
    """Return a timer that gives the ms between two events around a call on the current CUDA stream."""
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)

    def timer(call: Call) -> float:
        start.record()
        call()
        end.record()
        end.synchronize()
        return start.elapsed_time(end)

    return timer


def failure(error: Exception) -> str:
    """Return the reason that stands in the place of a figure: the kind of error and its first line."""
    if isinstance(error, UserError):
        return str(error)
    return f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0]}"
