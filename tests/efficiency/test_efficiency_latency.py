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
from torch import Tensor, nn

from kdbench.efficiency.latency import (
    chunk_size,
    cpu_timer,
    cuda_timer,
    failure,
    interleave,
    time_models,
    warm_up,
)
from kdbench.efficiency.protocol import Protocol
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

    def run(self, protocol: Protocol, expected: dict[str, float], reference: str | None = None, **more):
        return interleave(self.calls, expected, self.timer, protocol, reference, **more)


def protocol(**fields) -> Protocol:
    settings = {"min_samples": 22, "min_seconds": 0.0, "max_seconds": 1.0, "warmup_seconds": 0.0}
    return Protocol(**{**settings, **fields})


def test_every_round_gives_every_model_a_turn_and_the_first_call_of_a_turn_is_not_timed() -> None:
    bench = Bench(a=10.0, b=10.0, c=10.0)
    seen: list[tuple[str, int]] = []
    timing = bench.run(
        protocol(), dict.fromkeys("abc", 10.0), on_turn=lambda label, round_: seen.append((label, round_))
    )
    assert timing.failures == {}
    # Two timed calls and one before them that is not; who begins moves on by one.
    assert bench.log[:18] == [*"aaabbbccc", *"bbbcccaaa"]
    assert bench.log[18:27] == [*"cccaaabbb"]
    assert Counter(bench.log) == dict.fromkeys("abc", 11 * 3)
    assert [(turn.model, turn.round) for turn in timing.turns] == seen
    assert all(turn.ms == [10.0, 10.0] for turn in timing.turns)
    assert Counter(turn.round for turn in timing.turns) == dict.fromkeys(range(11), 3)


def test_a_model_that_was_faster_than_expected_goes_on_with_the_reference() -> None:
    # Expected 10 ms, taking 1 ms: 2 calls a turn need 20 rounds for the 40 ms that are asked for.
    bench = Bench(reference=10.0, other=10.0, quick=1.0)
    timing = bench.run(
        protocol(min_seconds=0.04), dict.fromkeys(("reference", "other", "quick"), 10.0), "reference"
    )
    rounds = {label: [turn.round for turn in timing.turns if turn.model == label] for label in bench.sources}
    assert rounds["other"] == list(range(11))
    assert rounds["quick"] == rounds["reference"] == list(range(20))


def test_a_model_never_takes_more_than_its_share_of_the_time() -> None:
    # Expected 10 ms, taking 125 ms: a second holds eight calls, which must not all fall in the first rounds.
    bench = Bench(slow=125.0, fine=10.0)
    timing = bench.run(protocol(), {"slow": 10.0, "fine": 10.0})
    slow = {turn.round: len(turn.ms) for turn in timing.turns if turn.model == "slow"}
    assert [round_ for round_, count in slow.items() if count] == [0, 1, 2, 4, 5, 6, 8, 9]
    assert sum(slow.values()) == 8
    assert sum(len(turn.ms) for turn in timing.turns if turn.model == "fine") == 22


def test_a_call_that_raises_ends_its_model_and_no_other() -> None:
    bench = Bench(a=10.0, b=[10.0] * 7)
    timing = bench.run(protocol(), {"a": 10.0, "b": 10.0})
    assert timing.failures == {"b": "StopIteration: no message"}
    assert sum(len(turn.ms) for turn in timing.turns if turn.model == "a") == 22
    assert sum(len(turn.ms) for turn in timing.turns if turn.model == "b") == 4


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
    rounds=st.integers(11, 30),
)
def test_the_turns_together_give_the_samples_that_fit(
    ms: float, samples: int, seconds: float, most: float, rounds: int
) -> None:
    settings = protocol(min_samples=samples, min_seconds=seconds, max_seconds=most, rounds=rounds)
    chunk = chunk_size(ms, settings)
    total = chunk * rounds
    fits = 1000 * most / ms
    assert chunk >= 1
    if samples <= fits:
        assert total >= min(samples, fits - rounds)
        assert total * ms / 1000 >= seconds * 0.999 or total >= fits - rounds
    if fits >= max(662, samples):
        assert total >= 662
    if chunk > 1:
        assert total <= max(fits, samples + rounds, 662 + rounds, 1000 * seconds / ms + rounds)


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


class Layer(nn.Module):
    """Notes how it is called."""

    def __init__(self, *, fails_after: int | None = None) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(2, 2, 1)
        self.fails_after = fails_after
        self.seen: list[tuple[bool, bool, bool, bool]] = []

    def forward(self, images: Tensor) -> Tensor:
        if self.fails_after is not None and len(self.seen) >= self.fails_after:
            raise RuntimeError("out of luck\nand more")
        self.seen.append(
            (
                self.training,
                torch.is_inference_mode_enabled(),
                images.is_contiguous(memory_format=torch.channels_last),
                self.convolution.weight.is_contiguous(memory_format=torch.channels_last),
            )
        )
        return self.convolution(images)


def test_models_run_in_evaluation_and_inference_mode_and_channels_last() -> None:
    models = {"good": Layer(), "never": Layer(fails_after=0), "later": Layer(fails_after=40)}
    warmed: list[str] = []
    timing = time_models(models, torch.zeros(3, 2, 4, 4), protocol=protocol(), on_warm_up=warmed.append)
    assert set(models["good"].seen) == {(False, True, True, True)}
    assert warmed == ["good", "never", "later"]
    assert timing.failures["never"] == "RuntimeError: out of luck"
    assert {turn.model for turn in timing.turns} <= {"good", "later"}
    samples = [ms for turn in timing.turns if turn.model == "good" for ms in turn.ms]
    assert len(samples) >= 22
    assert min(samples) > 0
    # A model that was timed can still be trained: its weights are no inference tensors.
    models["good"].convolution(torch.zeros(1, 2, 4, 4)).sum().backward()


def test_a_model_too_slow_for_eleven_samples_is_not_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kdbench.efficiency.latency.cpu_timer", lambda call: (call(), 100.0)[1])
    timing = time_models({"slow": nn.Identity()}, torch.zeros(1, 3), protocol=protocol())
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


def test_a_protocol_survives_json() -> None:
    settings = Protocol(batch_sizes=(1, 8), devices=("cpu",), threads=2)
    assert Protocol.from_json(settings.as_json()) == settings
