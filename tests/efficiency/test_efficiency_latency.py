"""The timing protocol on a fake clock: who is called when, how often, and when it stops."""

from __future__ import annotations

import gc
import itertools
from collections import Counter
from collections.abc import Iterable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kdbench.efficiency.latency import (
    cpu_timer,
    cuda_timer,
    failure,
    interleave,
    time_calls,
    warm_up,
)
from kdbench.efficiency.places import Dimensions
from kdbench.efficiency.protocol import Protocol
from kdbench.efficiency.turns import plan_turns
from kdbench.errors import UserError


class Bench:
    """Models that only write down that they were called, and a timer that says how long it took."""

    def __init__(self, **ms: float | Iterable[float]) -> None:
        self.log: list[str] = []
        self.sources = {
            label: itertools.repeat(value) if isinstance(value, float) else iter(value)
            for label, value in ms.items()
        }

    @property
    def calls(self):
        return {label: lambda label=label: self.log.append(label) for label in self.sources}

    def timer(self, call) -> float:
        call()
        return next(self.sources[self.log[-1]])

    def run(self, protocol: Protocol, expected: dict[str, float], reference: str = "", **more):
        return interleave(self.calls, expected, self.timer, protocol, [reference], **more)


def protocol(**fields) -> Protocol:
    settings = {"min_samples": 22, "min_seconds": 0.0, "max_seconds": 1.0, "warmup_seconds": 0.0}
    return Protocol(**{**settings, **fields})


def test_every_round_gives_every_model_a_turn_and_the_first_call_of_a_turn_is_not_timed() -> None:
    bench = Bench(a=10.0, b=10.0, c=10.0)
    seen: list[tuple[str, int]] = []
    timing = bench.run(
        protocol(),
        dict.fromkeys("abc", 10.0),
        on_turn=lambda label, round_, rounds: seen.append((label, round_)),
    )
    assert timing.failures == {}
    # Two timed calls and one before them that is not; who begins moves on by one.
    assert bench.log[:18] == [*"aaabbbccc", *"bbbcccaaa"]
    assert bench.log[18:27] == [*"cccaaabbb"]
    # Then the same backwards, so that nobody has always the same neighbour before it.
    assert bench.log[27:36] == [*"cccbbbaaa"]
    assert Counter(bench.log) == dict.fromkeys("abc", 11 * 3)
    assert [(turn.subject, turn.round) for turn in timing.turns] == seen
    assert all(turn.ms == [10.0, 10.0] for turn in timing.turns)
    assert Counter(turn.round for turn in timing.turns) == dict.fromkeys(range(11), 3)


def test_a_model_that_was_faster_than_expected_goes_on_with_the_reference() -> None:
    # Expected 10 ms, taking 1 ms: 2 calls a turn need 20 rounds for the 40 ms that are asked for.
    bench = Bench(reference=10.0, other=10.0, quick=1.0)
    timing = bench.run(
        protocol(min_seconds=0.04), dict.fromkeys(("reference", "other", "quick"), 10.0), "reference"
    )
    rounds = {
        label: [turn.round for turn in timing.turns if turn.subject == label] for label in bench.sources
    }
    assert rounds["other"] == list(range(11))
    assert rounds["quick"] == rounds["reference"] == list(range(20))


def test_a_model_never_takes_more_than_its_share_of_the_time() -> None:
    # Expected 10 ms, taking 125 ms: a second holds eight calls, which must not all fall in the first rounds.
    bench = Bench(slow=125.0, fine=10.0)
    timing = bench.run(protocol(), {"slow": 10.0, "fine": 10.0})
    slow = {turn.round: len(turn.ms) for turn in timing.turns if turn.subject == "slow"}
    assert [round_ for round_, count in slow.items() if count] == [0, 1, 2, 4, 5, 6, 8, 9]
    assert sum(slow.values()) == 8
    assert sum(len(turn.ms) for turn in timing.turns if turn.subject == "fine") == 22


def test_a_call_that_raises_ends_its_model_and_no_other() -> None:
    bench = Bench(a=10.0, b=[10.0] * 7)
    timing = bench.run(protocol(), {"a": 10.0, "b": 10.0})
    assert timing.failures == {"b": "StopIteration: no message"}
    assert sum(len(turn.ms) for turn in timing.turns if turn.subject == "a") == 22
    assert sum(len(turn.ms) for turn in timing.turns if turn.subject == "b") == 4


