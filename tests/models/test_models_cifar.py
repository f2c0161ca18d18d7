"""The CIFAR zoo beyond resnets: published counts, taps, small images, and what makes each family itself."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from kdbench.efficiency import count
from kdbench.errors import UserError
from kdbench.inputs import InputSpec
from kdbench.models import FeatureReader, build_model, feature_shapes, find_taps
from kdbench.models.zoo.resnet_bottleneck import BottleneckResNet
from kdbench.models.zoo.shufflenet_v1 import Interleave
from kdbench.models.zoo.shufflenet_v2 import SplitUnit
from kdbench.models.zoo.vit import SelfAttention, VisionTransformer

RGB = InputSpec.image((3, 32, 32))
GREY = InputSpec.image((1, 8, 8))

# Parameters and multiply-adds (millions) at 32x32 and 100 classes: the models of the CRD tables.
GOLDEN = {
    "wrn_16_1": (180_916, 26.66),
    "wrn_16_2": (703_284, 101.12),
    "wrn_40_1": (569_780, 83.29),
    "wrn_40_2": (2_255_156, 327.61),
    "vgg8": (3_965_028, 96.19),
    "vgg13": (9_462_180, 284.94),
    "MobileNetV2": (812_836, 6.52),
    "ShuffleV1": (949_258, 38.69),
    "ShuffleV2": (1_355_528, 44.50),
    "ResNet50": (23_705_252, 1298.01),
}

ONE_OF_EACH_FAMILY = (
    "wrn_16_1",
    "vgg8",
    "MobileNetV2",
    "ShuffleV1",
    "ShuffleV2",
    "ResNet50",
    "vit_64_4",
)


@pytest.mark.parametrize("name", GOLDEN)
def test_counts_match_the_published_tables(name: str) -> None:
    params, macs = GOLDEN[name]
    with torch.device("meta"):
        model = build_model(name, inputs=RGB, num_classes=100)
    counts = count(model.to_empty(device="cpu"), RGB)  # weights would take longer than the count
    assert counts.params == params
    assert counts.macs is not None and round(counts.macs / 1e6, 2) == macs
    assert counts.macs_torch == counts.macs


@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("wrn_16_2", ((32, 32, 32), (64, 16, 16), (128, 8, 8))),
        ("wrn_40_1", ((16, 32, 32), (32, 16, 16), (64, 8, 8))),
        ("wrn_40_2", ((32, 32, 32), (64, 16, 16), (128, 8, 8))),
        ("vgg8", ((64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4))),
        ("vgg13", ((64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4))),
        ("MobileNetV2", ((12, 16, 16), (16, 8, 8), (48, 4, 4), (1280, 2, 2))),
        ("ShuffleV1", ((24, 32, 32), (240, 16, 16), (480, 8, 8), (960, 4, 4))),
        ("ShuffleV2", ((24, 32, 32), (116, 16, 16), (232, 8, 8), (1024, 4, 4))),
        ("ResNet50", ((256, 32, 32), (512, 16, 16), (1024, 8, 8), (2048, 4, 4))),
        ("vit_64_4", ((64, 64),) * 4),
        ("vit_128_6", ((64, 128),) * 4),
    ],
)
def test_stages_have_the_widths_of_the_paper(name: str, stages: tuple[tuple[int, ...], ...]) -> None:
    assert _stage_shapes(name, (3, 32, 32)) == stages


@pytest.mark.parametrize("name", ONE_OF_EACH_FAMILY)
def test_the_linear_layer_classifies_the_mean_of_the_last_stage(name: str) -> None:
    torch.manual_seed(0)
    model = _small(name, (3, 32, 32), 5).eval()
    reader = FeatureReader(model, find_taps(model, RGB), frozenset({"pooled", "stages"}))
    with torch.no_grad():
        outputs = reader(torch.randn(2, 3, 32, 32))
        last = outputs.stages[-1]
        mean = last.mean(1) if last.dim() == 3 else last.mean((2, 3))
        assert outputs.pooled is not None and outputs.pooled.std() > 0
        torch.testing.assert_close(mean, outputs.pooled)
        torch.testing.assert_close(model.head(mean), outputs.logits)


@pytest.mark.parametrize("name", ONE_OF_EACH_FAMILY)
@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28)])
def test_small_grey_images_are_told_apart(name: str, shape: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    logits = _small(name, shape, 7)(torch.randn(4, *shape))
    assert logits.shape == (4, 7) and logits.isfinite().all()
    assert (logits.std(0) > 1e-4).all()


@pytest.mark.parametrize("name", ONE_OF_EACH_FAMILY)
def test_the_gradient_reaches_every_parameter(name: str) -> None:
    torch.manual_seed(0)
    model = _small(name, (1, 16, 16), 3)
    nn.functional.cross_entropy(model(torch.randn(6, 1, 16, 16)), torch.arange(6) % 3).backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), key
        # Batch-norm takes out again what a bias before it adds, so vgg's have no gradient but rounding.
        assert parameter.grad.any() or (name == "vgg8" and key.endswith("bias")), key


def test_dropout_of_a_wide_residual_network_acts_in_training_only() -> None:
    model = build_model("wrn_16_1", inputs=GREY, num_classes=3, args={"dropout": 0.5})
    images = torch.randn(4, 1, 8, 8)
    model.eval()
    assert torch.equal(model(images), model(images))
    model.train()
    assert not torch.equal(model(images), model(images))


@pytest.mark.parametrize(
    ("side", "sides"), [(64, [64, 32, 16, 8, 4]), (32, [32, 16, 8, 4]), (28, [28, 14, 7, 3]), (8, [8, 4])]
)
def test_vgg_halves_a_map_only_while_it_is_larger_than_4(side: int, sides: list[int]) -> None:
    shapes = _stage_shapes("vgg8", (1, side, side))
    assert [shape[1] for shape in shapes] == sides
    assert shapes[-1][0] == 512


def test_interleaving_deals_out_the_groups_in_turn() -> None:
    channels = torch.arange(6.0).reshape(1, 6, 1, 1)
    assert Interleave(3)(channels).flatten().tolist() == [0, 2, 4, 1, 3, 5]


def test_a_unit_of_shufflenet_v2_passes_half_of_the_channels_on() -> None:
    torch.manual_seed(0)
    unit = SplitUnit(8, 8, halve=False).eval()
    images = torch.randn(2, 8, 5, 5)
    made = unit(images)
    assert torch.equal(made[:, 0::2], images[:, :4])
    changed = images.clone()
    changed[:, :4] += 1
    assert torch.equal(unit(changed)[:, 1::2], made[:, 1::2])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mobilenetv2", "Did you mean 'MobileNetV2'?"),
        ("shufflev1", "Did you mean 'ShuffleV1'?"),
        ("resnet50", "Did you mean 'ResNet50'?"),
        ("wrn_4O_2", "Did you mean 'wrn_40_2'?"),
        ("wrn_39_2", "Did you mean 'wrn_"),
        ("wrn_40_0", "Did you mean 'wrn_40_"),
        ("vgg12", "Did you mean 'vgg1"),
        ("vit_64", "Did you mean 'vit_64_4'?"),
        ("vit_0_4", "Did you mean 'vit_"),
    ],
)
def test_wrong_names_say_what_is_right(name: str, message: str) -> None:
    with pytest.raises(UserError, match=f"^unknown model '{name}'") as caught:
        build_model(name, inputs=RGB, num_classes=10)
    assert message in str(caught.value)


def test_counts_of_the_transformer_follow_its_formula() -> None:
    width, depth, tokens, values, classes = 64, 4, 64, 3 * 4 * 4, 100
    counts = count(
        build_model("vit_64_4", inputs=RGB, num_classes=classes),
        RGB,
    )
    maps, products = 12 * tokens * width**2, 2 * tokens**2 * width
    assert counts.macs == tokens * values * width + depth * (maps + products) + width * classes
    assert counts.macs_by_operator["scaled_dot_product_attention"] == depth * products
    block = 12 * width**2 + 13 * width
    ends = (values + 1) * width + tokens * width + 2 * width + (width + 1) * classes
    assert counts.params == depth * block + ends


def test_attention_follows_its_formula() -> None:
    torch.manual_seed(0)
    attention = SelfAttention(width=6, heads=2)
    tokens = torch.randn(2, 5, 6)
    query, key, value = attention.query_key_value(tokens).split(6, dim=2)
    mixed = torch.zeros(2, 5, 6)
    for image in range(2):
        for head in (slice(0, 3), slice(3, 6)):
            for row in range(5):
                scores = key[image, :, head] @ query[image, row, head] / 3**0.5
                mixed[image, row, head] = scores.softmax(0) @ value[image, :, head]
    torch.testing.assert_close(attention(tokens), attention.out(mixed))


def test_the_transformer_knows_where_a_patch_lies_by_its_positions_alone() -> None:
    torch.manual_seed(0)
    model = build_model("vit_32_2", inputs=GREY, num_classes=3).eval()
    assert isinstance(model, VisionTransformer)
    images = torch.randn(2, 1, 8, 8)
    moved = _swap_patches(images)
    with torch.no_grad():
        assert not torch.allclose(model(images), model(moved), atol=1e-4)
        model.positions.zero_()
        torch.testing.assert_close(model(images), model(moved))


@pytest.mark.parametrize(
    ("side", "args", "tokens"),
    [
        (8, {}, 16),
        (14, {}, 49),
        (16, {}, 16),
        (28, {}, 49),
        (32, {}, 64),
        (32, {"patch": 8}, 16),
        (32, {"patch": 2}, 256),
    ],
)
def test_the_patch_follows_from_the_image_unless_it_is_given(
    side: int, args: dict[str, int], tokens: int
) -> None:
    model = build_model("vit_16_2", inputs=InputSpec.image((3, side, side)), num_classes=3, args=args)
    assert model.positions.shape == (1, tokens, 16)


@pytest.mark.parametrize(("name", "heads"), [("vit_16_2", 1), ("vit_64_4", 2), ("vit_192_6", 6)])
def test_a_head_has_32_entries(name: str, heads: int) -> None:
    model = build_model(name, inputs=GREY, num_classes=3)
    assert {block.attention[1].heads for block in model.blocks} == {heads}


@pytest.mark.parametrize(
    ("name", "shape", "args", "message"),
    [
        ("vit_64_4", (3, 30, 30), {}, "images of 30×30 pixels cannot be cut into patches of 4×4"),
        ("vit_64_4", (3, 32, 30), {}, "images of 32×30 pixels cannot be cut into patches of 4×4"),
        ("vit_64_4", (1, 9, 9), {}, "images of 9×9 pixels cannot be cut into patches of 2×2"),
        ("vit_64_4", (3, 32, 32), {"patch": 5}, "set its argument 'patch' to a divisor of both sides"),
        ("vit_64_4", (3, 32, 32), {"patch": 0}, "cannot be cut into patches of 0×0"),
        ("vit_100_4", (3, 32, 32), {}, "its width cannot be shared among 3 heads"),
        ("vit_64_4", (3, 32, 32), {"heads": 5}, "set its argument 'heads' to a divisor of 64"),
        ("vit_64_4", (3, 32, 32), {"haeds": 4}, "takes no argument 'haeds'. Did you mean 'heads'?"),
    ],
)
def test_what_the_transformer_cannot_do_is_said(
    name: str, shape: tuple[int, int, int], args: dict[str, int], message: str
) -> None:
    with pytest.raises(UserError, match=f"^model '{name}'") as caught:
        build_model(name, inputs=InputSpec.image(shape), num_classes=10, args=args)
    assert message in str(caught.value)


def _small(name: str, input_shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Build a model by name; of ResNet50 only a stem and two short stages, since it takes seconds."""
    if name == "ResNet50":
        return BottleneckResNet((1, 2), input_shape[0], classes)
    return build_model(name, inputs=InputSpec.image(input_shape), num_classes=classes)


def _stage_shapes(name: str, input_shape: tuple[int, int, int]) -> tuple[tuple[int, ...], ...]:
    with torch.device("meta"):
        model = build_model(name, inputs=InputSpec.image(input_shape), num_classes=10)
    shapes = feature_shapes(
        model, find_taps(model, InputSpec.image(input_shape)), InputSpec.image(input_shape)
    )
    last = shapes.stages[-1]
    assert shapes.pooled == (last[1] if len(last) == 2 else last[0],)
    return shapes.stages


def _swap_patches(images: Tensor) -> Tensor:
    """Exchange the 2×2 patch in the upper left corner with that in the lower right one."""
    swapped = images.clone()
    swapped[..., :2, :2], swapped[..., -2:, -2:] = images[..., -2:, -2:], images[..., :2, :2]
    return swapped
