"""Features, soft targets, likeness of logits and disparity: limits, bias, and what has no value."""

from __future__ import annotations

import math

import pytest
import torch

from kdbench.metrics import Undefined, score, tensors
from kdbench.metrics.disparity import class_deltas, std_class_delta, worst_class_drop, worst_decile_drop
from kdbench.metrics.features import cka_pooled, cka_pooled_debiased, gram_products
from kdbench.metrics.likeness import correlation_gap, logit_correlation, logit_mse
from kdbench.metrics.targets import teacher_entropy_norm


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_cka_forgets_rotation_shift_and_scale() -> None:
    x, y = normal(50, 6), normal(50, 4, seed=1)
    rotation = torch.linalg.qr(normal(6, 6, seed=2)).Q
    for metric in (cka_pooled, cka_pooled_debiased):
        plain = metric(gram_products(x, y))
        assert metric(gram_products(7 * x @ rotation + 100, y)) == pytest.approx(plain, abs=1e-5)
        assert metric(gram_products(y, x)) == pytest.approx(plain, rel=1e-12)
        assert metric(gram_products(x, x)) == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize("scale", [1e-37, 3e-34, 3e37])
def test_cka_is_that_of_features_of_any_size(scale: float) -> None:
    """Its fourth powers would leave the range of float64, its products of them twice over."""
    x, y = normal(400, 6), normal(400, 4, seed=1)
    for metric in (cka_pooled, cka_pooled_debiased):
        plain = metric(gram_products(x, y))
        assert metric(gram_products(scale * x, scale * y)) == pytest.approx(plain, abs=1e-6)
        assert metric(gram_products(scale * x, scale * x)) == pytest.approx(1, rel=1e-12)
        assert metric(gram_products(x * 2.0**60, y)) == metric(gram_products(x, y))
    wide = normal(50, 6).double() * 1e300
    assert cka_pooled(gram_products(wide, wide / 1e308 / 1e280)) == pytest.approx(1, rel=1e-12)


def test_independent_features_are_alike_only_by_bias() -> None:
    """With as many features as examples the plain value is near ½ for noise; the debiased one is near 0."""
    products = gram_products(normal(100, 100), normal(100, 100, seed=1))
    assert cka_pooled(products) > 0.4
    assert abs(cka_pooled_debiased(products)) < 0.05


def test_blocks_of_rows_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = normal(40, 3), normal(40, 5, seed=1)
    whole = cka_pooled_debiased(gram_products(x, y))
    monkeypatch.setattr(tensors, "BLOCK_ELEMENTS", 35)
    assert cka_pooled_debiased(gram_products(x, y)) == pytest.approx(whole, rel=1e-12)


def test_features_without_a_value() -> None:
    x = normal(5, 3)
    with pytest.raises(Undefined, match="the teacher's pooled features are the same for every example"):
        gram_products(x, torch.ones(5, 2))
    with pytest.raises(Undefined, match="needs at least 4 examples"):
        cka_pooled_debiased(gram_products(x[:3], x[:3]))
    with pytest.raises(Undefined, match="the student's pooled features are all equally far"):
        cka_pooled_debiased(gram_products(torch.eye(5), x))
    values, reasons = score({"features": x, "teacher_features": x * math.nan})
    assert values["cka_pooled"] is None
    assert reasons["cka_pooled"] == "NaN or infinity in 5 of 5 examples of the teacher's pooled features"


def test_a_higher_temperature_has_a_higher_entropy_up_to_one() -> None:
    logits = normal(30, 10)
    entropies = [teacher_entropy_norm(logits, torch.tensor(t)) for t in (1e-4, 0.5, 1.0, 4.0, 1e6)]
    assert entropies == sorted(entropies)
    assert entropies[0] == pytest.approx(0, abs=1e-6)
    assert entropies[-1] == pytest.approx(1, abs=1e-9)


