"""Temperature scaling: known temperatures come back, and where there is none the reason says so."""

from __future__ import annotations

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
    with pytest.raises(Undefined, match=r"falls beyond T = 0\.000976562: its predictions are all right"):
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
    with pytest.raises(Undefined, match="falls beyond T = 1024: labels have no higher logits"):
        fit_temperature(logits, torch.tensor(labels))


def test_logits_beyond_the_range_of_a_temperature() -> None:
    wide = torch.tensor([[1e308, -1e308]], dtype=torch.float64)
    with pytest.raises(Undefined, match="too large for a temperature"):
        fit_temperature(wide, torch.tensor([0]))
