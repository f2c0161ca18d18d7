"""Temperature scaling: known temperatures come back, and where there is none the reason says so."""

from __future__ import annotations

import math

import pytest
import torch

from kdbench.metrics import Undefined, score
from kdbench.metrics.scaling import fit_temperature


def calibrated(count: int = 4000, classes: int = 7) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits that are the log-odds of their labels: their best temperature is near 1."""
    random = torch.Generator().manual_seed(3)
    logits = 2 * torch.randn(count, classes, generator=random, dtype=torch.float64)
    return logits, torch.multinomial(logits.softmax(1), 1, generator=random)[:, 0]


@pytest.mark.parametrize("scale", [1e-2, 0.3, 1.0, 2.0, 64.0])
def test_a_scale_of_the_logits_is_a_scale_of_the_temperature(scale: float) -> None:
    logits, labels = calibrated()
    base = fit_temperature(logits, labels)
    assert base == pytest.approx(1, abs=0.05)
    assert fit_temperature(scale * logits, labels) == pytest.approx(scale * base, rel=1e-9)


def test_it_is_the_minimum() -> None:
    logits, labels = calibrated()
    best = fit_temperature(3 * logits, labels)

    def nll(temperature: float) -> float:
        return torch.nn.functional.cross_entropy(3 * logits / temperature, labels).item()

    assert nll(best) < min(nll(0.99 * best), nll(1.01 * best), nll(1.0))


def test_scaling_mends_a_wrong_scale() -> None:
    logits, labels = calibrated()
    test = {"logits": 5 * logits, "labels": labels}
    values, _ = score(test | {"validation_logits": 5 * logits, "validation_labels": labels})
    assert values["overconfidence"] > 0.2
    for name in ("ece", "ece_adaptive", "classwise_ece", "mce", "nll"):
        assert values[f"{name}_scaled"] < values[name] / 2
    plain, _ = score({"logits": logits, "labels": labels})
    assert values["ece_scaled"] == pytest.approx(plain["ece"], abs=0.01)


def test_validation_that_is_all_right_has_no_temperature() -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 2.0]])
    with pytest.raises(Undefined, match="on validation, every label has the highest logit"):
        fit_temperature(logits, torch.tensor([0, 1]))
    _, reasons = score(
        {
            "logits": logits,
            "labels": torch.tensor([0, 0]),
            "validation_logits": logits,
            "validation_labels": torch.tensor([0, 1]),
        }
    )
    scaled = {name for name in reasons if name.endswith("_scaled")} | {"temperature_fitted"}
    assert len(scaled) == 6
    assert len({reasons[name] for name in scaled}) == 1


@pytest.mark.parametrize("labels", [[1, 0], [1, 1]])
def test_validation_no_better_than_a_guess_has_no_temperature(labels: list[int]) -> None:
    logits = torch.tensor([[2.0, 0.0], [0.0, 2.0]])
    with pytest.raises(Undefined, match="labels have hardly higher logits than other classes"):
        fit_temperature(logits, torch.tensor(labels))


@pytest.mark.parametrize("scale", [1e-30, 1e-6, 1e6, 1e30])
def test_a_temperature_is_found_wherever_it_is(scale: float) -> None:
    """Right three times of four at a margin of 3·scale: T = 3·scale/ln 3, as at any other scale."""
    logits = scale * torch.tensor([[3.0, 0.0]] * 4, dtype=torch.float64)
    found = fit_temperature(logits, torch.tensor([0, 0, 0, 1]))
    assert found == pytest.approx(3 * scale / math.log(3), rel=1e-9)


@pytest.mark.parametrize(
    ("label", "reason"), [(0, "every label has the highest"), (3, "hardly higher logits")]
)
def test_the_reason_for_no_temperature_is_true_of_the_labels(label: int, reason: str) -> None:
    logits = torch.tensor([[0.125, 0.0, 0.0, -1e4]])
    with pytest.raises(Undefined, match=reason):
        fit_temperature(logits, torch.tensor([label]))
    # right about neither, and better than a guess: p of the last is 1e-5 where the slope is 0
    assert 500 < fit_temperature(logits, torch.tensor([1])) < 2000


def test_examples_that_differ_in_a_constant_stay_tied_after_scaling() -> None:
    """Two margins of ½, one far from 0: at equal confidence one right and one wrong share their accuracy."""
    validation = {
        "validation_logits": torch.tensor([[3.0, 0.0]] * 4),
        "validation_labels": torch.arange(4) // 3,
    }
    near, far = torch.tensor([[0.5, 0.0]] * 30), torch.tensor([[65536.5, 65536.0], [0.5, 0.0]] * 15)
    labels = torch.tensor([0, 1] * 15)
    plain, moved = (
        score({"logits": logits.double(), "labels": labels} | validation)[0] for logits in (near, far)
    )
    assert plain["temperature_fitted"] == pytest.approx(3 / math.log(3))
    for name in ("ece_adaptive_scaled", "ece_scaled", "mce_scaled", "nll_scaled", "classwise_ece_scaled"):
        assert moved[name] == plain[name]


def test_a_minimum_that_rounding_decides_is_none() -> None:
    """Labels ahead by a ten thousandth of the spread: at the best temperature all classes are as likely."""
    logits = torch.tensor([[1.0 + 2e-4, 0.0], [1.0, 0.0]], dtype=torch.float64)
    for scale in (1e-6, 1.0, 1e6):
        with pytest.raises(Undefined, match="hardly higher logits"):
            fit_temperature(scale * logits, torch.tensor([0, 1]))
    ahead = torch.tensor([[1.01, 0.0], [1.0, 0.0]], dtype=torch.float64)
    assert 40 < fit_temperature(ahead, torch.tensor([0, 1])) < 1024


def test_logits_beyond_the_range_of_a_temperature() -> None:
    wide = torch.tensor([[1e308, -1e308]], dtype=torch.float64)
    with pytest.raises(Undefined, match="too large for a temperature"):
        fit_temperature(wide, torch.tensor([0]))