def test_a_model_that_ends_the_process_ends_no_other_one() -> None:
    def ends() -> None:
        raise SystemExit(0)

    timing = time_calls(
        {"a": lambda: ends, "b": lambda: lambda: None},
        timer=lambda call: (call(), 1.0)[1],
        protocol=protocol(),
    )
    assert (
        list(timing.failures) == ["a"]
        and "SystemExit(0) in test_efficiency_latency.py" in timing.failures["a"]
    )
    assert {turn.subject for turn in timing.turns} == {"b"}


def test_the_garbage_collector_waits_and_comes_back() -> None:
    states: list[bool] = []
    interleave(
        {"a": lambda: states.append(gc.isenabled())}, {"a": 10.0}, lambda c: (c(), 10.0)[1], protocol()
    )
    assert set(states) == {False}
    assert gc.isenabled()


def test_no_model_no_turn() -> None:
    assert interleave({}, {}, cpu_timer, protocol()).turns == []


@given(
    ms=st.floats(1e-3, 1e5),
    samples=st.integers(11, 2000),
    seconds=st.floats(0, 5),
    most=st.floats(5.1, 60),
    least=st.integers(11, 30),
)
def test_the_turns_together_give_the_samples_that_fit(
    ms: float, samples: int, seconds: float, most: float, least: int
) -> None:
    settings = protocol(min_samples=samples, min_seconds=seconds, max_seconds=most, rounds=least)
    rounds, chunks = plan_turns({"model": ms}, settings)
    chunk = chunks["model"]
    total = chunk * rounds
    fits = 1000 * most / ms
    assert rounds >= least
    assert chunk >= 1
    if samples <= fits:
        assert total >= min(samples, fits - rounds)
        assert total * ms / 1000 >= seconds * 0.999 or total >= fits - rounds
    if fits >= max(662, samples):
        assert total >= 662
    if chunk > 1:
        assert total <= max(fits, samples + rounds, 662 + rounds, 1000 * seconds / ms + rounds)


def test_long_turns_are_made_shorter_and_more_but_not_so_short_that_the_untimed_call_counts() -> None:
    # 662 calls of 5 ms are 3.31 s: 11 turns of 300 ms, or 132 of 25.
    settings = protocol(max_seconds=20.0)
    assert plan_turns({"model": 5.0}, settings) == (132, {"model": 6})
    # Beside it a model of 500 ms is called 22 times: more than 11 rounds would have a timed call or two each.
    assert plan_turns({"model": 5.0, "slow": 500.0}, settings) == (11, {"model": 61, "slow": 2})
    assert plan_turns({}, settings) == (11, {})


def test_warm_up_ends_when_the_latency_is_stable() -> None:
    # Fifteen calls that fall by a tenth each time, then 2 ms: the figure must be of the plateau.
    falling = [20 * 0.9**step for step in range(15)]
    bench = Bench(model=itertools.chain(falling, itertools.repeat(2.0)))
    assert warm_up(bench.calls["model"], bench.timer, protocol()) == 2.0
    assert 15 + 8 <= len(bench.log) <= 15 + 10


def test_warm_up_makes_at_least_the_calls_and_seconds_of_the_protocol() -> None:
    bench = Bench(model=1.0)
    warm_up(bench.calls["model"], bench.timer, protocol(warmup_calls=30))
    assert len(bench.log) == 30
    bench = Bench(model=1.0)
    warm_up(bench.calls["model"], bench.timer, protocol(warmup_seconds=0.125))
    assert len(bench.log) == 125


def test_warm_up_gives_up_on_a_model_that_does_not_settle() -> None:
    # Windows of five alternate between 10 and 20 ms and never agree: 1 s holds 67 calls of 15 ms on average.
    bench = Bench(model=itertools.cycle([10.0] * 5 + [20.0] * 5 + [40.0] * 5))
    warm_up(bench.calls["model"], bench.timer, protocol(warmup_calls=15))
    assert len(bench.log) <= 60


def test_a_subject_that_cannot_be_made_or_called_is_left_out() -> None:
    calls: list[int] = []

    def later() -> None:
        calls.append(1)
        if len(calls) > 15:
            raise RuntimeError("out of luck\nand more")

    def never():
        raise UserError("cannot be had here")

    warmed: list[str] = []
    timing = time_calls(
        {"good": lambda: lambda: None, "never": never, "later": lambda: later},
        timer=lambda call: (call(), 10.0)[1],
        protocol=protocol(),
        on_warm_up=warmed.append,
    )
    assert warmed == ["good", "never", "later"]
    assert timing.failures == {"never": "cannot be had here", "later": "RuntimeError: out of luck"}
    assert sum(len(turn.ms) for turn in timing.turns if turn.subject == "good") == 22
    assert timing.quietness is not None
    assert timing.quietness.spread is not None


