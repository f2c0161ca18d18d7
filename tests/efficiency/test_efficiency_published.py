"""Counts against published ones: torchvision's of its models, and activations of the literature."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torchvision
from torch import nn

from kdbench.efficiency.counts import MultiplyAdds, count_multiply_adds, count_multiply_adds_torch
from kdbench.inputs import InputSpec

COUNTED_BY_TORCH_TOO = ("resnet18", "mobilenet_v3_small", "shufflenet_v2_x0_5")
TABLE = Path(__file__).parents[2] / "results" / "counts" / "counts.json"


def blank(name: str) -> nn.Module:
    """Return a model of zeros: counts do not depend on the weights, and their values take time."""
    with torch.device("meta"):
        model = torchvision.models.get_model(name)
    model = model.to_empty(device="cpu")
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data.zero_()
    return model


def counted(model: nn.Module) -> MultiplyAdds:
    return count_multiply_adds(model, InputSpec.image((3, 224, 224)))


@pytest.mark.parametrize(
    "name",
    [
        *COUNTED_BY_TORCH_TOO,
        "convnext_tiny",
        "efficientnet_b0",
        "squeezenet1_0",
        "swin_t",
        "vit_b_32",
    ],
)
def test_parameters_and_multiply_adds_are_those_that_torchvision_publishes(name: str) -> None:
    model = blank(name)
    published = torchvision.models.get_model_weights(name).DEFAULT.meta
    found = counted(model)
    assert sum(parameter.numel() for parameter in model.parameters()) == published["num_params"]
    assert round(found.headline / 1e9, 3) == published["_ops"]
    if name in COUNTED_BY_TORCH_TOO:
        assert count_multiply_adds_torch(model, InputSpec.image((3, 224, 224))) == found.headline


@pytest.mark.parametrize(("name", "millions"), [("resnet50", 11.1), ("resnet18", 2.5)])
def test_activations_are_those_of_the_literature(name: str, millions: float) -> None:
    """ResNet-50 as in Radosavovic et al. (2020); ResNet-18 by its layers, 2,483,712 and the 1,000 logits."""
    assert counted(blank(name)).activations / 1e6 == pytest.approx(millions, abs=0.05)


def test_the_committed_table_agrees_for_every_model() -> None:
    """It is of the versions that it names; benchmarks/counts.py writes it anew."""
    rows = json.loads(TABLE.read_text())["models"]
    assert len({row["model"] for row in rows}) >= 56
    for row in rows:
        assert row["params"] == row["params_published"], row["model"]
        assert row["gmacs"] == pytest.approx(row["gmacs_published"], abs=0.0005, rel=0.01), row["model"]
