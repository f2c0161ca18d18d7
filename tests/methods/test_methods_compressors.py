"""The compressors: what is decided, what is applied, and what stays so."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import prune

from kdbench.errors import UserError
from kdbench.inputs import InputSpec
from kdbench.methods.compressor import COMPRESSORS
from kdbench.models import build_model

SHAPE = (1, 8, 8)
INPUTS = InputSpec.image(SHAPE)
# What a compressor says of a model that it cannot work on.
REFUSED = {("low_rank", "gru_8"): "is recurrent", ("prune_channels", "gru_8"): "recurrent layers"}


def model_of(name: str) -> nn.Module:
    torch.manual_seed(0)
    return build_model(name, inputs=INPUTS, num_classes=10)


def compressed(name: str, model: nn.Module, **hyper: object) -> tuple[nn.Module, dict, object]:
    entry = COMPRESSORS.find(name)
    maker = entry.step(entry.parameters(**hyper))
    decision = maker.decide(model, iter([torch.randn(4, *SHAPE)]))
    return maker.apply(copy.deepcopy(model), json.loads(json.dumps(decision))), decision, maker


@pytest.mark.parametrize("name", COMPRESSORS.all())
@pytest.mark.parametrize("model", ["mlp_16", "cnn_4", "gru_8"])
def test_every_compressor_is_rebuilt_from_its_decision_alone(name, model):
    trained = model_of(model)
    if (name, model) in REFUSED:
        with pytest.raises(UserError, match=REFUSED[name, model]):
            compressed(name, trained)
        return
    before = copy.deepcopy(trained.state_dict())
    small, decision, _ = compressed(name, trained)
    after = small.state_dict()
    assert after.keys() != before.keys() or any(not torch.equal(before[key], after[key]) for key in after)
    assert all(torch.equal(before[key], value) for key, value in trained.state_dict().items())
    entry = COMPRESSORS.find(name)
    torch.manual_seed(1)
    rebuilt = entry.step(entry.parameters()).apply(
        build_model(model, inputs=INPUTS, num_classes=10), json.loads(json.dumps(decision))
    )
    rebuilt.load_state_dict(small.state_dict())
    x = torch.randn(3, *SHAPE)
    assert torch.equal(small.eval()(x), rebuilt.eval()(x))
    assert small(x).dtype == torch.float32


@pytest.mark.parametrize("scope", ["global", "layer"])
@pytest.mark.parametrize("sparsity", [0.5, 0.9, 0.973])
def test_pruning_agrees_with_torchs(scope, sparsity):
    trained = model_of("cnn_4")
    small, _, _ = compressed("prune_magnitude", trained, sparsity=sparsity, scope=scope)
    layers = [(m, "weight") for m in trained.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    if scope == "global":
        prune.global_unstructured(layers, pruning_method=prune.L1Unstructured, amount=sparsity)
    else:
        for layer, name in layers:
            prune.l1_unstructured(layer, name, amount=sparsity)
    for layer, name in layers:
        prune.remove(layer, name)
    expected = trained.state_dict()
    assert all(torch.equal(expected[key], value) for key, value in small.state_dict().items())


@given(st.integers(1, 400), st.floats(0.01, 0.99))
def test_the_number_of_zeros_is_exact_even_among_equals(count, sparsity):
    layer = nn.Linear(count, 1)
    nn.init.ones_(layer.weight)
    small, _, _ = compressed("prune_magnitude", nn.Sequential(layer), sparsity=sparsity)
    assert (small[0].weight == 0).sum() == int(sparsity * count + 0.5)


def test_zeros_are_held_while_it_trains_on():
    small, _, maker = compressed("prune_magnitude", model_of("mlp_16"), sparsity=0.8)
    zeros = {name: weight == 0 for name, weight in small.named_parameters() if weight.dim() > 1}
    optimizer = torch.optim.SGD(small.parameters(), lr=0.1, momentum=0.9)
    for _ in range(3):
        small(torch.randn(4, *SHAPE)).square().mean().backward()
        optimizer.step()
        maker.hold(small)
    for name, weight in small.named_parameters():
        if name in zeros:
            assert torch.equal(weight == 0, zeros[name])


def test_biases_and_normalisation_are_not_pruned():
    trained = model_of("cnn_4")
    small, decision, _ = compressed("prune_magnitude", trained, sparsity=0.9)
    kept = decision["kept"]
    for name, weight in small.named_parameters():
        assert (name in kept) == (weight.dim() > 1)


@pytest.mark.parametrize(("dtype", "digits"), [("bf16", 2**-8), ("fp16", 2**-11)])
def test_a_cast_rounds_every_weight_to_the_nearest(dtype, digits):
    trained = model_of("mlp_16")
    small, _, _ = compressed("cast", trained, dtype=dtype)
    for (_, exact), rounded in zip(trained.named_parameters(), small.parameters(), strict=True):
        assert rounded.element_size() == 2
        assert ((rounded.float() - exact).abs() <= digits * exact.abs() + 1e-7).all()


def test_what_fp16_cannot_hold_is_refused_with_the_weight():
    trained = model_of("mlp_16")
    with torch.no_grad():
        next(trained.parameters()).fill_(7e4)
    with pytest.raises(UserError, match=r"holds 7e\+04, beyond the 6\.55e\+04 of fp16: use dtype: bf16"):
        compressed("cast", trained, dtype="fp16")