def test_a_model_too_slow_for_eleven_samples_is_not_timed() -> None:
    timing = time_calls({"slow": lambda: list}, timer=lambda call: (call(), 100.0)[1], protocol=protocol())
    assert timing.turns == []
    assert timing.failures == {"slow": "one call takes 0.1 s: 11 samples do not fit into max_seconds = 1"}


def test_the_timer_measures_the_call_by_its_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([5_000_000, 12_500_000])
    monkeypatch.setattr("kdbench.efficiency.latency.time.perf_counter_ns", lambda: next(ticks))
    called: list[bool] = []
    assert cpu_timer(lambda: called.append(True)) == 7.5
    assert called == [True]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_cuda_timer_waits_for_the_device() -> None:
    small, large = torch.ones(8, 8, device="cuda"), torch.ones(4096, 4096, device="cuda")
    timer = cuda_timer()
    for _ in range(3):
        timer(lambda: large @ large)
    # 512³ times the work: were only the launch timed, both would be alike.
    assert timer(lambda: large @ large) > timer(lambda: small @ small) > 0


def test_the_reason_of_a_failure_is_one_line() -> None:
    assert failure(UserError("unknown model 'x'.")) == "unknown model 'x'."
    assert failure(ValueError("first\nsecond")) == "ValueError: first"
    assert failure(KeyError()) == "KeyError: no message"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rounds": 5}, "rounds must be at least 11, not 5."),
        ({"min_samples": 3}, "min_samples must be at least 11, not 3."),
        ({"batch_sizes": ()}, "batch_sizes must be distinct and at least one, not []."),
        ({"batch_sizes": (1, 1)}, "batch_sizes must be distinct and at least one, not [1, 1]."),
        ({"batch_sizes": (0,)}, "batch_sizes must be at least 1, not 0."),
        ({"threads": 0}, "threads must be at least 1, not 0."),
        ({"devices": ("mps",)}, "unknown device 'mps'. Known: cpu, cuda."),
        ({"max_seconds": 0.1, "min_seconds": 0.5}, "max_seconds must exceed min_seconds (0.5), not 0.1."),
        ({"timeout_s": 0}, "timeout_s must be positive, not 0."),
    ],
)
def test_a_protocol_that_means_nothing_is_refused(fields: dict, message: str) -> None:
    with pytest.raises(UserError) as error:
        Protocol(**fields)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"runtimes": ("eager", "onyx")}, "unknown runtime 'onyx'. Did you mean 'onnx'?"),
        (
            {"runtimes": ("onnx",)},
            "runtimes must be distinct and have eager among them, which the others are compared with, "
            "not ['onnx'].",
        ),
        ({"precisions": ("fp32", "fp16")}, "unknown precision 'fp16'. Did you mean 'bf16'?"),
        ({"threads": (2, 2)}, "threads must be distinct and at least 1, not [2, 2]."),
    ],
)
def test_dimensions_that_mean_nothing_are_refused(fields: dict, message: str) -> None:
    with pytest.raises(UserError) as error:
        Dimensions(**fields)
    assert str(error.value) == message


def test_a_protocol_survives_json() -> None:
    further = Dimensions(("eager", "onnx"), ("fp32", "bf16"), (1,), memory=True)
    for settings in (
        Protocol(batch_sizes=(1, 8), devices=("cpu",), threads=2),
        Protocol(probe_seconds=0.0, dimensions=further),
    ):
        assert Protocol.from_json(settings.as_json()) == settings


def test_what_was_measured_before_is_found_under_the_same_settings() -> None:
    """The id of a measurement is a hash of these fields: a default must not add to them."""
    assert list(Protocol().as_json()) == [
        "batch_sizes",
        "devices",
        "min_samples",
        "min_seconds",
        "max_seconds",
        "warmup_calls",
        "warmup_seconds",
        "rounds",
        "threads",
        "timeout_s",
        "lock_timeout_s",
    ]
    assert "dimensions" in Protocol(dimensions=Dimensions(memory=True)).as_json()
