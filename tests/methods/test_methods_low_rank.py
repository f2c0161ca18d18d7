"""Low-rank factors: exact at full rank, nearest below it, and no more weights than are asked for."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from kdbench.errors import UserError
from kdbench.inputs import InputSpec
from kdbench.methods.base import Refusal
from kdbench.methods.compressor import COMPRESSORS
from kdbench.models import build_model
from kdbench.models.factorised import Factorised, factorised
from kdbench.models.index import Sketch


def low_rank(model: nn.Module, **hyper: Any) -> tuple[nn.Module, dict[str, int]]:
    entry = COMPRESSORS.find("low_rank")
    maker = entry.step(entry.parameters(**hyper))
    decision = maker.decide(model, [])
    return maker.apply(copy.deepcopy(model), decision), decision["ranks"]


def count(model: nn.Module) -> int:
    return sum(weight.numel() for weight in model.parameters() if weight.dim() > 1)


@settings(max_examples=40)
@given(
    st.integers(1, 5),
    st.integers(1, 5),
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.tuples(st.integers(1, 2), st.integers(1, 3)),
    st.one_of(st.just("valid"), st.tuples(st.integers(0, 2), st.integers(0, 2))),
    st.tuples(st.integers(1, 2), st.integers(1, 2)),
    st.booleans(),
    st.sampled_from(["zeros", "replicate"]),
)
def test_a_convolution_of_full_rank_is_the_convolution(m, n, kernel, stride, padding, dilation, bias, mode):
    torch.manual_seed(0)
    layer = nn.Conv2d(m, n, kernel, stride, padding, dilation, bias=bias, padding_mode=mode)
    small = factorised(layer, min(m * kernel[0], n * kernel[1]))
    x = torch.randn(2, m, 9, 10)
    torch.testing.assert_close(small(x), layer(x), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(small.weight, layer.weight, rtol=1e-5, atol=1e-5)


def test_a_convolution_that_keeps_the_size_is_one_at_full_rank():
    layer = nn.Conv2d(3, 4, (3, 5), padding="same")
    x = torch.randn(2, 3, 7, 7)
    torch.testing.assert_close(factorised(layer, 9)(x), layer(x), rtol=1e-5, atol=1e-5)


@given(st.integers(1, 9), st.integers(1, 9), st.booleans())
def test_a_linear_layer_of_full_rank_is_the_layer(m, n, bias):
    torch.manual_seed(0)
    layer = nn.Linear(m, n, bias=bias)
    small = factorised(layer, min(m, n))
    x = torch.randn(4, m)
    torch.testing.assert_close(small(x), layer(x), rtol=1e-5, atol=1e-5)
    assert (small.bias is None) == (layer.bias is None)


def test_a_lower_rank_errs_by_the_singular_values_that_it_leaves_out():
    torch.manual_seed(0)
    layer = nn.Linear(12, 9)
    values = np.linalg.svd(layer.weight.detach().double().numpy(), compute_uv=False)
    for rank in (1, 4, 8):
        error = (factorised(layer, rank).weight - layer.weight).norm().item()
        assert error == pytest.approx(np.sqrt((values[rank:] ** 2).sum()), rel=1e-5)


@pytest.mark.parametrize("keep", [0.3, 0.5, 0.7])
def test_it_keeps_at_most_the_share_of_weights_and_nearly_that(keep):
    torch.manual_seed(0)
    model = build_model("resnet8", inputs=InputSpec.image((3, 16, 16)), num_classes=10)
    small, ranks = low_rank(model, keep=keep)
    assert count(small) <= keep * count(model)
    # One rank more in the largest layer would be too many.
    largest = max(int(layer.weight.numel()) for layer in model.modules() if isinstance(layer, nn.Conv2d))
    assert count(small) > keep * count(model) - largest / 10
    assert all(isinstance(small.get_submodule(name), Factorised) for name in ranks)
    energies = []
    for name, rank in ranks.items():
        weight = model.get_submodule(name).weight.detach().double()
        if weight.dim() == 4:
            weight = weight.permute(0, 3, 1, 2).reshape(weight.shape[0] * weight.shape[3], -1)
        values = np.linalg.svd(weight.numpy(), compute_uv=False) ** 2
        energies.append((values[:rank].sum() / values.sum(), values[: rank - 1].sum() / values.sum()))
    # One energy: that of each layer is the first of its ranks at or above it.
    assert min(high for high, _ in energies) > max(low for _, low in energies)


def test_by_energy_each_rank_is_the_smallest_that_keeps_it():
    layer = nn.Linear(8, 8, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.diag(torch.tensor([4.0, 3, 2, 1, 0.5, 0, 0, 0])))
    # 16, 25, 29 and 30 of 30.25.
    for keep, rank in ((0.5, 1), (0.8, 2), (0.9, 3)):
        assert low_rank(nn.Sequential(layer), keep=keep, of="energy")[1] == {"0": rank}
    with pytest.raises(UserError, match=r"with 0\.98 of the energy kept no layer becomes smaller: keep less"):
        low_rank(nn.Sequential(layer), keep=0.98, of="energy")


def test_what_it_cannot_factorise_is_refused_by_name():
    with pytest.raises(UserError, match=r"'0' is recurrent"):
        low_rank(nn.Sequential(nn.GRU(4, 4), nn.Linear(9, 9)))
    tied = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6))
    tied[1].weight = tied[0].weight
    with pytest.raises(UserError, match=r"'1' and '0' share weights"):
        low_rank(tied)
    with pytest.raises(UserError, match="no linear or two-dimensional convolutional layer"):
        low_rank(nn.Sequential(nn.Conv1d(3, 3, 3)))
    broken = nn.Sequential(nn.Linear(6, 6))
    broken[0].weight.data[0, 0] = torch.nan
    with pytest.raises(UserError, match=r"'0\.weight' is not finite"):
        low_rank(broken)
    with pytest.raises(UserError, match=r"with rank 1 these layers have 40\.0% of their weights"):
        low_rank(nn.Sequential(nn.Linear(5, 5)), keep=0.3)


def test_the_plan_refuses_recurrent_networks():
    entry = COMPRESSORS.find("low_rank")
    sketch = Sketch.__new__(Sketch)
    object.__setattr__(sketch, "kinds", frozenset({"RNNBase", "Linear"}))
    with pytest.raises(Refusal, match="recurrent"):
        entry.step.check(entry.parameters(), sketch)


def test_grouped_convolutions_stay_and_others_go():
    model = nn.Sequential(nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 16, 1))
    small, ranks = low_rank(model, keep=0.9, of="weights")
    assert ranks.keys() == {"1"} and type(small[0]) is nn.Conv2d


def test_a_layer_that_reads_weights_of_its_layers_still_works():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 2, 64, batch_first=True).eval()
    small, ranks = low_rank(nn.Sequential(layer), keep=0.9)
    assert set(ranks) <= {"0.linear1", "0.linear2"} and ranks
    with torch.no_grad():
        assert small.eval()(torch.randn(2, 5, 16)).shape == (2, 5, 16)
