"""Counts against closed forms, torchvision's published figures and torch's own counter."""

from __future__ import annotations

import logging
import re

import pytest
import safetensors.torch
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from kdbench.efficiency import count
from kdbench.efficiency.counts import (
    OF_THE_TRACE,
    count_multiply_adds,
    count_multiply_adds_torch,
    count_nonzero,
    serialized_bytes,
)
from kdbench.efficiency.operators import is_plain
from kdbench.inputs import InputSpec

SMALL = InputSpec.image((1, 4, 4))
ROWS = InputSpec.image((1, 6, 8))


class Sequences(nn.Module):
    """Feeds an image's rows to a recurrent layer as a sequence."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, images: Tensor) -> Tensor:
        return self.layer(images[:, 0])[0]


class Computes(nn.Module):
    """A model of one expression."""

    def __init__(self, expression) -> None:
        super().__init__()
        self.expression = expression

    def forward(self, images: Tensor) -> Tensor:
        return self.expression(images)


@settings(max_examples=15, deadline=None)
@given(
    groups=st.sampled_from([1, 2, 4]),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 2),
    size=st.integers(3, 8),
)
def test_convolution_is_output_times_kernel_over_groups(
    groups: int, kernel: int, stride: int, size: int
) -> None:
    convolution = nn.Conv2d(4, 8, kernel, stride=stride, groups=groups)
    side = (size - kernel) // stride + 1
    counted = count_multiply_adds(convolution, InputSpec.image((4, size, size)))
    assert counted.headline == side * side * 8 * (4 // groups) * kernel * kernel
    assert counted.by_operator == {"conv": counted.headline}


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (lambda x: nn.functional.conv1d(x[0], torch.zeros(6, 8, 3), padding="same"), 4 * 8 * 6 * 8 * 3),
        (lambda x: nn.functional.conv2d(x, torch.zeros(6, 4, 4, 4), padding="same"), 64 * 6 * 4 * 16),
        (lambda x: nn.functional.conv2d(x, torch.zeros(4, 1, 5, 5), padding="same", groups=4), 64 * 4 * 25),
        (lambda x: nn.functional.conv2d(x, torch.zeros(6, 4, 3, 3), padding="valid"), 36 * 6 * 4 * 9),
        (lambda x: nn.functional.conv2d(x[0], torch.zeros(6, 4, 3, 3), padding="same"), 64 * 6 * 4 * 9),
        (
            lambda x: nn.functional.conv3d(x[:, None], torch.zeros(2, 1, 3, 3, 3), padding="same"),
            256 * 2 * 27,
        ),
        (
            lambda x: torch.conv_tbc(torch.zeros(7, 2, 8), torch.zeros(3, 8, 5), torch.zeros(5), 1),
            7 * 2 * 5 * 24,
        ),
        (
            lambda x: torchvision.ops.deform_conv2d(x, torch.zeros(1, 18, 6, 6), torch.zeros(6, 2, 3, 3)),
            36 * 6 * 2 * 9,
        ),
    ],
)
def test_every_kind_of_convolution_is_output_times_weights_of_one(expression, expected: int) -> None:
    counted = count_multiply_adds(Computes(expression), InputSpec.image((4, 8, 8)))
    assert (counted.headline, counted.uncounted) == (expected, {})


def test_transposed_convolution_counts_the_input_positions() -> None:
    # Every input element meets every weight of its channel: 5·5 positions, 3 → 2 channels, 3×3 kernel.
    assert (
        count_multiply_adds(nn.ConvTranspose2d(3, 2, 3), InputSpec.image((3, 5, 5))).headline
        == 25 * 3 * 2 * 9
    )


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (lambda x: x @ torch.zeros(2, 3, 8, 5), 2 * 3 * 8 * 8 * 5),  # broadcasts over the batch
        (lambda x: x[0, 0] @ torch.zeros(8), 8 * 8),
        (lambda x: x[0, 0, 0].dot(x[0, 0, 1]), 8),
        (lambda x: torch.baddbmm(torch.zeros(3, 8, 8), x[0], x[0]), 3 * 8 * 8 * 8),
        (lambda x: torch.addmm(torch.zeros(8, 8), x[0, 0], x[0, 0]), 8 * 8 * 8),
        (lambda x: torch.einsum("bchw,bcwk->bchk", x, x), 3 * 8 * 8 * 8),
        (lambda x: torch.einsum("bchw,kw->bchk", x, torch.zeros(1001, 8)), 3 * 8 * 8 * 1001),
        (lambda x: nn.functional.linear(x, torch.zeros(7, 8)), 3 * 8 * 8 * 7),
        (
            lambda x: torch.einsum("ab,bc,cd->ad", torch.zeros(2, 8), x[0, 0], torch.zeros(8, 3)),
            2 * 64 + 2 * 24,
        ),
        (lambda x: torch.einsum("...ij,...jk->...ik", x, x), 3 * 8 * 8 * 8),
        (lambda x: torch.addbmm(x[0, 0], x[0], x[0]), 3 * 8 * 8 * 8),
        (lambda x: torch.addmv(x[0, 0, 0], x[0, 0], x[0, 0, 0]), 8 * 8),
        (lambda x: torch.zeros(8, 8).addmm_(x[0, 0], x[0, 0]), 8 * 8 * 8),
        (lambda x: torch.addr(x[0, 0], x[0, 0, 0], x[0, 0, 0]), 8 * 8),
        (lambda x: torch.outer(x[0, 0, 0], x[0, 0, 0]), 8 * 8),
        (lambda x: torch.kron(x[0, 0], x[0, 0]), 64 * 64),
        (lambda x: torch.vdot(x[0, 0, 0], x[0, 0, 0]), 8),
        (lambda x: torch.linalg.vecdot(x, x), 3 * 8 * 8),
        (lambda x: torch.inner(x[0, 0], x[0, 0]), 8 * 8 * 8),
        (lambda x: torch.tensordot(x[0], x[0], dims=([0, 1], [0, 1])), 3 * 8 * 8 * 8),
        (lambda x: torch.linalg.multi_dot([torch.zeros(2, 8), x[0, 0], torch.zeros(8, 5)]), 2 * 64 + 2 * 40),
        (lambda x: torch.linalg.matrix_power(x, 3), 2 * 3 * 8 * 8 * 8),
        # The product with the first input, then with the second.
        (lambda x: nn.functional.bilinear(x[0, 0], x[0, 1], torch.zeros(5, 8, 8)), 8 * 5 * (8 * 8 + 8)),
        (lambda x: torch.cdist(x[0, 0], x[0, 1]), 8 * 8 * 8),
        (lambda x: nn.functional.pdist(x[0, 0]), 28 * 8),
        (lambda x: nn.functional.affine_grid(x[:, 0, :2, :3], (1, 3, 5, 5), align_corners=False), 25 * 2 * 3),
        (
            lambda x: torch._int_mm(
                torch.zeros(24, 8, dtype=torch.int8), torch.zeros(8, 16, dtype=torch.int8)
            ),
            24 * 8 * 16,
        ),
        (lambda x: torch._foreach_mm([x[0, 0], x[0, 1]], [x[0, 0], x[0, 1]])[0], 2 * 8 * 8 * 8),
        (lambda x: torch.gru_cell(x[:, 0, 0], *map(torch.zeros, [(1, 5), (15, 8), (15, 5)])), 15 * (8 + 5)),
        (lambda x: torch.rnn_tanh_cell(x[:, 0, 0], *map(torch.zeros, [(1, 5), (5, 8), (5, 5)])), 5 * (8 + 5)),
    ],
)
def test_matrix_products_are_output_times_contracted_length(expression, expected: int) -> None:
    counted = count_multiply_adds(Computes(expression), InputSpec.image((3, 8, 8)))
    assert (counted.headline, counted.uncounted) == (expected, {})


GATES = {nn.GRU: 3, nn.LSTM: 4, nn.RNN: 1}


@pytest.mark.parametrize("kind", GATES)
@pytest.mark.parametrize("bidirectional", [False, True])
def test_recurrent_layers_follow_the_closed_form(kind: type[nn.RNNBase], bidirectional: bool) -> None:
    steps, width, hidden = 6, 8, 5
    layer = kind(width, hidden, num_layers=2, batch_first=True, bidirectional=bidirectional)
    directions = 2 if bidirectional else 1
    first = GATES[kind] * hidden * (width + hidden)
    second = GATES[kind] * hidden * (directions * hidden + hidden)
    model = Sequences(layer)
    assert count_multiply_adds(model, InputSpec.image((1, steps, width))).headline == steps * directions * (
        first + second
    )
    assert count_multiply_adds_torch(model, InputSpec.image((1, steps, width))) == steps * directions * (
        first + second
    )


def test_projected_lstm_counts_the_projection() -> None:
    layer = nn.LSTM(8, 5, batch_first=True, proj_size=2)
    # Gates see input and projected state; the projection maps 5 to 2.
    expected = 6 * (4 * 5 * (8 + 2) + 5 * 2)
    assert count_multiply_adds(Sequences(layer), ROWS).headline == expected


def test_a_packed_sequence_counts_its_true_length() -> None:
    class Packed(Sequences):
        def forward(self, images: Tensor) -> Tensor:
            rows = nn.utils.rnn.pack_padded_sequence(images[:, 0], torch.tensor([4]), batch_first=True)
            return self.layer(rows)[1]

    model = Packed(nn.GRU(8, 5, batch_first=True))
    assert count_multiply_adds(model, ROWS).headline == 4 * 3 * 5 * (8 + 5)


def test_attention_counts_both_products_whether_or_not_torch_would_fuse_it() -> None:
    length, width, hidden = 6, 8, 16
    model = Sequences(nn.TransformerEncoderLayer(width, 2, hidden, batch_first=True))
    projections = length * (3 * width * width + width * width)
    products = 2 * length * length * width
    feed_forward = 2 * length * width * hidden
    counted = count_multiply_adds(model, InputSpec.image((1, length, width)))
    assert counted.by_operator["scaled_dot_product_attention"] == products
    assert counted.headline == projections + products + feed_forward
    assert torch.backends.mha.get_fastpath_enabled()


class Fused(nn.Module):
    """Calls the operators that torch fuses attention and encoder layers into."""

    def __init__(self, layer: nn.TransformerEncoderLayer, whole: bool) -> None:
        super().__init__()
        self.layer, self.whole = layer, whole

    def forward(self, images: Tensor) -> Tensor:
        tokens, layer, own = images[:, 0], self.layer, self.layer.self_attn
        weights = (own.in_proj_weight, own.in_proj_bias, own.out_proj.weight, own.out_proj.bias)
        if not self.whole:
            return torch._native_multi_head_attention(tokens, tokens, tokens, 8, 2, *weights)[0]
        norms = (layer.norm1.weight, layer.norm1.bias, layer.norm2.weight, layer.norm2.bias)
        inner = (layer.linear1.weight, layer.linear1.bias, layer.linear2.weight, layer.linear2.bias)
        return torch._transformer_encoder_layer_fwd(
            tokens, 8, 2, *weights, False, False, 1e-5, *norms, *inner
        )


def test_fused_attention_counts_as_its_parts_do() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    whole, attention = (count_multiply_adds(Fused(layer, kind), ROWS) for kind in (True, False))
    assert whole.headline == count_multiply_adds(Sequences(layer), ROWS).headline
    assert attention.headline == whole.headline - 2 * 6 * 8 * 16
    assert whole.uncounted == attention.uncounted == {}
    x = torch.zeros(1, 2, 6, 4)
    flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    assert (
        count_multiply_adds(Computes(lambda i: flash(i, x, x)[0]), InputSpec.image((2, 6, 4))).headline
        == 2 * 2 * 6 * 6 * 4
    )


def test_batch_norm_and_pooling_are_counted_but_not_in_the_headline() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.AdaptiveAvgPool2d(1))
    counts = count(model, SMALL)
    assert counts.macs == 16 * 2
    assert counts.macs_fvcore == sum(counts.macs_by_operator.values()) > counts.macs
    assert set(counts.macs_by_operator) == {"conv", "batch_norm", "adaptive_avg_pool2d"}
    assert counts.uncounted == {}


def test_where_the_two_counters_differ_a_note_says_so() -> None:
    # torch counts no product of vectors; both agree on a matrix.
    assert count(Computes(lambda x: x[0, 0] @ x[0, 0]), SMALL).note is None
    counts = count(Computes(lambda x: x[0, 0, 0].dot(x[0, 0, 0])), SMALL)
    assert (counts.macs, counts.macs_torch) == (4, 0)
    assert counts.note == (
        "torch's own counter gives 0 multiply-adds, 100.00 % fewer: matrix product 4 here (dot), 0 there"
    )


class Squared(torch.autograd.Function):
    """A function of which a trace shows no more than its name."""

    @staticmethod
    def forward(context, value: Tensor) -> Tensor:
        return value @ value

    @staticmethod
    def backward(context, gradient: Tensor) -> Tensor:
        return gradient


@torch.jit.script
def scripted(value: Tensor) -> Tensor:
    if bool(value.sum() >= 0):
        return value @ value
    return value


@torch.library.custom_op("kdbench_tests::product", mutates_args=())
def product(first: Tensor, second: Tensor) -> Tensor:
    return first @ second


@pytest.mark.parametrize(
    ("expression", "name"),
    [
        (Squared.apply, "prim::PythonOp.Squared"),
        (scripted, "prim::CallFunction"),
        (lambda x: product(x, x), "kdbench_tests::product"),
        (lambda x: torch.fft.rfft(x).real, "aten::fft_rfft"),
        (
            lambda x: torch.stft(x.flatten(), 16, window=torch.ones(16), return_complex=True).real,
            "aten::stft",
        ),
        (torch.linalg.inv, "aten::linalg_inv"),
        (lambda x: torch.linalg.norm(x[0, 0], "nuc"), "aten::linalg_norm"),
    ],
)
def test_what_may_multiply_and_is_not_counted_makes_lower_bounds(expression, name: str) -> None:
    weight = torch.zeros(3, 1, 2, 2)
    model = Computes(lambda x: nn.functional.conv2d(x, weight).sum() + expression(x + torch.eye(8)).sum())
    counts = count(model, InputSpec.image((1, 8, 8)))
    assert (counts.macs, counts.uncounted) == (49 * 3 * 4, {name: 1})
    assert counts.arithmetic_intensity is None
    assert counts.reasons["arithmetic_intensity"] == f"not all is counted: {name}"


@pytest.mark.parametrize(
    "expression",
    [
        lambda x: x * x + torch.sigmoid(x) / 3,
        lambda x: nn.functional.avg_pool2d(nn.functional.layer_norm(x, (8,)), 2),
        lambda x: nn.functional.interpolate(x, scale_factor=2.0, mode="bicubic"),
        lambda x: nn.functional.cosine_similarity(x, x),
        lambda x: torch.linalg.norm(x),
        lambda x: torch.quantile(x, 0.3),
        lambda x: torch._foreach_mul([x], [x])[0],
        lambda x: torch.einsum("bcii->bc", x),
        lambda x: x[x > 0],
        lambda x: torchvision.ops.roi_align(x, [torch.zeros(1, 4)], 2),
    ],
)
def test_what_multiplies_no_matrices_leaves_the_count_exact(expression) -> None:
    counted = count_multiply_adds(Computes(expression), InputSpec.image((1, 8, 8)))
    assert (counted.headline, counted.uncounted) == (0, {})


def test_no_operator_whose_name_says_that_it_multiplies_is_taken_for_plain() -> None:
    multiplies = re.compile(
        r"mm(_|$)|matmul|linear|conv(_|\d|olution)|attention|\bv?dot|_dot$|einsum|rnn|lstm$|gru$|_cell$|trilinear"
        r"|cdist|pdist|mv_?$|addr_?$|outer|fft_(?!f?r?fftfreq)|stft|cholesky|svd|_qr$|linalg_lu|(?<!re)solve|inverse"
        r"|linalg_inv|matrix_exp|matrix_power|transformer|multi_head|affine_grid|tensordot|kron"
    )
    # Interpolation, gates of a cell whose products came before, and what handles weights.
    harmless = re.compile(
        r"upsample|_thnn_fused|slice_inverse|_weights?$|plan_cache|fftfreq|_use_cudnn|_sparse_c|detach"
    )
    names = {schema.name for schema in torch._C._jit_get_all_schemas()}
    names = {name for name in names if name.startswith(("aten::", "torchvision::", "quantized::"))}
    multiplying = {name for name in names if multiplies.search(name) and not harmless.search(name)}
    assert len(multiplying) > 150
    assert {name for name in multiplying if is_plain(name)} == set()


class ConvMixer(nn.Sequential):
    """Patches of 2 in 16 channels, two depthwise 5×5 and pointwise blocks; padded by 2 or by a word."""

    def __init__(self, padding: int | str) -> None:
        blocks = [
            nn.Sequential(nn.Conv2d(16, 16, 5, groups=16, padding=padding), nn.GELU(), nn.Conv2d(16, 16, 1))
            for _ in range(2)
        ]
        super().__init__(
            nn.Conv2d(3, 16, 2, 2), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10)
        )


def test_padding_that_is_named_counts_as_padding_that_is_numbered() -> None:
    named, numbered = (
        count_multiply_adds(ConvMixer(padding), InputSpec.image((3, 16, 16))) for padding in ("same", 2)
    )
    assert named == numbered
    # 8 × 8 positions: patches, twice depthwise and pointwise; then the classifier.
    assert named.headline == 64 * (16 * 3 * 4 + 2 * (16 * 25 + 16 * 16)) + 160
    layer = nn.Sequential(
        nn.Conv2d(3, 4, 9, padding="same"), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 6)
    )
    assert count(layer, InputSpec.image((3, 8, 4))).macs == 32 * 3 * 4 * 81 + 24 == 31_128


class Restless(nn.Module):
    """Writes to one buffer and replaces another whenever it is called."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(1)
        self.frozen = nn.Sequential(nn.Dropout(0.5)).eval()
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        self.mean = images.mean()
        return self.frozen(self.norm(images + 1))


