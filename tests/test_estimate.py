"""How long a plan is said to take: closed forms of protocol and steps, with a clock that is set by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from kdbench.data import load_entry
from kdbench.efficiency import Protocol
from kdbench.efficiency.duration import least_further_seconds, least_timing_seconds
from kdbench.efficiency.places import Dimensions
from kdbench.plan import make_plan
from kdbench.runner.estimate import Estimate, estimate
from kdbench.runner.phases import Phase, phases
from kdbench.runner.session import Session
from kdbench.suite import Suite

Load = Callable[..., Suite]


def test_timing_takes_at_least_models_times_places_times_what_the_protocol_asks_for() -> None:
    protocol = Protocol(batch_sizes=(1, 256), devices=("cpu",), min_seconds=0.5, warmup_seconds=0.2)
    assert least_timing_seconds(protocol, [0.0] * (6 * 2)) == pytest.approx(6 * 2 * (0.2 + 0.5))


@pytest.mark.parametrize(
    ("ms", "warm_up", "timed"),
    [
        (0.1, 0.2, 0.5),  # 5,000 calls in the least time
        (1.0, 0.2, 0.662),  # the calls of a p99 take longer than that, and fit
        (20.0, 0.2, 662 * 0.02),
        (100.0, 1.0, 100 * 0.1),  # 662 calls would take 66 s: the least number of calls
        (500.0, 5.0, 20.0),  # 100 calls would take 50 s: no more than max_seconds
    ],
)
def test_slower_models_take_as_long_as_their_calls(ms: float, warm_up: float, timed: float) -> None:
    rounds = Protocol().rounds
    expected = warm_up + timed + rounds * ms / 1000
    assert least_timing_seconds(Protocol(), [ms]) == pytest.approx(expected)


def test_memory_and_energy_take_a_process_and_a_window_for_each_model_device_and_batch_size() -> None:
    plain = Protocol(batch_sizes=(1, 8, 64), probe_seconds=0.25)
    assert least_further_seconds(plain, models=4, devices=1, start_seconds=3) == 3 + 0.25
    full = Protocol(
        batch_sizes=(1, 8, 64), probe_seconds=0.25, dimensions=Dimensions(memory=True, energy=True)
    )
    assert least_further_seconds(full, models=4, devices=2, start_seconds=3) == pytest.approx(
        (1 + 4 * 2 * 3) * 3 + 4 * 2 * 3 * 2.0 + 0.25
    )
    assert least_further_seconds(plain, models=4, devices=0, start_seconds=3) == 3


class Clock:
    """Every step takes 1 s, a teacher's pass 0.1 s, any other pass 0.01 s, whatever is called 5 s."""

    def step(self, entry: Any, batch: int) -> float:
        return 1.0

    def teach(self, entry: Any, batch: int) -> float:
        return 0.1

    def predict(self, entry: Any, batch: int) -> float:
        return 0.01

    def process_start(self) -> float:
        return 3.0

    def of(self, call: Callable[[], object], repeats: int = 3) -> float:
        call()
        return 5.0


def told(suite: Suite) -> dict[str, Phase]:
    session = Session(suite.dataset, load_entry(suite.dataset), torch.device("cpu"))
    found = phases(make_plan(suite), session, Clock())  # type: ignore[arg-type]
    return {phase.name: phase for phase in found}


# Of 300 images, 60 for validation: batches of 25 make 9.6 steps, 2.4 and, of 200 for testing, 8.
TRAIN, VALIDATION, TEST = 240 / 25, 60 / 25, 200 / 25
EVALUATION = (TRAIN + 2 * VALIDATION + 2 * TEST) * 0.01


def test_training_and_scoring_follow_from_the_steps(small_suite: Load) -> None:
    found = told(small_suite())
    assert list(found) == ["Training", "Scoring", "Measuring"]
    teacher = 4 * (TRAIN * 1.0 + VALIDATION * 0.01)
    cohort = 2 * (TRAIN * (0.1 + 4 * 1.0) + 4 * VALIDATION * 0.01)
    assert found["Training"].seconds == pytest.approx(teacher + 2 * cohort)
    assert found["Scoring"].seconds == pytest.approx((1 + 8) * (EVALUATION + 5.0))
    assert found["Measuring"].seconds == pytest.approx(3.0)  # nothing is timed
    assert found["Measuring"].line().startswith("Measuring takes at least 0.1 minutes (models are counted")


