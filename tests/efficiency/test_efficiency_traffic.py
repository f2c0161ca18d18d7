"""What a forward pass moves, and how two counters' difference is told, against closed forms."""

from __future__ import annotations

import doctest

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from kdbench.efficiency import count, crosscheck
from kdbench.efficiency.counts import count_multiply_adds
from kdbench.efficiency.crosscheck import describe_difference
from kdbench.inputs import InputSpec


@given(inputs=st.integers(1, 6), outputs=st.integers(1, 6), height=st.integers(1, 5), width=st.integers(1, 5))
def test_a_pointwise_convolution_moves_what_shufflenet_v2_says(inputs, outputs, height, width):
    """Memory access cost of Ma et al. (2018), equation 1: hw(c1 + c2) + c1·c2 elements."""
    layer = nn.Conv2d(inputs, outputs, 1, bias=False)
    counted = count_multiply_adds(layer, InputSpec.image((inputs, height, width)))
    moved = height * width * (inputs + outputs) + inputs * outputs
    assert counted.traffic_bytes == 4 * moved
    assert counted.activations == height * width * outputs


def test_intensity_is_two_flop_a_multiply_add_over_all_layers():
    model = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 5))
    counts = count(model, InputSpec.image((3, 4, 4)))
    convolution = 3 * 16 + 4 * 3 * 9 + 4 * 4
    linear = 16 + 16 * 5 + 5 + 5  # input, weight, bias, output
    assert counts.activations == 16 + 5
    assert counts.traffic_bytes == 4 * (convolution + linear)
    assert counts.arithmetic_intensity == pytest.approx(2 * (16 * 27 + 16 * 5) / counts.traffic_bytes)


def test_a_recurrent_layer_reads_its_weights_once_and_its_output_is_the_sequence():
    class Rows(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.GRU(8, 5, batch_first=True)

        def forward(self, images):
            return self.layer(images[:, 0])[0]

    counted = count_multiply_adds(Rows(), InputSpec.image((1, 6, 8)))
    weights = 3 * 5 * 8 + 3 * 5 * 5 + 2 * 3 * 5
    states = 5 + 5  # first and last
    assert counted.activations == 6 * 5
    assert counted.traffic_bytes == 4 * (6 * 8 + weights + 6 * 5 + states)


def test_attention_counts_its_output_and_not_its_scores():
    class Attends(nn.Module):
        def forward(self, images):
            return nn.functional.scaled_dot_product_attention(images, images[..., :3, :], images[..., :3, :])

    counted = count_multiply_adds(Attends(), InputSpec.image((2, 7, 4)))
    assert counted.activations == 2 * 7 * 4
    assert counted.traffic_bytes == 4 * (2 * 7 * 4 + 2 * 2 * 3 * 4 + 2 * 7 * 4)


def test_a_model_that_multiplies_nothing_has_no_intensity():
    counts = count(nn.MaxPool2d(2), InputSpec.image((1, 4, 4)))
    assert (counts.macs, counts.activations, counts.arithmetic_intensity) == (0, 0, None)
    assert counts.reasons == {"arithmetic_intensity": "the model has no convolution and no matrix product"}


def test_equal_totals_have_no_difference_to_tell():
    # A recurrent layer is a sum of products there.
    assert describe_difference({"gru": 6, "linear": 4}, {"addmm": 10}) is None
    assert describe_difference({}, {}) is None


def test_a_difference_names_its_operators_and_no_others():
    text = describe_difference(
        {"conv": 500, "scaled_dot_product_attention": 100, "linear": 400},
        {"convolution": 500, "addmm": 400, "mm": 20},
    )
    assert text == (
        "torch's own counter gives 920 multiply-adds, 8.00 % fewer: attention 100 here "
        "(scaled_dot_product_attention), 0 there; matrix product 400 here (linear), 420 there (addmm, mm)"
    )
    assert "more: matrix product 0 here, 5 there (mm)" in str(
        describe_difference({"conv": 5}, {"conv": 5, "mm": 5})
    )
    assert describe_difference({}, {"mm": 5}) == (
        "torch's own counter gives 5 multiply-adds: matrix product 0 here, 5 there (mm)"
    )


def test_the_example_of_the_documentation_is_true():
    assert doctest.testmod(crosscheck) == (0, 1)
    assert torch.backends.mkldnn.enabled, "counting gives back what it switches off"