def test_counting_leaves_the_model_as_it_was() -> None:
    model = Restless().train()
    model.frozen.eval()
    flags = [module.training for module in model.modules()]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    storage = {name: value.data_ptr() for name, value in model.state_dict().items()}
    assert set(count(model, SMALL).reasons) == {"arithmetic_intensity"}
    assert [module.training for module in model.modules()] == flags
    assert {name: value.data_ptr() for name, value in model.state_dict().items()} == storage
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_counting_is_quiet(caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder) -> None:
    with caplog.at_level(logging.DEBUG):
        count(nn.Sequential(nn.Flatten(), nn.Linear(4, 2), nn.GELU()), InputSpec.image((1, 2, 2)))
    assert caplog.records == []
    assert [str(entry.message) for entry in recwarn] == []


def test_a_forward_pass_that_fails_leaves_the_other_counts() -> None:
    model = nn.Linear(3, 2).train()
    counts = count(model, SMALL)
    assert {getattr(counts, name) for name in OF_THE_TRACE} == {None}
    for name in OF_THE_TRACE:
        assert counts.reasons[name].startswith("the forward pass could not be traced: RuntimeError: ")
    assert (counts.params, counts.size_bytes) == (8, serialized_bytes(model.state_dict()))
    assert model.training


def test_parameters_frozen_shared_and_zero() -> None:
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False), nn.Linear(4, 1))
    model[1].weight = model[0].weight
    model[2].weight.requires_grad_(False)
    with torch.no_grad():
        model[0].weight.fill_(1.0)[0, :3] = 0
        model[2].weight.fill_(1.0)
        model[2].bias.zero_()
    counts = count(model, SMALL)
    assert (counts.params, counts.params_trainable, counts.params_nonzero) == (21, 17, 17)
    assert count_nonzero(model) == 17


def test_size_is_that_of_the_safetensors_file(tmp_path) -> None:
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3)).to(memory_format=torch.channels_last)
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    safetensors.torch.save_file(state, tmp_path / "model.safetensors")
    assert serialized_bytes(model.state_dict()) == (tmp_path / "model.safetensors").stat().st_size


def test_shared_tensors_are_written_once_and_views_in_full() -> None:
    weight = torch.zeros(100, 100)
    alone = serialized_bytes({"a": weight})
    assert serialized_bytes({"a": weight, "b": weight}) == alone
    # A view of the first half is another tensor: 4 bytes × 5,000 and its entry in the header.
    assert 20_000 < serialized_bytes({"a": weight, "b": weight[:50]}) - alone < 20_200


def test_a_state_that_is_not_all_tensors_has_no_size() -> None:
    class Extra(nn.Linear):
        def get_extra_state(self) -> dict[str, int]:
            return {"version": 1}

    counts = count(Extra(4, 1), SMALL)
    assert counts.size_bytes is None
    assert (
        counts.reasons["size_bytes"] == "state entry '_extra_state' is dict, which safetensors cannot hold."
    )
