"""The zoo against published counts, and names that are wrong."""

from __future__ import annotations

import pytest
import torch

from kdbench.efficiency import count
from kdbench.errors import UserError
from kdbench.inputs import InputSpec
from kdbench.models import build_model, families, model_names

RGB = InputSpec.image((3, 32, 32))

# Parameters and multiply-adds (millions) at 32x32 and 100 classes: the models of the CRD tables.
GOLDEN = {
    "resnet8": (83_892, 12.51),
    "resnet14": (181_108, 26.66),
    "resnet20": (278_324, 40.82),
    "resnet32": (472_756, 69.13),
    "resnet44": (667_188, 97.44),
    "resnet56": (861_620, 125.75),
    "resnet110": (1_736_564, 253.16),
    "resnet8x4": (1_233_540, 177.07),
    "resnet32x4": (7_433_860, 1083.04),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_counts_match_the_published_tables(name: str) -> None:
    params, macs = GOLDEN[name]
    model = build_model(name, inputs=RGB, num_classes=100)
    assert sum(parameter.numel() for parameter in model.parameters()) == params
    assert round(count(model, RGB).macs / 1e6, 2) == macs


def test_every_resnet_of_the_zoo_has_a_golden_count() -> None:
    assert set(families()["resnet"].examples) - set(GOLDEN) == {"resnet14x4"}, "an assistant, in no table"


def test_the_perceptron_of_the_article_is_784_128_10() -> None:
    model = build_model("mlp_128", inputs=InputSpec.image((1, 28, 28)), num_classes=10)
    shapes = [tuple(parameter.shape) for parameter in model.parameters()]
    assert shapes == [(128, 784), (128,), (10, 128), (10,)]


@pytest.mark.parametrize("name", model_names())
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32)])
def test_every_model_takes_small_and_colour_images(name: str, shape: tuple[int, int, int]) -> None:
    model = build_model(name, inputs=InputSpec.image(shape), num_classes=7).eval()
    assert model(torch.zeros(2, *shape)).shape == (2, 7)


def test_the_row_gru_sees_the_order_of_rows_and_every_channel() -> None:
    model = build_model("gru_8", inputs=InputSpec.image((2, 4, 4)), num_classes=3).eval()
    image = torch.randn(1, 2, 4, 4)
    assert not torch.allclose(model(image), model(image.flip(2)))
    changed = image.clone()
    changed[:, 1] += 1
    assert not torch.allclose(model(image), model(changed))


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("resnet2O", {}, "unknown model 'resnet2O'. Did you mean 'resnet20'?"),
        ("torchvision:resnet19", {}, "unknown torchvision model 'resnet19'. Did you mean 'resnet1"),
        ("mlp_8", {"dropuot": 0.1}, "model 'mlp_8' takes no argument 'dropuot'. Did you mean 'dropout'?"),
        *(
            (name, {}, f"unknown model '{name}'")
            for name in ("mlp_0", "mlp_8_0", "cnn_0", "gru_00", "vit_0_4")
        ),
        *((name, {}, f"unknown model '{name}'") for name in ("resnet8x0", "wrn_16_0", "mlp_٣", "mlp_100000")),
        ("nowhere.py:net", {}, "nowhere.py"),
        ("kdbench.nowhere:net", {}, "kdbench.nowhere"),
    ],
)
def test_wrong_names_say_what_is_right(name: str, args: dict[str, float], message: str) -> None:
    with pytest.raises(UserError) as caught:
        build_model(name, inputs=RGB, num_classes=10, args=args)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_factory_in_a_file_gets_what_its_signature_takes(tmp_path) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "mine.py"
    file.write_text(
        "from torch import nn\n"
        "def net(in_channels, num_classes, width=3):\n"
        "    return nn.Sequential(nn.Conv2d(in_channels, width, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(),\n"
        "                         nn.Linear(width, num_classes))\n"
        "def broken(num_classes):\n"
        "    raise RuntimeError('no such thing')\n"
        "def not_a_model(num_classes):\n"
        "    return 3\n"
    )
    model = build_model(f"{file}:net", inputs=InputSpec.image((2, 8, 8)), num_classes=5, args={"width": 4})
    assert model(torch.zeros(1, 2, 8, 8)).shape == (1, 5)
    with pytest.raises(UserError, match="could not be built: RuntimeError: no such thing"):
        build_model(f"{file}:broken", inputs=InputSpec.image((2, 8, 8)), num_classes=5)
    with pytest.raises(UserError, match="returned int, not a torch"):
        build_model(f"{file}:not_a_model", inputs=InputSpec.image((2, 8, 8)), num_classes=5)
