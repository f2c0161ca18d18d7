"""Timing calls against one another: warm-up, then rounds in which every subject has a turn.

A subject is whatever the caller names one: here a model in a place. Interleaving makes a speed-up a ratio
of one run: whatever slows the machine for a while slows every subject of that round. Each call is timed by
itself; the first call of a turn is made and not timed, for it pays for the caches that another left behind.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Collection, Hashable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Generic, TypeVar

import torch

from kdbench.code.foreign import foreign
from kdbench.efficiency.protocol import SAMPLES_NEEDED, Protocol
from kdbench.efficiency.quiet import Quietness, Watch
from kdbench.efficiency.runtimes import restore
from kdbench.efficiency.turns import Tally, plan_turns
from kdbench.errors import UserError
from kdbench.shared_state import kept_settings

K = TypeVar("K", bound=Hashable)
Call = Callable[[], object]
Timer = Callable[[Call], float]

# Warm-up is over once the medians of two successive windows of calls agree this well.
_WINDOW = 5
_TOLERANCE = 0.05
_TIMED = "a model that is timed"


@dataclass(frozen=True)
class Turn(Generic[K]):
    """What one subject did in one round: the milliseconds of each call."""

    subject: K
    round: int
    ms: list[float]


@dataclass
class Timing(Generic[K]):
    """The turns of subjects that were timed together, why one failed, and how quiet the machine was."""

    turns: list[Turn[K]] = field(default_factory=list)
    failures: dict[K, str] = field(default_factory=dict)
    quietness: Quietness | None = None


def time_calls(
    makers: Mapping[K, Callable[[], Call]],
    *,
    timer: Timer,
    protocol: Protocol,
    references: Collection[K] = (),
    on_warm_up: Callable[[K], None] = lambda subject: None,
    on_turn: Callable[[K, int, int], None] = lambda subject, round_, rounds: None,
) -> Timing[K]:
    """Make and warm up the call of every subject, then time the calls, interleaved.

    A subject whose making or call raises is left out, with its reason in ``failures``, and the others go on.
    ``on_turn`` is told the subject, the round (from 0) and how many rounds are planned.
    """
    failures: dict[K, str] = {}
    calls: dict[K, Call] = {}
    expected_ms: dict[K, float] = {}
    for subject, make in makers.items():
        on_warm_up(subject)
        try:
            with kept_settings(), foreign(_TIMED):
                call = make()
                with torch.inference_mode():
                    ms = warm_up(call, timer, protocol)
        except Exception as error:
            failures[subject] = failure(error)
            continue
        if ms * SAMPLES_NEEDED[50] > 1000 * protocol.max_seconds:
            failures[subject] = (
                f"one call takes {ms / 1000:.3g} s: {SAMPLES_NEEDED[50]} samples do not fit "
                f"into max_seconds = {protocol.max_seconds:g}"
            )
            continue
        calls[subject], expected_ms[subject] = call, ms
    watch = Watch()
    with torch.inference_mode():
        timing = interleave(
            calls, expected_ms, timer, protocol, references, on_turn=on_turn, on_round=watch.loop
        )
    return Timing(timing.turns, failures | timing.failures, watch.quietness())


def warm_up(call: Call, timer: Timer, protocol: Protocol) -> float:
    """Call until the latency is stable; return the median of the last calls in milliseconds.

    Stable means ``warmup_calls`` calls and ``warmup_seconds``, and the medians of the last two windows of
    five calls within 5 %. A model that does not settle is taken as it is after ``max_seconds``, but never
    after one call, which pays for set-up.
    """
    latest: list[float] = []
    seconds = 0.0
    while True:
        restore(call)
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


def interleave(
    calls: Mapping[K, Call],
    expected_ms: Mapping[K, float],
    timer: Timer,
    protocol: Protocol,
    references: Collection[K] = (),
    *,
    on_turn: Callable[[K, int, int], None] = lambda subject, round_, rounds: None,
    on_round: Callable[[], None] = lambda: None,
) -> Timing[K]:
    """Time the calls in rounds until every subject has what the protocol asks for.

    In each of the planned rounds every subject has a turn. A subject that then lacks samples or seconds
    goes on in further rounds, with the references. A call that raises ends its subject, with the reason in
    ``failures``. The garbage collector waits meanwhile.
    """
    timing: Timing[K] = Timing()
    rounds, chunks = plan_turns(expected_ms, protocol)
    tallies = {subject: Tally(chunks[subject], rounds, protocol) for subject in calls}
    round_ = 0
    gc.collect()
    gc.disable()
    try:
        while True:
            running = [subject for subject in calls if subject not in timing.failures]
            lacking = [subject for subject in running if not tallies[subject].satisfied()]
            if not running or (round_ >= rounds and not lacking):
                return timing
            if round_ >= rounds:
                running = [subject for subject in running if subject in lacking or subject in references]
            on_round()
            for subject in _order(running, round_):
                on_turn(subject, round_, rounds)
                try:
                    with kept_settings(), foreign(_TIMED):
                        taken = _take_turn(calls[subject], tallies[subject], timer, round_)
                    timing.turns.append(Turn(subject, round_, taken))
                except Exception as error:
                    timing.failures[subject] = failure(error)
            round_ += 1
    finally:
        gc.enable()


def _order(subjects: list[K], round_: int) -> list[K]:
    """Return who has a turn after whom: who begins moves on by one, and every other cycle goes backwards.

    So nobody always comes after the same neighbour, whose leftovers in the caches it would pay for.
    """
    cycle, first = divmod(round_, len(subjects))
    order = subjects[first:] + subjects[:first]
    return order[::-1] if cycle % 2 else order


def _take_turn(call: Call, tally: Tally, timer: Timer, round_: int) -> list[float]:
    taken: list[float] = []
    if tally.spent(round_ + 1):
        return taken
    restore(call)
    timer(call)
    while len(taken) < tally.chunk and not tally.spent(round_ + 1):
        restore(call)
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
