"""Runtimes: each computes what eager mode computes, and one that does not is not timed."""

from __future__ import annotations

import functools
import sys

import pytest
import torch
from torch import Tensor, nn

from kdbench.efficiency import runtimes
from kdbench.efficiency.runtimes import check_parity, prepare
from kdbench.errors import UserError
from kdbench.place import Place


class Seen(nn.Module):
    """Notes how it is called."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(2, 3, 3)
        self.seen: list[tuple[bool, bool]] = []

    def forward(self, images: Tensor) -> Tensor:
        weight = self.convolution.weight
        self.seen.append((self.training, weight.is_contiguous(memory_format=torch.channels_last)))
        return self.convolution(images)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5))


IMAGES = torch.randn(3, 2, 8, 8).contiguous(memory_format=torch.channels_last)


def test_eager_runs_in_evaluation_mode_and_channels_last_and_can_still_be_trained() -> None:
    model = Seen()
    call = prepare(model, IMAGES, Place("cpu", 3))
    with torch.inference_mode():
        call()
    assert model.seen == [(False, True)]
    model.convolution(torch.zeros(1, 2, 4, 4)).sum().backward()


@pytest.mark.parametrize("runtime", ["export", "onnx", "compile"])
def test_every_runtime_computes_what_eager_mode_does(runtime: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if runtime == "onnx":
        pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")
    # The compiler of C++ takes half a minute; what is ours is how a model is handed over.
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    model = network().eval()
    call = prepare(model, IMAGES, Place("cpu", 3, runtime=runtime))
    with torch.inference_mode():
        output, expected = call(), model(IMAGES)
    found = torch.from_numpy(output[0]) if runtime == "onnx" else output
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_models_of_one_class_do_not_share_what_was_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[object] = []

    def backend(graph, inputs):
        compiled.append(graph)
        return graph.forward

    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))
    limit = torch._dynamo.config.recompile_limit
    models = [network() for _ in range(limit + 2)]
    calls = [prepare(model, IMAGES, Place("cpu", 3, runtime="compile")) for model in models]
    with torch.inference_mode():
        for call in calls:
            call()
    # Beyond the limit dynamo would have gone back to eager mode and said nothing.
    assert len(compiled) == limit + 2


def test_an_output_that_differs_is_refused_with_the_figures() -> None:
    place = Place("cpu", 1, runtime="onnx")
    expected = torch.tensor([[0.0, 10.0]])
    check_parity(lambda: expected + 0.009, lambda: expected, place)
    with pytest.raises(UserError) as error:
        check_parity(lambda: expected + 0.5, lambda: expected, place)
    assert str(error.value) == (
        "the output of ONNX Runtime in fp32 differs from that of eager fp32 by 0.5 where the largest is 10; "
        "allowed is 0.1% of that"
    )
    with pytest.raises(UserError, match="differs"):
        check_parity(lambda: expected * float("nan"), lambda: expected, place)
    with pytest.raises(UserError, match=r"shape \(2,\), eager mode \(1, 2\)"):
        check_parity(lambda: expected[0], lambda: expected, place)
    with pytest.raises(UserError, match="the model returns tuple"):
        check_parity(lambda: (expected,), lambda: expected, place)


def test_bf16_needs_a_processor_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes, "native_bf16", lambda device: False)
    with pytest.raises(UserError, match="bf16 is not native on this CPU"):
        prepare(network(), IMAGES, Place("cpu", 3, precision="bf16"))
    monkeypatch.setattr(runtimes, "native_bf16", lambda device: True)
    model = network()
    call = prepare(model, IMAGES, Place("cpu", 3, precision="bf16"))
    with torch.inference_mode():
        assert call().dtype == torch.bfloat16
    # The model of the other places keeps its weights.
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    with pytest.raises(UserError, match="ONNX Runtime is timed in fp32 only"):
        prepare(model, IMAGES, Place("cpu", 3, precision="bf16", runtime="onnx"))


def test_an_extra_that_is_not_installed_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes, "find_spec", lambda name: None if name == "onnxruntime" else sys)
    with pytest.raises(UserError, match=r"onnxruntime is not installed: pip install 'kdbench\[onnx\]'"):
        prepare(network(), IMAGES, Place("cpu", 3, runtime="onnx"))


def test_a_model_that_cannot_be_exported_raises_what_torch_says() -> None:
    class Branches(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.flatten(1) if images.sum() > 0 else -images.flatten(1)

    with pytest.raises(Exception, match="data-dependent"):
        prepare(Branches(), IMAGES, Place("cpu", 3, runtime="export"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("runtime", ["graph", "export"])
def test_a_cuda_runtime_computes_what_eager_mode_does(runtime: str) -> None:
    model, images = network(), IMAGES.cuda()
    call = prepare(model, images, Place("cuda", 3, runtime=runtime))
    with torch.inference_mode():
        torch.testing.assert_close(call().cpu(), model(images).cpu(), rtol=1e-3, atol=1e-4)