def test_kl_is_put_together_from_the_label_and_the_others() -> None:
    """Of one example, so that the means are no obstacle: KL = KL(b) + (1 − p_y)·KL(p̂)."""
    for seed in range(5):
        student, teacher, labels = normal(1, 6, seed=seed), 2 * normal(1, 6, seed=seed + 9), torch.tensor([2])
        values, _ = score({"logits": student, "teacher_logits": teacher, "labels": labels})
        rest = 1 - teacher.double().softmax(1)[0, 2].item()
        whole = values["kl_target"] + rest * values["kl_non_target"]
        assert whole == pytest.approx(values["kl_teacher_student"], rel=1e-12)


def test_what_is_left_beside_a_sure_label_keeps_its_digits() -> None:
    """1 − p_y is 1e-26 here, which 1 − p would lose: what the teacher says of the others still counts."""
    teacher = torch.tensor([[60.0, 0.0, math.log(3)]], dtype=torch.float64)
    student = torch.tensor([[60.0, 0.0, 0.0]], dtype=torch.float64)
    values, _ = score({"logits": student, "teacher_logits": teacher, "labels": torch.tensor([0])})
    expected = 0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5)
    assert values["kl_non_target"] == pytest.approx(expected, rel=1e-12)


def test_likeness_forgives_what_its_definition_forgives() -> None:
    z = normal(20, 5).double()
    shift = torch.arange(20.0, dtype=torch.float64)[:, None]
    assert logit_mse(z + shift, z) == pytest.approx(0, abs=1e-25)
    assert logit_correlation(3 * z + shift, z) == pytest.approx(1, rel=1e-12)
    assert logit_correlation(-z, z) == pytest.approx(-1, rel=1e-12)
    assert correlation_gap(3 * z + shift, z) == pytest.approx(0, abs=1e-12)
    assert logit_correlation(1e200 * z, z) == pytest.approx(1, rel=1e-12)


def test_likeness_without_a_value() -> None:
    flat = torch.zeros(2, 3)
    with pytest.raises(Undefined, match="the teacher's logits of 2 of 2 examples are all equal"):
        logit_correlation(normal(2, 3), flat)
    with pytest.raises(Undefined, match="a centred logit of the teacher is the same for every example"):
        correlation_gap(normal(2, 3), torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]]))
    with pytest.raises(Undefined, match="needs more than 2 classes"):
        correlation_gap(normal(9, 2), normal(9, 2))


LABELS = torch.arange(4).repeat_interleave(5)


def test_a_loss_that_all_classes_share_is_no_disparity() -> None:
    wrong = torch.where(torch.arange(20) % 5 == 0, (LABELS + 1) % 4, LABELS)
    for metric in (worst_class_drop, worst_decile_drop, std_class_delta):
        assert metric(wrong, LABELS, LABELS) == pytest.approx(0, abs=1e-15)


def test_a_class_that_pays_alone() -> None:
    """Class 3 is lost, a quarter of the examples: Δ = (¼, ¼, ¼, −¾)."""
    student = LABELS.clamp(max=2)
    assert class_deltas(student, LABELS, LABELS, 5) == pytest.approx([0.25, 0.25, 0.25, -0.75, None])
    assert worst_class_drop(student, LABELS, LABELS) == pytest.approx(0.75)
    assert std_class_delta(student, LABELS, LABELS) == pytest.approx(math.sqrt(3) / 4)


def test_the_worst_decile_of_thirty_classes_is_three() -> None:
    labels = torch.arange(30).repeat_interleave(10)
    right = torch.full((30,), 10).index_put((torch.tensor([4, 7, 8, 9]),), torch.tensor([2, 4, 6, 8]))
    student = torch.where(torch.arange(300) % 10 < right[labels], labels, (labels + 1) % 30)
    shift = -20 / 300
    drops = -(torch.tensor([-0.8, -0.6, -0.4]) - shift)
    assert worst_decile_drop(student, labels, labels) == pytest.approx(drops.mean().item())
    assert worst_class_drop(student, labels, labels) == pytest.approx(drops.max().item())


def test_disparity_of_one_class() -> None:
    with pytest.raises(Undefined, match="only one class has labels"):
        std_class_delta(torch.tensor([0, 1]), torch.tensor([0, 0]), torch.tensor([0, 0]))