def test_assistants_train_once_a_chain_and_take_their_teachers_pass(small_suite: Load) -> None:
    suite = small_suite("methods=[{name: takd, assistants: [cnn_2]}]", "students=[mlp_16]", "seeds=[0]")
    teacher = 4 * (TRAIN * 1.0 + VALIDATION * 0.01)
    assistant = 2 * (TRAIN * 1.1 + VALIDATION * 0.01)
    assert told(suite)["Training"].seconds == pytest.approx(teacher + 2 * assistant)


def test_every_training_of_a_chain_counts_and_its_compressions_take_none(small_suite: Load) -> None:
    chain = "methods=[kd, {chain: [kd, prune_magnitude, kd], label: chain}]"
    found = told(small_suite(chain, "students=[mlp_16]", "seeds=[0]"))
    teacher = 4 * (TRAIN * 1.0 + VALIDATION * 0.01)
    student = 2 * (TRAIN * 1.1 + VALIDATION * 0.01)
    assert found["Training"].seconds == pytest.approx(teacher + 2 * student)
    pruned = TRAIN + VALIDATION + TEST  # it has no best epoch
    scored = 3 * EVALUATION + pruned * 0.01 + 4 * 5.0
    assert found["Scoring"].seconds == pytest.approx(scored)


def test_the_students_of_all_cohorts_of_a_chain_are_told(small_suite: Load) -> None:
    chain = "{chain: [kd, prune_magnitude, kd, cast], label: chain}"
    suite = small_suite(f"methods=[scratch, {chain}]", "students=[mlp_16]", "seeds=[0]")
    (cohort,) = estimate(make_plan(suite), memory_budget=10**9).cohorts.values()
    # Scratch and the first link train together, then the third link; what is cast does not train.
    assert cohort.parts == (2, 1) and cohort.bytes > 0


def test_measuring_controls_and_corruptions_count_where_they_are_asked_for(small_suite: Load) -> None:
    found = told(
        small_suite(
            "measure={min_samples: 20, min_seconds: 1, max_seconds: 2, batch_sizes: [1, 50]}",
            "controls={independent_teacher: true}",
            "robustness={examples: 50, corruptions: [brightness, contrast], severities: [1, 3, 5]}",
        )
    )
    devices = 2 if torch.cuda.is_available() else 1
    # A batch of 50 takes twice as long as one of 25: 10 and 20 ms.
    place = sum(0.2 + max(1.0, 20 * t) + Protocol().rounds * t for t in (0.01, 0.02))
    assert found["Measuring"].seconds == pytest.approx(devices * 3 * place + 3.0 + 0.5)
    assert f"3 models in {2 * devices} places, in each 20 calls, 1 s" in found["Measuring"].basis
    other = 4 * (TRAIN * 1.0 + VALIDATION * 0.01) + EVALUATION
    assert found["Independent teachers"].seconds == pytest.approx(other + 9 * 5.0)
    passes = (1 + 2 * 3) * 9 * (50 / 25) * 0.01
    corrupting = (1 + 2) * 3 * 5.0 / 64 * 50  # for the teacher and for two cohorts
    assert found["Corruptions"].seconds == pytest.approx(passes + corrupting)


def test_all_phases_add_up(small_suite: Load) -> None:
    found = Estimate((Phase("A", 60.0, "x"), Phase("B", 90.0, "y", least=True)), {})
    lines = list(found.lines())
    assert lines[:2] == ["A takes about 1.0 minutes (x).", "B takes at least 1.5 minutes (y)."]
    assert lines[2].startswith("All of it takes about 2.5 minutes on this machine, with one process")


def test_a_loaded_teacher_that_cannot_train_is_not_timed_in_training(
    write_suite: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "frozen.py").write_text(
        "from torch import nn\n"
        "def net(num_classes):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes)).requires_grad_(False)\n"
    )
    torch.save({"1.weight": torch.zeros(10, 64), "1.bias": torch.zeros(10)}, tmp_path / "teacher.pth")
    suite = Suite.load(
        write_suite(
            "dataset: {name: digits, args: {limit: 150, limit_test: 40}}\nstudents: [mlp_4]\nseeds: [0]\n"
            "teachers: [{name: 'frozen.py:net', checkpoint: teacher.pth}]\nmethods: [scratch, kd]\n"
            "recipe: {epochs: 1, batch_size: 20}\nmeasure: {latency: false}\n"
        )
    )
    assert estimate(make_plan(suite), memory_budget=10**9).seconds > 0
