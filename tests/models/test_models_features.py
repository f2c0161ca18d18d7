"""Taps: found on every kind of model, named by a user, without touching the model."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kdbench.errors import UserError
from kdbench.inputs import InputSpec
from kdbench.models import FeatureReader, Taps, build_model, feature_shapes, find_taps
from kdbench.models.features import run_example

RGB = InputSpec.image((3, 32, 32))
GREY = InputSpec.image((1, 8, 8))
LARGER = InputSpec.image((3, 64, 64))

ALL = frozenset({"logits", "pooled", "stages"})


@pytest.mark.parametrize(
    ("name", "pooled", "stages"),
    [
        ("mlp_32_16", (16,), ()),
        ("gru_32", (32,), ()),
        ("cnn_8", (32,), ((8, 32, 32), (16, 16, 16), (32, 8, 8))),
        ("resnet20", (64,), ((16, 32, 32), (32, 16, 16), (64, 8, 8))),
        ("resnet8x4", (256,), ((64, 32, 32), (128, 16, 16), (256, 8, 8))),
    ],
)
def test_taps_are_found(name: str, pooled: tuple[int, ...], stages: tuple[tuple[int, ...], ...]) -> None:
    model = build_model(name, inputs=RGB, num_classes=10)
    shapes = feature_shapes(model, find_taps(model, RGB), RGB)
    assert (shapes.logits, shapes.pooled, shapes.stages) == ((10,), pooled, stages)


def test_stages_of_torchvisions_resnet_and_blocks_of_its_transformer() -> None:
    with torch.device("meta"):
        resnet = build_model("torchvision:resnet18", inputs=LARGER, num_classes=10)
        transformer = build_model(
            "torchvision:vit_b_16", inputs=InputSpec.image((3, 224, 224)), num_classes=10
        )
    taps = find_taps(resnet, LARGER)
    assert taps == Taps(("relu", "layer1", "layer2", "layer3", "layer4"), "fc")
    taps = find_taps(transformer, InputSpec.image((3, 224, 224)))
    assert [name.rpartition("_")[2] for name in taps.stages] == ["2", "5", "8", "11"]
    shapes = feature_shapes(transformer, taps, InputSpec.image((3, 224, 224)))
    assert shapes.stages == ((197, 768),) * 4 and shapes.pooled == (768,)


@pytest.mark.parametrize(
    ("name", "widths"),
    [
        ("resnet50", (64, 256, 512, 1024, 2048)),
        ("mobilenet_v2", (16, 24, 32, 96, 1280)),
        ("shufflenet_v2_x1_0", (24, 24, 116, 232, 1024)),
    ],
)
def test_taps_lie_between_bottleneck_blocks_not_inside_them(name: str, widths: tuple[int, ...]) -> None:
    with torch.device("meta"):
        model = build_model(f"torchvision:{name}", inputs=LARGER, num_classes=10)
    shapes = feature_shapes(model, find_taps(model, LARGER), LARGER)
    sides = (32, 16, 8, 4, 2)
    assert shapes.stages == tuple((width, side, side) for width, side in zip(widths, sides, strict=True))


def test_features_are_what_the_model_computes() -> None:
    torch.manual_seed(0)
    model = build_model("cnn_4", inputs=GREY, num_classes=3).eval()
    reader = FeatureReader(model, find_taps(model, GREY), ALL)
    x = torch.randn(5, 1, 8, 8)
    outputs = reader(x)
    assert outputs.pooled is not None
    torch.testing.assert_close(outputs.stages[-1].mean((2, 3)), outputs.pooled)
    torch.testing.assert_close(model.head(outputs.pooled), outputs.logits)
    reader.close()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_only_what_is_needed_is_collected() -> None:
    model = build_model("cnn_4", inputs=GREY, num_classes=3)
    outputs = FeatureReader(model, find_taps(model, GREY), frozenset({"logits"}))(torch.zeros(2, 1, 8, 8))
    assert outputs.pooled is None and outputs.stages == ()


def test_finding_taps_leaves_the_model_as_it_was() -> None:
    model = build_model("cnn_4", inputs=GREY, num_classes=3)
    model.stages[0].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    find_taps(model, GREY)
    assert model.training and not model.stages[0].training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_wrong_taps_and_wrong_inputs_are_named() -> None:
    model = build_model("cnn_4", inputs=GREY, num_classes=3)
    with pytest.raises(UserError, match=r"no module 'haed'. Did you mean 'head'"):
        FeatureReader(model, Taps(("haed",)), ALL)
    with pytest.raises(UserError, match="cannot take inputs of 3 × 8 × 8"):
        run_example(model, InputSpec.image((3, 8, 8)))
    with pytest.raises(UserError, match="must return logits of shape"):
        run_example(torch.nn.Conv2d(1, 2, 3), GREY)


def test_a_module_that_runs_at_several_sizes_is_no_tap() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 6, 3, padding=1)
            self.pool, self.head = nn.MaxPool2d(2), nn.Linear(6 * 4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.pool(self.first(x))
            return self.head(self.pool(self.second(x)).flatten(1))

    taps = find_taps(Shared(), GREY)
    assert taps.stages == ("first", "second")
    assert feature_shapes(Shared(), taps, GREY).stages == ((4, 8, 8), (6, 4, 4))


@pytest.mark.parametrize(
    ("name", "widths"),
    [("efficientnet_b0", (16, 24, 40, 112, 1280)), ("mobilenet_v3_small", (16, 16, 24, 48, 576))],
)
def test_squeeze_and_excitation_does_not_move_the_taps_into_blocks(
    name: str, widths: tuple[int, ...]
) -> None:
    with torch.device("meta"):
        model = build_model(f"torchvision:{name}", inputs=LARGER, num_classes=10)
    shapes = feature_shapes(model, find_taps(model, LARGER), LARGER)
    assert tuple(stage[0] for stage in shapes.stages) == widths


def test_maps_with_channels_last_are_not_taken_for_maps() -> None:
    with torch.device("meta"):
        model = build_model("torchvision:convnext_tiny", inputs=LARGER, num_classes=10)
    shapes = feature_shapes(model, find_taps(model, LARGER), LARGER)
    assert shapes.stages == ((96, 16, 16), (192, 8, 8), (384, 4, 4), (768, 2, 2))


def test_blocks_of_a_transformer_are_tapped_at_even_distances() -> None:
    model = build_model("vit_32_6", inputs=RGB, num_classes=10)
    assert find_taps(model, RGB).stages == (
        "blocks.1",
        "blocks.2",
        "blocks.4",
        "blocks.5",
    )


def test_a_model_that_cannot_take_the_images_is_one_line() -> None:
    model = build_model("torchvision:vit_b_32", inputs=RGB, num_classes=10)
    with pytest.raises(UserError, match="cannot take inputs of 3 × 32 × 32"):
        run_example(model, RGB)
