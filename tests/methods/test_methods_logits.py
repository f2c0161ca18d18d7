"""Losses on logits against their formulas, their limits and their invariances."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.special import entr, rel_entr, softmax
from torch import Tensor

from kdbench.methods import Outputs, Refusal, check_pair, find_method
from kdbench.methods.distillers.dist import correlation, relation_loss
from kdbench.methods.distillers.dkd import decoupled, target_and_rest, without_target
from kdbench.methods.distillers.logit_std import standardise
from kdbench.methods.distillers.nkd import non_target_loss, target_loss
from kdbench.methods.distillers.ttm import transformed_divergence
from kdbench.methods.distillers.wttm import power_sum
from kdbench.targets.single_label import soft_loss
from tests.methods.given import FLAT, batch, losses, make, outputs, pair, total

NAMES = ["dist", "dkd", "logit_std", "nkd", "ttm", "wttm"]

Z_S = np.array([[0.0, 1.0, 2.0, -1.0], [0.5, 0.0, -0.5, 1.0], [3.0, 0.0, 0.0, 1.0]])
Z_T = np.array([[2.0, 0.0, 1.0, 0.0], [0.0, 3.0, -1.0, 1.0], [1.0, -2.0, 0.5, 0.0]])
TARGET = [0, 1, 3]


def draw(rows: int = 7, classes: int = 5, seed: int = 0, scale: float = 2.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(rows, classes, generator=generator, dtype=torch.float64)


def labels(rows: int = 7, classes: int = 5) -> Tensor:
    return torch.arange(rows) % classes


def named_terms(name: str, **hyper: object) -> dict[str, float]:
    """Return the terms that a method gives for the logits above."""
    found = losses(make(name, **hyper), Outputs(torch.tensor(Z_S)), Outputs(torch.tensor(Z_T)), TARGET)
    return {term: float(value) for term, value in found.items()}


def gradient(loss: Callable[[Tensor], Tensor], at: Tensor) -> Tensor:
    student = at.clone().requires_grad_()
    return torch.autograd.grad(loss(student), student)[0]


def assert_close(found: Tensor, expected: Tensor) -> None:
    tolerance = 1e-10 if found.dtype == torch.float64 else 1e-5
    np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=tolerance, atol=tolerance / 100)


HARD = -sum(math.log(softmax(z)[y]) for z, y in zip(Z_S, TARGET, strict=True)) / 3


def test_dkd_by_hand() -> None:
    t, alpha, beta = 2.0, 0.5, 3.0
    tckd = nckd = 0.0
    for z_s, z_t, y in zip(Z_S, Z_T, TARGET, strict=True):
        p_s, p_t = softmax(z_s / t), softmax(z_t / t)
        tckd += p_t[y] * math.log(p_t[y] / p_s[y])
        tckd += (1 - p_t[y]) * math.log((1 - p_t[y]) / (1 - p_s[y]))
        for k in range(4):
            if k != y:
                hat_s, hat_t = p_s[k] / (1 - p_s[y]), p_t[k] / (1 - p_t[y])
                nckd += hat_t * math.log(hat_t / hat_s)
    found = named_terms("dkd", temperature=t, alpha=alpha, beta=beta)
    assert found == pytest.approx(
        {"ce": HARD, "tckd": t**2 * alpha * tckd / 3, "nckd": t**2 * beta * nckd / 3}, rel=1e-9
    )


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_kd_is_tckd_plus_nckd_weighted_by_what_the_teacher_leaves_to_the_others(temperature: float) -> None:
    z_s, z_t, y = draw(seed=1), draw(seed=2), labels()
    tckd, nckd = decoupled(z_s, z_t, y, temperature)
    p_s, p_t = softmax(z_s.numpy() / temperature, 1), softmax(z_t.numpy() / temperature, 1)
    left = torch.tensor(1 - p_t[np.arange(7), y])
    per_sample = torch.tensor(rel_entr(p_t, p_s).sum(1))
    assert_close(tckd + left * nckd, per_sample)


def test_dkd_is_kd_where_beta_is_what_the_teacher_leaves_to_the_others() -> None:
    z_s, z_t = draw(seed=1), draw(rows=1, seed=2).expand(7, 5)
    y = torch.full((7,), 3)
    left = 1 - float(torch.softmax(z_t[0] / 3, 0)[3])
    distiller = make("dkd", alpha=1.0, beta=left, temperature=3.0, ce=0.0)
    found = total(losses(distiller, Outputs(z_s), Outputs(z_t), y))
    assert found == pytest.approx(float(soft_loss(z_s, z_t, 3.0)), rel=1e-10)


def test_the_target_is_left_out_wherever_it_is() -> None:
    values = torch.arange(12.0).view(3, 4)
    found = without_target(values, torch.tensor([0, 2, 3]))
    assert found.tolist() == [[1, 2, 3], [4, 5, 7], [8, 9, 10]]


def test_target_and_rest_are_two_probabilities() -> None:
    z, y = draw(), labels()
    expected = softmax(z.numpy(), 1)[np.arange(7), y]
    found = target_and_rest(z, y).exp().numpy()
    np.testing.assert_allclose(found, np.stack([expected, 1 - expected], 1), rtol=1e-10)


def test_each_part_of_dkd_sees_only_its_own_logits() -> None:
    z_s, z_t, y = draw(seed=1), draw(seed=2), labels()
    tckd, nckd = decoupled(z_s, z_t, y, 4.0)
    raised = z_s.clone()
    raised[torch.arange(7), y] += 5.0  # the target's logit
    tckd_raised, nckd_raised = decoupled(raised, z_t, y, 4.0)
    assert_close(nckd_raised, nckd)
    assert ((tckd_raised - tckd).abs() > 1e-3).all()
    swapped = z_s.clone()
    swapped[0, [1, 2]] = z_s[0, [2, 1]]  # two classes beside the target, 0
    tckd_swapped, nckd_swapped = decoupled(swapped, z_t, y, 4.0)
    assert_close(tckd_swapped, tckd)
    assert abs(float(nckd_swapped[0] - nckd[0])) > 1e-3


@pytest.mark.parametrize(
    ("warmup", "progress", "share"),
    [
        (20 / 240, 0.0, 0.0),
        (20 / 240, 10 / 240, 0.5),
        (20 / 240, 20 / 240, 1.0),
        (20 / 240, 1.0, 1.0),
        (0.0, 0.0, 1.0),
    ],
)
def test_dkd_ramps_up_over_a_share_of_the_training(warmup: float, progress: float, share: float) -> None:
    student, teacher = Outputs(torch.tensor(Z_S)), Outputs(torch.tensor(Z_T))
    whole = losses(make("dkd", warmup=0.0), student, teacher, TARGET, progress=1.0)
    found = losses(make("dkd", warmup=warmup), student, teacher, TARGET, progress=progress)
    assert float(whole["tckd"]) > 0.1 and float(whole["nckd"]) > 0.1
    for part in ("tckd", "nckd"):
        assert float(found[part]) == pytest.approx(share * float(whole[part]), rel=1e-12)
    assert float(found["ce"]) == float(whole["ce"])


def test_nkd_by_hand() -> None:
    t, gamma = 2.0, 0.7
    target = non_target = 0.0
    for z_s, z_t, y in zip(Z_S, Z_T, TARGET, strict=True):
        target -= softmax(z_t)[y] * math.log(softmax(z_s)[y])  # without the temperature
        p_s, p_t = softmax(z_s / t), softmax(z_t / t)
        for k in range(4):
            if k != y:
                non_target -= p_t[k] / (1 - p_t[y]) * math.log(p_s[k] / (1 - p_s[y]))
    found = named_terms("nkd", temperature=t, gamma=gamma)
    expected = {"ce": HARD, "target": target / 3, "non_target": gamma * t**2 * non_target / 3}
    assert found == pytest.approx(expected, rel=1e-9)


def test_at_its_teacher_the_target_term_of_nkd_still_raises_the_target() -> None:
    z, y = draw(), labels()
    p = torch.softmax(z, 1)
    onehot = torch.eye(5, dtype=torch.float64)[y]
    p_y = p[torch.arange(7), y][:, None]
    found = gradient(lambda z_s: target_loss(z_s, z, y).sum(), z)
    assert_close(found, p_y * (p - onehot))


def test_at_its_teacher_the_non_target_term_of_nkd_is_at_rest_at_the_entropy() -> None:
    z, y = draw(), labels()
    hat = softmax(np.stack([np.delete(row, k) for row, k in zip(z.numpy(), y, strict=True)]) / 3.0, 1)
    np.testing.assert_allclose(non_target_loss(z, z, y, 3.0).numpy(), entr(hat).sum(1), rtol=1e-10)
    found = gradient(lambda z_s: non_target_loss(z_s, z, y, 3.0).sum(), z)
    assert float(found.abs().max()) == pytest.approx(0, abs=1e-12)


def test_dist_by_hand() -> None:
    t, beta, gamma = 2.0, 0.5, 3.0
    p_s, p_t = softmax(Z_S / t, axis=1), softmax(Z_T / t, axis=1)
    between = sum(1 - np.corrcoef(p_s[i], p_t[i])[0, 1] for i in range(3)) / 3
    within = sum(1 - np.corrcoef(p_s[:, k], p_t[:, k])[0, 1] for k in range(4)) / 4
    expected = {
        "ce": HARD,
        "between_classes": beta * t**2 * between,
        "within_classes": gamma * t**2 * within,
    }
    assert named_terms("dist", temperature=t, beta=beta, gamma=gamma) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("dim", [0, 1])
def test_correlation_ignores_shift_and_scale_but_not_sign(dim: int) -> None:
    first, second = draw(seed=1, scale=1.0), draw(seed=2, scale=1.0)
    scales = torch.rand_like(first.mean(dim, keepdim=True)) + 0.5  # another one for each row or column
    found = correlation(first, second, dim)
    assert_close(correlation(scales * first + scales - 3.0, second, dim), found)
    assert_close(correlation(first, scales * second + 1.0, dim), found)
    assert_close(correlation(-first, second, dim), -found)
    assert_close(correlation(second, second, dim), torch.ones_like(found))


@pytest.mark.parametrize("dim", [0, 1])
def test_dist_ignores_a_mixture_with_the_uniform_distribution_but_not_a_scale_of_logits(dim: int) -> None:
    z_s, z_t = draw(seed=1), draw(seed=2)
    mixed = 0.3 * torch.softmax(z_s / 4, 1) + 0.7 / 5
    loss = float(relation_loss(z_s, z_t, 4.0, dim))
    assert float(relation_loss(4 * mixed.log(), z_t, 4.0, dim)) == pytest.approx(loss, rel=1e-9)
    assert float(relation_loss(3 * z_s, z_t, 4.0, dim)) != pytest.approx(loss, rel=1e-3)
    assert float(soft_loss(4 * mixed.log(), z_t, 4.0)) != pytest.approx(
        float(soft_loss(z_s, z_t, 4.0)), rel=1e-3
    )


def test_dist_correlates_logits_as_the_temperature_grows() -> None:
    z_s, z_t = draw(seed=1), draw(seed=2)
    limit = 1 - np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(z_s, z_t, strict=True)])
    assert float(relation_loss(z_s, z_t, 1e3, dim=1)) / 1e6 == pytest.approx(limit, rel=1e-2)


def test_dist_compares_classes_of_any_probability() -> None:
    # the last class has probabilities near e^-200, whose squares no float32 holds
    z_s, z_t = draw(seed=1).float(), draw(seed=2).float()
    z_s[:, 4] -= 200
    z_t[:, 4] -= 200
    columns = [
        np.corrcoef(p_s, p_t)[0, 1]
        for p_s, p_t in zip(softmax(z_s.double(), 1).T, softmax(z_t.double(), 1).T, strict=True)
    ]
    expected = 1 - float(np.mean(columns))
    assert float(relation_loss(z_s, z_t, 1.0, dim=0)) == pytest.approx(expected, rel=1e-3)


SOME, EQUAL = draw(6).float(), torch.full((6, 5), 0.1)


@pytest.mark.parametrize(
    ("z_s", "z_t", "dims"),
    [
        pytest.param(SOME[:1], SOME[1:2], [0], id="one sample"),
        pytest.param(SOME[:1].repeat(6, 1), SOME, [0], id="equal samples"),
        pytest.param(EQUAL, SOME, [0, 1], id="equal logits of the student"),
        pytest.param(SOME, EQUAL, [0, 1], id="equal logits of the teacher"),
        pytest.param(EQUAL, EQUAL, [0, 1], id="equal logits of both"),
    ],
)
def test_dist_counts_what_is_constant_as_uncorrelated(z_s: Tensor, z_t: Tensor, dims: list[int]) -> None:
    for dim in dims:
        assert float(relation_loss(z_s, z_t, 4.0, dim)) == 16.0
        assert gradient(lambda z, d=dim: relation_loss(z, z_t, 4.0, d), z_s).abs().max() == 0


def test_dist_with_one_constant_column_keeps_the_others() -> None:
    p_s = np.array([[0.2, 0.5, 0.3], [0.2, 0.1, 0.7], [0.2, 0.6, 0.2]])
    p_t = softmax(Z_T[:, :3], axis=1)
    others = [np.corrcoef(p_s[:, k], p_t[:, k])[0, 1] for k in (1, 2)]
    found = relation_loss(torch.tensor(p_s).log().float(), torch.tensor(Z_T[:, :3]).float(), 1.0, dim=0)
    assert float(found) == pytest.approx((1 + (1 - others[0]) + (1 - others[1])) / 3, rel=1e-4)


def test_logit_std_by_hand() -> None:
    t, weight = 3.0, 5.0
    soft = 0.0
    for z_s, z_t in zip(Z_S, Z_T, strict=True):
        q_s = softmax((z_s - z_s.mean()) / z_s.std() / t)
        q_t = softmax((z_t - z_t.mean()) / z_t.std() / t)
        soft += rel_entr(q_t, q_s).sum()
    found = named_terms("logit_std", temperature=t, weight=weight)
    assert found == pytest.approx({"ce": 0.1 * HARD, "logit_std": weight * t**2 * soft / 3}, rel=1e-9)


def test_standardised_logits_have_mean_zero_and_deviation_one() -> None:
    found = standardise(draw(seed=3, scale=40.0)).numpy()
    np.testing.assert_allclose(found.mean(1), np.zeros(7), atol=1e-12)
    np.testing.assert_allclose(found.std(1), np.ones(7), rtol=1e-12)


def test_logit_std_ignores_scale_and_shift_of_either_side() -> None:
    distiller = make("logit_std")
    z_s, z_t, y = draw(seed=1), draw(seed=2), labels()
    scales = torch.linspace(0.01, 100, 7, dtype=torch.float64)[:, None]  # another one for each sample

    def loss(student: Tensor, teacher: Tensor) -> float:
        return float(losses(distiller, Outputs(student), Outputs(teacher), y)["logit_std"])

    assert loss(scales * z_s - 5.0, z_t) == pytest.approx(loss(z_s, z_t), rel=1e-9)
    assert loss(z_s, scales * z_t + scales) == pytest.approx(loss(z_s, z_t), rel=1e-9)
    assert loss(scales * z_t + 2.0, z_t) == pytest.approx(0, abs=1e-9)
    assert loss(-z_s, z_t) != pytest.approx(loss(z_s, z_t), rel=1e-3)


@pytest.mark.parametrize("value", [0.0, 0.1, 9999.0])
def test_equal_logits_are_standardised_to_zeros_with_a_moderate_gradient(value: float) -> None:
    student, teacher = torch.full((4, 7), value), draw(4, 7, seed=2).float()
    assert standardise(student).abs().max() == 0
    found = gradient(lambda z: soft_loss(standardise(z), standardise(teacher), 2.0), student)
    expected = gradient(lambda z: soft_loss(z, standardise(teacher), 2.0), student)
    assert_close(found, expected)
    assert 1e-3 < found.abs().max() < 10


def test_ttm_and_wttm_by_hand() -> None:
    gamma, weight = 0.4, 3.0
    plain = weighted = 0.0
    for z_s, z_t in zip(Z_S, Z_T, strict=True):
        power = softmax(z_t) ** gamma
        divergence = sum(
            p / power.sum() * math.log(p / power.sum() / s) for p, s in zip(power, softmax(z_s), strict=True)
        )
        plain += divergence
        weighted += power.sum() * divergence
    ttm = named_terms("ttm", temperature=1 / gamma, weight=weight)
    assert ttm == pytest.approx({"ce": HARD, "ttm": weight * plain / 3}, rel=1e-9)
    wttm = named_terms("wttm", temperature=1 / gamma, weight=weight)
    assert wttm == pytest.approx({"ce": HARD, "wttm": weight * weighted / 3}, rel=1e-9)


def test_ttm_is_kd_with_the_renyi_entropy_of_the_student() -> None:
    t = 3.0
    z_s, z_t = draw(seed=1), draw(seed=2)
    p_s = softmax(z_s.numpy(), 1)
    q_s, q_t = softmax(z_s.numpy() / t, 1), softmax(z_t.numpy() / t, 1)
    renyi = np.log((p_s ** (1 / t)).sum(1)) / (1 - 1 / t)
    soft = -(q_t * np.log(q_s)).sum(1)
    found = transformed_divergence(z_s, z_t, t).numpy() + entr(q_t).sum(1)
    np.testing.assert_allclose(found, t * soft - (t - 1) * renyi, rtol=1e-10)


def test_without_temperature_ttm_and_wttm_are_kd() -> None:
    z_s, z_t, y = draw(seed=1), draw(seed=2), labels()
    expected = float(soft_loss(z_s, z_t, 1.0))
    for name in ("ttm", "wttm"):
        distiller = make(name, temperature=1.0, weight=1.0, ce=0.0)
        found = total(losses(distiller, Outputs(z_s), Outputs(z_t), y))
        assert found == pytest.approx(expected, rel=1e-10)


def test_the_weight_of_a_sample_grows_with_the_teachers_doubt() -> None:
    sure, torn, lost = [1e4, 0.0, 0.0, 0.0], [1e4, 1e4, 0.0, 0.0], [0.0] * 4
    found = power_sum(torch.tensor([sure, torn, lost], dtype=torch.float64), 2.0)
    assert found.tolist() == pytest.approx([1, math.sqrt(2), 2], rel=1e-12)  # N^(1 − 1/2) of N classes alike


@pytest.mark.parametrize("temperature", [1.0, 5.0])
def test_the_gradient_of_ttm_has_no_temperature_on_the_student(temperature: float) -> None:
    z_s, z_t = draw(seed=1), draw(seed=2)
    found = gradient(lambda z: transformed_divergence(z, z_t, temperature).sum(), z_s)
    assert_close(found, torch.softmax(z_s, 1) - torch.softmax(z_t / temperature, 1))


AT_REST: dict[str, Callable[[Tensor], Tensor]] = {
    "dkd": lambda z_t: z_t + 3.0,
    "dist": lambda z_t: z_t + 3.0,
    "logit_std": lambda z_t: 0.5 * z_t + 3.0,
    "ttm": lambda z_t: z_t / 5.0 + 3.0,
    "wttm": lambda z_t: z_t / 5.0 + 3.0,
}


@pytest.mark.parametrize("name", AT_REST)
def test_loss_and_gradient_vanish_at_the_student_that_the_teacher_asks_for(name: str) -> None:
    z_t, y = draw(), labels()
    distiller = make(name, ce=0.0)

    def loss(z_s: Tensor) -> Tensor:
        return torch.stack(list(losses(distiller, Outputs(z_s), Outputs(z_t), y).values())).sum()

    rest = AT_REST[name](z_t)
    assert float(loss(rest)) == pytest.approx(0, abs=1e-9)
    assert float(gradient(loss, rest).abs().max()) == pytest.approx(0, abs=1e-9)
    assert float(loss(rest + 0.1 * draw(seed=5))) > 1e-4
    assert float(gradient(loss, rest + 0.1 * draw(seed=5)).abs().max()) > 1e-3


@pytest.mark.parametrize("name", ["ttm", "wttm"])
def test_ttm_and_wttm_do_not_rest_at_the_teachers_own_logits(name: str) -> None:
    z_t = draw()
    distiller = make(name, ce=0.0)
    found = gradient(lambda z: total_tensor(losses(distiller, Outputs(z), Outputs(z_t), labels())), z_t)
    assert float(found.abs().max()) > 0.1


def total_tensor(terms: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(terms.values())).sum()


@pytest.mark.parametrize("name", [name for name in NAMES if name != "dist"])
def test_the_loss_is_the_mean_over_samples(name: str) -> None:
    z_s, z_t, y = draw(seed=1), draw(seed=2), labels()
    distiller = make(name)

    def loss(rows: slice) -> float:
        return total(losses(distiller, Outputs(z_s[rows]), Outputs(z_t[rows]), y[rows]))

    alone = [loss(slice(i, i + 1)) for i in range(7)]
    assert loss(slice(None)) == pytest.approx(sum(alone) / 7, rel=1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_finite_differences(name: str) -> None:
    z_s, z_t, y = draw(4, seed=1), draw(4, seed=2), labels(4)
    distiller, step = make(name), 1e-5

    def loss(z: Tensor) -> Tensor:
        return total_tensor(losses(distiller, Outputs(z), Outputs(z_t), y))

    expected = torch.zeros_like(z_s)
    for i in range(4):
        for k in range(5):
            nudge = torch.zeros_like(z_s)
            nudge[i, k] = step
            expected[i, k] = (loss(z_s + nudge) - loss(z_s - nudge)) / (2 * step)
    np.testing.assert_allclose(gradient(loss, z_s).numpy(), expected.numpy(), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
def test_every_term_and_its_gradient_are_finite(name: str, scale: float) -> None:
    student, teacher = outputs(FLAT, scale=scale), outputs(FLAT, scale=scale, seed=1)
    distiller = make(name, pair(FLAT, FLAT))
    teacher.logits.requires_grad_(False)
    for swapped in (teacher.logits, -student.logits.detach()):  # a teacher as sure of another class
        student.logits.grad = None
        terms = losses(distiller, student, Outputs(swapped), [0, 1, 2, 0, 1, 2])
        total_tensor(terms).backward()
        assert all(torch.isfinite(term) for term in terms.values())
        assert torch.isfinite(student.logits.grad).all()
        assert student.logits.grad.abs().max() > 0


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("dkd", "2 classes leave no non-target distribution"),
        ("nkd", "2 classes leave no non-target distribution"),
        ("logit_std", "2 classes have standardised logits of 1 and −1 for every image"),
    ],
)
def test_two_classes_are_refused_where_nothing_could_be_learnt(name: str, text: str) -> None:
    distiller = find_method(name).distiller
    with pytest.raises(Refusal, match=f"^{text}$"):
        check_pair(distiller, distiller.Parameters(), pair(classes=2))
    check_pair(distiller, distiller.Parameters(), pair(classes=3))


def test_two_standardised_logits_give_the_student_no_gradient() -> None:
    student, teacher = draw(6, 2, seed=1), draw(6, 2, seed=2)
    found = gradient(lambda z: soft_loss(standardise(z), standardise(teacher), 2.0), student)
    assert float(found.abs().max()) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("name", ["dist", "ttm", "wttm"])
def test_two_classes_can_be_learnt_by_the_others(name: str) -> None:
    distiller = make(name, pair(classes=2), ce=0.0)
    check_pair(distiller, distiller.hyper, distiller.pair)
    z_s, z_t = draw(6, 2, seed=1), draw(6, 2, seed=2)
    found = gradient(lambda z: total_tensor(losses(distiller, Outputs(z), Outputs(z_t), [0, 1] * 3)), z_s)
    assert float(found.abs().max()) > 1e-3


@pytest.mark.parametrize("name", NAMES)
def test_logits_are_all_that_is_read_and_no_networks_are_added(name: str) -> None:
    distiller = make(name, pair(FLAT, FLAT))
    assert distiller.needs == {"logits"}
    assert len(distiller.adapters()) == 0


@pytest.mark.parametrize("name", NAMES)
def test_cross_entropy_and_plain_kd_can_be_weighed_beside(name: str) -> None:
    student, teacher = Outputs(torch.tensor(Z_S)), Outputs(torch.tensor(Z_T))
    own = make(name, ce=0.0).terms(student, teacher, batch(TARGET))
    found = losses(make(name, ce=0.25, kd=0.5, kd_temperature=3.0), student, teacher, TARGET)
    assert found.keys() == own.keys() | {"ce", "kd"}
    assert float(found["ce"]) == pytest.approx(0.25 * HARD)
    assert float(found["kd"]) == pytest.approx(0.5 * float(soft_loss(student.logits, teacher.logits, 3.0)))
