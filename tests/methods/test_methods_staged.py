"""Methods that regress whole stages, some of them in two stages of the training: vid, fsp, ab, ft, mgd."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.stats import norm
from torch import Tensor, nn

from kdbench.methods import FeatureShapes, Outputs, Pair, Refusal, check_pair, find_method
from kdbench.methods.distillers.ab import boundary_loss
from kdbench.methods.distillers.fsp import flow_matrix
from kdbench.methods.distillers.ft import factor_loss
from kdbench.methods.distillers.mgd import generation_loss, random_mask
from kdbench.methods.distillers.vid import gaussian_loss, raw_variance, variance
from tests.methods.given import FLAT, MAP, TOKENS, WIDE, losses, make, outputs, pair, total

NAMES = ("vid", "fsp", "ab", "ft", "mgd")
FIRST, SECOND = 0.0, 0.5
TARGET = [0, 1, 2, 0, 1, 2]

LARGER = FeatureShapes((3,), (5,), ((2, 8, 8), (5, 4, 4)))
LONGER = FeatureShapes((3,), (7,), ((4, 8, 8), (2, 4, 4), (5, 2, 2)))
ALIKE = pair(LARGER, MAP)  # works with every method, as the channels are equal


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def leaves(shapes: FeatureShapes, seed: int = 0, scale: float = 1.0) -> Outputs:
    """Return outputs of a student whose logits and stages show what gradient reaches them."""
    drawn = outputs(shapes, seed=seed, scale=scale)
    return Outputs(drawn.logits, drawn.pooled, tuple(stage.requires_grad_() for stage in drawn.stages))


def constant(shapes: FeatureShapes, value: float, count: int = 6) -> Outputs:
    stages = tuple(torch.full((count, *stage), value) for stage in shapes.stages)
    return Outputs(torch.zeros(count, 3), None, stages)


def maps(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)


def sent(terms: dict[str, Tensor]) -> None:
    torch.stack(list(terms.values())).sum().backward()


def reached(tensors: Any) -> list[bool]:
    return [tensor.grad is not None and bool(tensor.grad.abs().sum() > 0) for tensor in tensors]


def refusal(name: str, of: Pair, **hyper: object) -> str:
    distiller = find_method(name).distiller
    with pytest.raises(Refusal) as caught:
        check_pair(distiller, distiller.Parameters(**hyper), of)
    return str(caught.value)


def accepts(name: str, of: Pair, **hyper: object) -> None:
    distiller = find_method(name).distiller
    check_pair(distiller, distiller.Parameters(**hyper), of)


# vid


def test_the_gaussian_loss_by_hand() -> None:
    # one image, two channels with variances 4 and 0.25, two positions
    mean, target = maps([[[[1.0, 2.0]], [[0.0, 0.5]]]]), maps([[[[3.0, 2.0]], [[0.5, 0.0]]]])
    first = [0.5 * (4 / 4 + math.log(4)), 0.5 * (0 / 4 + math.log(4))]
    second = [0.5 * (0.25 / 0.25 + math.log(0.25)), 0.5 * (0.25 / 0.25 + math.log(0.25))]
    expected = sum(first + second) / 4
    assert expected == pytest.approx(0.375)  # the logarithms of 4 and 1/4 cancel
    assert float(gaussian_loss(mean, target, maps([4.0, 0.25]))) == pytest.approx(expected)


def test_the_gaussian_loss_is_a_log_likelihood_up_to_its_constant() -> None:
    mean, target, spread = torch.randn(4, 3, 2, 2), torch.randn(4, 3, 2, 2), maps([0.5, 1.0, 7.0])
    sigma = spread.sqrt().view(1, 3, 1, 1).numpy()
    expected = -norm.logpdf(target.numpy(), mean.numpy(), sigma).mean() - 0.5 * math.log(2 * math.pi)
    assert float(gaussian_loss(mean, target, spread)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("value", [0.01, 1.0, 5.0, 1000.0])
def test_the_raw_parameter_gives_the_variance_asked_for(value: float) -> None:
    assert float(variance(torch.tensor(raw_variance(value)))) == pytest.approx(value, rel=1e-4)


def test_no_variance_is_zero() -> None:
    assert float(variance(torch.tensor(-1e4))) == pytest.approx(1e-5)


def test_vid_sums_the_stages_that_meet_by_hand() -> None:
    distiller = make("vid", weight=2.0)
    with torch.no_grad():
        for regressor in distiller.regressors:
            regressor[-1].weight.zero_()
            regressor[-1].bias.fill_(1.5)  # so that the mean is 1.5 everywhere
    teacher = outputs(WIDE, seed=1)
    near, far = (stage.numpy() for stage in teacher.stages)
    pooled = far.reshape(6, 7, 2, 2, 2, 2).mean((3, 5))  # the student's second map is 2×2, the teacher's 4×4
    expected = sum(np.mean(0.5 * ((1.5 - f_t) ** 2 / 5 + math.log(5))) for f_t in (near, pooled))
    found = losses(distiller, outputs(MAP), teacher, TARGET)
    assert set(found) == {"ce", "likelihood"}
    assert float(found["likelihood"].detach()) == pytest.approx(2 * expected, rel=1e-5)


def test_the_variances_of_vid_are_trained_towards_the_squared_error() -> None:
    distiller = make("vid", ce=0.0)
    with torch.no_grad():
        for regressor in distiller.regressors:
            regressor[-1].weight.zero_()
            regressor[-1].bias.fill_(0.5)
    student, teacher = outputs(MAP), constant(WIDE, 2.0)
    adapters = distiller.adapters()
    variances = [parameter for name, parameter in adapters.named_parameters() if "raw_variances" in name]
    assert [parameter.numel() for parameter in variances] == [3, 7]
    for parameter in variances:
        assert variance(parameter).tolist() == pytest.approx([5.0] * parameter.numel())
    sent(losses(distiller, student, teacher, TARGET))
    assert all(parameter.requires_grad for parameter in variances) and all(reached(variances))
    for _ in range(25):
        term = losses(distiller, student, teacher, TARGET)["likelihood"]
        with torch.no_grad():
            for parameter, gradient in zip(variances, torch.autograd.grad(term, variances), strict=True):
                parameter -= 30 * gradient
    for parameter in variances:  # the likeliest variance is the squared error (0.5 − 2)²
        assert variance(parameter).tolist() == pytest.approx([2.25] * parameter.numel(), rel=0.02)


# fsp


def test_the_flow_matrix_by_hand() -> None:
    # two channels of 1×2, one channel of 1×2: G_0 = (1·5 + 2·6)/2, G_1 = (3·5 + 4·6)/2
    first, second = maps([[[[1.0, 2.0]], [[3.0, 4.0]]]]), maps([[[[5.0, 6.0]]]])
    assert flow_matrix(first, second).tolist() == [[[8.5], [19.5]]]
    assert flow_matrix(second, first).tolist() == [[[8.5, 19.5]]]


def test_the_larger_of_two_consecutive_maps_is_pooled() -> None:
    first, second = torch.randn(3, 2, 4, 4), torch.randn(3, 5, 2, 2)
    found = flow_matrix(first, second)
    for image in range(3):
        for i in range(2):
            for j in range(5):
                products = [
                    first[image, i, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2].mean() * second[image, j, y, x]
                    for y in range(2)
                    for x in range(2)
                ]
                assert float(found[image, i, j]) == pytest.approx(float(sum(products)) / 4, abs=1e-6)


def test_fsp_sums_the_means_of_its_matrices_by_hand() -> None:
    shapes = FeatureShapes((3,), None, ((2, 4, 4), (3, 4, 4), (4, 4, 4)))
    student, teacher = outputs(shapes, seed=1), outputs(shapes, seed=2)
    s, t = ([stage.double().numpy() for stage in given.stages] for given in (student, teacher))
    expected = 0.0
    for at in range(2):
        g_s = np.einsum("bihw,bjhw->bij", s[at], s[at + 1]) / 16
        g_t = np.einsum("bihw,bjhw->bij", t[at], t[at + 1]) / 16
        expected += ((g_s - g_t) ** 2).mean()
    found = losses(make("fsp", pair(shapes, shapes), weight=7.0), student, teacher, TARGET, FIRST)
    assert float(found["flow"]) == pytest.approx(7 * expected, rel=1e-5)


def test_fsp_compares_models_whose_maps_differ_in_size() -> None:
    student = outputs(MAP)
    enlarged = tuple(stage.repeat_interleave(2, 2).repeat_interleave(2, 3) for stage in student.stages)
    found = losses(make("fsp", ALIKE), student, Outputs(student.logits, None, enlarged), TARGET, FIRST)
    assert float(found["flow"]) == pytest.approx(0, abs=1e-10)
    other = losses(
        make("fsp", ALIKE), outputs(MAP, seed=1), Outputs(student.logits, None, enlarged), TARGET, FIRST
    )
    assert float(other["flow"]) > 0.1


def test_fsp_refuses_other_channels_at_the_stages_that_meet() -> None:
    assert refusal("fsp", pair()) == (
        "it needs equal channels, but at the stages that meet, teacher 'T' has 3, 7 and student 'S' has 2, 5"
    )
    accepts("fsp", ALIKE)
    accepts("fsp", pair(LONGER, MAP))  # the first stage of the teacher has no partner
    assert "teacher 'T' has 2, 5 and student 'S' has 2, 6" in refusal(
        "fsp", pair(LONGER, FeatureShapes((3,), None, ((2, 4, 4), (6, 2, 2))))
    )


def test_fsp_refuses_a_single_stage() -> None:
    single = FeatureShapes((3,), None, ((5, 2, 2),))
    assert refusal("fsp", pair(MAP, single)) == "student 'S' has 1 stages, and 2 are needed"
    assert refusal("fsp", pair(single, MAP)) == "teacher 'T' has 1 stages, and 2 are needed"


# ab


@pytest.mark.parametrize(
    ("response", "where_active", "where_silent"),
    [
        (-2.0, 9.0, 0.0),
        (-1.0, 4.0, 0.0),
        (-0.5, 2.25, 0.25),
        (0.0, 1.0, 1.0),
        (1.0, 0.0, 4.0),
        (3.0, 0.0, 16.0),
    ],
)
def test_the_boundary_loss_by_hand(response: float, where_active: float, where_silent: float) -> None:
    at = torch.full((1, 1, 1, 1), response)
    assert float(boundary_loss(at, torch.ones(1, 1, 1, 1), 1.0)) == where_active
    assert float(boundary_loss(at, torch.zeros(1, 1, 1, 1), 1.0)) == where_silent


def test_the_margin_scales_the_boundary_loss() -> None:
    response, active = torch.randn(3, 2, 4, 4), (torch.randn(3, 2, 4, 4) > 0).float()
    wide, narrow = boundary_loss(2 * response, active, 2.0), boundary_loss(response, active, 1.0)
    assert float(wide) == pytest.approx(4 * float(narrow))


def test_the_boundary_loss_is_a_sum_over_elements_and_a_mean_over_images() -> None:
    found = boundary_loss(torch.zeros(5, 2, 3, 3), torch.ones(5, 2, 3, 3), 1.0)
    assert float(found) == 2 * 3 * 3


def answer(distiller: Any, value: float) -> None:
    """Make the connectors of ``ab`` answer with one value everywhere."""
    with torch.no_grad():
        for convolution, normalise in distiller.connectors:
            convolution.weight.zero_()
            normalise.bias.fill_(value)


def test_ab_weights_its_stages_by_hand() -> None:
    distiller = make("ab")
    answer(distiller, 0.5)
    active = losses(distiller, outputs(MAP), constant(WIDE, 2.0), TARGET, FIRST)
    # 3 × 4 × 4 elements at half the weight, 7 × 2 × 2 at the size of the student's map, each (1 − 0.5)²
    assert float(active["boundary"].detach()) == pytest.approx(0.003 * (48 / 2 + 28) * 0.25)
    silent = losses(distiller, outputs(MAP), constant(WIDE, 0.0), TARGET, FIRST)
    assert float(silent["boundary"].detach()) == pytest.approx(0.003 * (48 / 2 + 28) * 2.25)


def test_the_last_of_three_stages_of_ab_has_the_whole_weight() -> None:
    shapes = FeatureShapes((3,), None, ((2, 4, 4), (3, 4, 4), (4, 4, 4)))
    distiller = make("ab", pair(shapes, shapes), weight=1.0)
    answer(distiller, 0.0)
    found = losses(distiller, outputs(shapes), constant(shapes, 1.0), TARGET, FIRST)
    assert float(found["boundary"].detach()) == pytest.approx(16 * (2 / 4 + 3 / 2 + 4))


def test_ab_takes_the_mean_loss_of_the_neurons_that_fall_on_one_position() -> None:
    single = FeatureShapes((3,), None, ((2, 2, 2),))
    finer = FeatureShapes((3,), None, ((3, 4, 4),))
    distiller = make("ab", pair(finer, single), weight=1.0)
    answer(distiller, 0.25)
    teacher = outputs(finer, seed=3)
    neurons = [
        (1 - 0.25) ** 2 if value > 0 else (1 + 0.25) ** 2 for value in teacher.stages[0].flatten().tolist()
    ]
    found = losses(distiller, outputs(single), teacher, TARGET, FIRST)
    assert float(found["boundary"].detach()) == pytest.approx(sum(neurons) / 4 / 6, rel=1e-5)


def test_ab_is_the_same_before_and_after_the_teachers_relu() -> None:
    distiller, teacher = make("ab"), outputs(WIDE, seed=1)
    rectified = Outputs(teacher.logits, None, tuple(stage.relu() for stage in teacher.stages))
    before, after = (losses(distiller, outputs(MAP), given, TARGET, FIRST) for given in (teacher, rectified))
    assert float(before["boundary"].detach()) == float(after["boundary"].detach()) > 0


# ft


def test_the_factor_loss_by_hand() -> None:
    # (3, 4)/5 against (4, 3)/5, and (1, 0) against (0, 1)
    student, teacher = (
        maps([[[[3.0]], [[4.0]]], [[[2.0]], [[0.0]]]]),
        maps([[[[4.0]], [[3.0]]], [[[0.0]], [[9.0]]]]),
    )
    assert float(factor_loss(student, teacher)) == pytest.approx((0.2 + 0.2 + 1 + 1) / 4)


def test_the_factor_loss_does_not_see_the_length_of_an_images_factors() -> None:
    student, teacher = torch.randn(3, 2, 4, 4), torch.randn(3, 2, 4, 4)
    scaled = student * maps([0.1, 1.0, 30.0]).view(3, 1, 1, 1)
    assert float(factor_loss(scaled, teacher)) == pytest.approx(float(factor_loss(student, teacher)))
    assert float(factor_loss(scaled, student)) == pytest.approx(0, abs=1e-7)


def test_the_factors_have_a_share_of_the_teachers_channels() -> None:
    assert make("ft").encoder(torch.randn(2, 7, 4, 4)).shape == (2, 4, 4, 4)
    assert make("ft", rate=0.01).encoder(torch.randn(2, 7, 4, 4)).shape == (2, 1, 4, 4)
    wide = make("ft", rate=2.0)
    assert wide.translator(torch.randn(2, 5, 4, 4)).shape == (2, 14, 4, 4)
    assert wide.decoder(torch.randn(2, 14, 4, 4)).shape == (2, 7, 4, 4)


def test_the_paraphraser_learns_by_reconstruction_while_the_student_learns_from_labels() -> None:
    distiller, student, teacher = make("ft"), leaves(MAP), outputs(WIDE, seed=1)
    with torch.no_grad():
        distiller.decoder[-1].weight.zero_()
        distiller.decoder[-1].bias.fill_(1.0)
    pooled = teacher.stages[-1].numpy().reshape(6, 7, 2, 2, 2, 2).mean((3, 5))
    found = losses(distiller, student, teacher, TARGET, FIRST)
    assert set(found) == {"ce", "reconstruction"}
    assert float(found["reconstruction"].detach()) == pytest.approx(((1 - pooled) ** 2).mean(), rel=1e-5)


def test_the_reconstruction_trains_the_paraphraser_alone() -> None:
    distiller, student = make("ft"), leaves(MAP)
    losses(distiller, student, outputs(WIDE, seed=1), TARGET, FIRST)["reconstruction"].backward()
    assert all(reached([*distiller.encoder.parameters(), *distiller.decoder.parameters()]))
    assert not any(reached([student.logits, *student.stages, *distiller.translator.parameters()]))


def test_the_factors_train_the_student_and_its_translator_but_not_the_paraphraser() -> None:
    distiller, student = make("ft"), leaves(MAP)
    losses(distiller, student, outputs(WIDE, seed=1), TARGET, SECOND)["factor"].backward()
    paraphraser = [*distiller.encoder.parameters(), *distiller.decoder.parameters()]
    assert all(parameter.grad is None for parameter in paraphraser)
    assert reached(student.stages) == [False, True]
    assert all(reached(distiller.translator.parameters()))


def test_the_paraphraser_is_bitwise_frozen_after_the_first_stage() -> None:
    distiller, student, teacher = make("ft"), leaves(MAP), outputs(WIDE, seed=1)
    parameters = list(distiller.adapters().parameters())

    def step(progress: float) -> None:
        distiller.adapters().train()  # as the engine does when an epoch begins
        for parameter in parameters:
            parameter.grad = None
        sent(losses(distiller, student, teacher, TARGET, progress))
        with torch.no_grad():
            for parameter in parameters:
                if parameter.grad is not None:  # optimisers leave the others alone, weight decay included
                    parameter -= 0.05 * (parameter.grad + 0.1 * parameter)

    def state() -> dict[str, Tensor]:
        adapters = distiller.adapters().state_dict()
        return {name: value.clone() for name, value in adapters.items() if "translator" not in name}

    fresh = state()
    step(0.1)
    trained = state()
    assert not any(torch.equal(fresh[name], trained[name]) for name in fresh)
    step(0.125)
    step(0.9)
    frozen = state()
    assert all(torch.equal(trained[name], frozen[name]) for name in trained)


def test_ft_by_hand_on_its_factors() -> None:
    distiller, student, teacher = make("ft"), outputs(MAP), outputs(WIDE, seed=1)
    distiller.adapters().eval()
    pooled = nn.functional.adaptive_avg_pool2d(teacher.stages[-1], 2)
    with torch.no_grad():
        ours, theirs = (
            factor.flatten(1).numpy()
            for factor in (distiller.translator(student.stages[-1]), distiller.encoder(pooled))
        )
    gaps = [
        abs(a / np.linalg.norm(one) - b / np.linalg.norm(other))
        for one, other in zip(ours, theirs, strict=True)
        for a, b in zip(one, other, strict=True)
    ]
    found = losses(distiller, student, teacher, TARGET, SECOND)
    assert set(found) == {"ce", "factor"}
    assert float(found["factor"].detach()) == pytest.approx(500 * np.mean(gaps), rel=1e-4)


# mgd


def passing(distiller: Any) -> Any:
    """Make the generation block of ``mgd`` give back what it is shown, as long as that is not negative."""
    with torch.no_grad():
        for convolution in (distiller.generation[0], distiller.generation[2]):
            nn.init.dirac_(convolution.weight)
            convolution.bias.zero_()
    return distiller


def test_the_generation_loss_is_a_sum_over_elements_and_a_mean_over_images() -> None:
    generated, target = maps([[[[1.0, 2.0]]], [[[0.0, 4.0]]]]), maps([[[[0.0, 2.0]]], [[[3.0, 2.0]]]])
    assert float(generation_loss(generated, target)) == (1 + 0 + 9 + 4) / 2


def test_mgd_by_hand_without_a_mask() -> None:
    same = FeatureShapes((3,), None, ((5, 2, 2),))
    distiller = passing(make("mgd", pair(same, same), mask_ratio=0.0))
    student, teacher = outputs(same, seed=1), outputs(same, seed=2)
    student.stages[0].abs_()
    squares = ((student.stages[0] - teacher.stages[0]) ** 2).flatten().tolist()
    found = losses(distiller, student, teacher, TARGET)
    assert set(found) == {"ce", "generation"}
    assert float(found["generation"].detach()) == pytest.approx(7e-5 * sum(squares) / 6, rel=1e-5)


@pytest.mark.parametrize(("masked", "hidden"), [("positions", 5), ("channels", 16)])
def test_what_is_masked_is_missing_from_what_is_generated(masked: str, hidden: int) -> None:
    shapes = FeatureShapes((3,), None, ((5, 4, 4),))
    distiller = passing(make("mgd", pair(shapes, shapes), masked=masked, mask_ratio=0.5, weight=1.0))
    ones = constant(shapes, 1.0)
    torch.manual_seed(0)
    missing = round(float(losses(distiller, ones, ones, TARGET)["generation"].detach()) * 6)
    assert missing % hidden == 0  # a masked position lacks 5 channels, a masked channel 16 positions
    assert 0.3 < missing / (6 * 5 * 16) < 0.7


@pytest.mark.parametrize(("masked", "shape"), [("positions", (400, 1, 5, 5)), ("channels", (400, 25, 1, 1))])
def test_the_mask_hides_its_share(masked: Any, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    mask = random_mask(torch.ones(400, 25, 5, 5), 0.15, masked)
    assert mask.shape == shape
    assert set(mask.flatten().tolist()) == {0.0, 1.0}
    # 10,000 draws: the standard deviation of the share is 0.0036
    assert float(mask.mean()) == pytest.approx(0.85, abs=0.018)
    assert len({tuple(one.flatten().tolist()) for one in mask}) > 100  # images have masks of their own
    assert not torch.equal(mask, random_mask(torch.ones(400, 25, 5, 5), 0.15, masked))
    torch.manual_seed(0)
    assert torch.equal(mask, random_mask(torch.ones(400, 25, 5, 5), 0.15, masked))


def test_mgd_aligns_only_channels_that_differ() -> None:
    assert list(make("mgd", ALIKE).align.parameters()) == []
    assert make("mgd").align.weight.shape == (7, 5, 1, 1)


# all of them


@pytest.mark.parametrize(("name", "alone"), [("fsp", "flow"), ("ab", "boundary")])
def test_the_first_stage_has_its_term_alone_and_the_second_has_the_others(name: str, alone: str) -> None:
    student, teacher = outputs(MAP), outputs(LARGER, seed=1)
    for progress, terms in ((0.0, {alone}), (0.1249, {alone}), (0.125, {"ce", "kd"}), (1.0, {"ce", "kd"})):
        assert set(losses(make(name, ALIKE, kd=0.9), student, teacher, TARGET, progress)) == terms
        assert set(
            losses(make(name, ALIKE, kd=0.9, first_stage=0.0), student, teacher, TARGET, progress)
        ) == {
            "ce",
            "kd",
        }
    assert set(losses(make(name, ALIKE, first_stage=0.6), student, teacher, TARGET, 0.59)) == {alone}
    assert set(losses(make(name, ALIKE, first_stage=0.6), student, teacher, TARGET, 0.6)) == {"ce"}


def test_the_paraphrasers_stage_ends_by_progress() -> None:
    for progress, terms in ((0.1249, {"ce", "kd", "reconstruction"}), (0.125, {"ce", "kd", "factor"})):
        assert set(losses(make("ft", kd=0.9), outputs(MAP), outputs(WIDE), TARGET, progress)) == terms


@pytest.mark.parametrize("name", ["fsp", "ab"])
def test_the_classifier_learns_in_the_second_stage_only_and_the_stages_in_the_first(name: str) -> None:
    distiller, student, teacher = make(name, ALIKE), leaves(MAP), outputs(LARGER, seed=1)
    adapters = list(distiller.adapters().parameters())
    sent(losses(distiller, student, teacher, TARGET, FIRST))
    assert reached([student.logits, *student.stages]) == [False, True, True]
    assert all(parameter.grad is not None for parameter in adapters)
    later = leaves(MAP)
    for parameter in adapters:
        parameter.grad = None
    found = losses(distiller, later, teacher, TARGET, SECOND)
    sent(found)
    assert total(found) == pytest.approx(
        float(nn.functional.cross_entropy(later.logits, torch.tensor(TARGET)).detach()), rel=1e-6
    )
    assert reached([later.logits, *later.stages]) == [True, False, False]
    assert all(parameter.grad is None for parameter in adapters)


@pytest.mark.parametrize(("name", "stages"), [("vid", [True, True]), ("mgd", [False, True])])
def test_gradients_reach_the_student_and_all_adapters(name: str, stages: list[bool]) -> None:
    distiller, student = make(name), leaves(MAP)
    sent(losses(distiller, student, outputs(WIDE, seed=1), TARGET))
    assert reached([student.logits, *student.stages]) == [True, *stages]
    assert all(reached(distiller.adapters().parameters()))


@pytest.mark.parametrize("progress", [FIRST, SECOND])
@pytest.mark.parametrize("name", NAMES)
def test_the_features_of_both_models_stay_as_they_are(name: str, progress: float) -> None:
    student, teacher = outputs(MAP), outputs(LARGER, seed=1)
    before = [stage.clone() for stage in (*student.stages, *teacher.stages)]
    sent(losses(make(name, ALIKE, kd=0.5), leaves(MAP), teacher, TARGET, progress))
    losses(make(name, ALIKE, kd=0.5), student, teacher, TARGET, progress)
    after = (*student.stages, *teacher.stages)
    assert all(torch.equal(old, new) for old, new in zip(before, after, strict=True))


@pytest.mark.parametrize("name", ["vid", "ab", "fsp"])
@pytest.mark.parametrize("longer", ["student", "teacher"])
def test_unequal_stages_meet_from_the_end(name: str, longer: str) -> None:
    of = pair(MAP, LONGER) if longer == "student" else pair(LONGER, MAP)
    student, teacher = leaves(of.student_shapes), outputs(of.teacher_shapes, seed=1)
    accepts(name, of)
    sent(losses(make(name, of), student, teacher, TARGET, FIRST))
    assert reached(student.stages) == ([False, True, True] if longer == "student" else [True, True])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("progress", [FIRST, SECOND])
def test_tokens_are_maps(name: str, progress: float) -> None:
    wider = FeatureShapes(
        (3,), None, ((16, 6), (16, 6))
    )  # 4×4 tokens, where TOKENS has a class token and 2×2
    mapped = FeatureShapes((3,), None, ((6, 2, 2), (6, 2, 2)))
    for of in (pair(wider, TOKENS), pair(TOKENS, mapped), pair(mapped, TOKENS)):
        accepts(name, of)
        student, teacher = leaves(of.student_shapes), outputs(of.teacher_shapes, seed=1)
        found = losses(make(name, of), student, teacher, TARGET, progress)
        sent(found)
        assert math.isfinite(total(found))
    tokens, distiller = leaves(TOKENS), make(name, pair(TOKENS, TOKENS))
    as_maps = tuple(stage[:, 1:].transpose(1, 2).reshape(6, 6, 2, 2) for stage in tokens.stages)
    found = []
    for student in (tokens, Outputs(tokens.logits, None, as_maps)):
        torch.manual_seed(0)
        found.append(total(losses(distiller, student, outputs(TOKENS, seed=1), TARGET, progress)))
    assert found[0] == pytest.approx(found[1], rel=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_pairs_without_maps_are_refused(name: str) -> None:
    assert "student 'S' has no stages" in refusal(name, pair(MAP, FLAT))
    assert "teacher 'T' has no stages" in refusal(name, pair(FLAT, MAP))
    odd = FeatureShapes((3,), None, ((7, 6), (7, 6)))
    assert refusal(name, pair(odd, MAP)) == "the 7 tokens of teacher 'T' at stage 1 are no square"


@pytest.mark.parametrize("name", ["fsp", "ab"])
def test_a_second_stage_without_a_loss_is_refused(name: str) -> None:
    assert refusal(name, ALIKE, ce=0.0) == (
        "ce and kd are 0, so student 'S' learns nothing after the first stage"
    )
    accepts(name, ALIKE, ce=0.0, kd=1.0)


@pytest.mark.parametrize("name", ["fsp", "ab", "ft"])
def test_a_training_that_is_all_first_stage_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="first_stage"):
        make(name, ALIKE, first_stage=1.0)


@pytest.mark.parametrize("features", ["random", "zero", "constant", "identical"])
@pytest.mark.parametrize("progress", [FIRST, SECOND])
@pytest.mark.parametrize("name", NAMES)
def test_losses_and_gradients_stay_finite(name: str, progress: float, features: str) -> None:
    of = pair(MAP, MAP)
    student, teacher = leaves(MAP, scale=1e4), outputs(MAP, seed=1, scale=1e4)
    if features != "random":
        value = 0.0 if features == "zero" else 3.0
        teacher = Outputs(teacher.logits, None, constant(MAP, value).stages)
        if features == "identical":
            teacher = Outputs(teacher.logits, None, tuple(stage.detach().clone() for stage in student.stages))
        else:
            same = tuple(stage.requires_grad_() for stage in constant(MAP, value).stages)
            student = Outputs(student.logits, None, same)
    distiller = make(name, of, kd=1.0)
    found = losses(distiller, student, teacher, TARGET, progress)
    sent(found)
    assert math.isfinite(total(found))
    given = [student.logits, *student.stages, *distiller.adapters().parameters()]
    gradients = [tensor.grad for tensor in given if tensor.grad is not None]
    assert gradients and all(bool(torch.isfinite(gradient).all()) for gradient in gradients)
