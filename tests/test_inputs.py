"""Inputs as values: what examples hold, how a spec is written and read, and what is done to a batch."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import kdbench
from kdbench.inputs import (
    IMAGE,
    Field,
    InputSpec,
    cast,
    copied,
    examples,
    first,
    laid_out,
    same,
    tensors,
)
from kdbench.store import canonical_json

SEVERAL = InputSpec({"image": Field((1, 8, 8)), "sensor": Field((5,)), "token": Field((), "int64", 2, 4)})

shapes = st.lists(st.integers(1, 4), max_size=3).map(tuple)
ranges = st.tuples(st.integers(-50, 50), st.integers(0, 9)).map(lambda pair: (pair[0], sum(pair)))
fields = st.one_of(
    st.builds(Field, shapes),
    st.builds(lambda shape, ends: Field(shape, "float32", *ends), shapes, ranges),
    st.builds(lambda shape, ends: Field(shape, "int64", *ends), shapes, ranges),
)
specs = st.dictionaries(st.from_regex("[a-z]{1,6}", fullmatch=True), fields, min_size=1, max_size=4).map(
    InputSpec
)


@given(specs, st.integers(1, 5))
def test_an_example_is_what_its_spec_says_and_always_the_same(spec: InputSpec, count: int) -> None:
    torch.manual_seed(0)
    stream = torch.get_rng_state()
    made = spec.example(count)
    assert torch.equal(torch.get_rng_state(), stream), "the stream that training uses is left alone"
    assert same(made, spec.example(count))
    assert isinstance(made, torch.Tensor) == (len(spec.fields) == 1)
    assert examples(made) == count
    for tensor, field in zip(tensors(made), spec.fields.values(), strict=True):
        assert tensor.shape == (count, *field.shape)
        assert str(tensor.dtype) == f"torch.{field.dtype}"
        assert tensor[0].nbytes == field.bytes
        if field.low is not None:
            assert field.low <= tensor.min() <= tensor.max() <= field.high
    if len(spec.fields) > 1:
        assert list(made) == list(spec.fields)


@given(specs)
def test_a_spec_survives_being_written(spec: InputSpec) -> None:
    for read in (
        InputSpec.from_json(json.loads(canonical_json(spec.as_json()))),
        InputSpec.recorded(json.loads(canonical_json(spec.as_recorded()))),
    ):
        assert read == spec and list(read.fields) == list(spec.fields)


def test_every_value_of_a_range_is_drawn() -> None:
    drawn = InputSpec({"token": Field((400,), "int64", 2, 4)}).example(2)
    assert drawn.unique().tolist() == [2, 3, 4]


def test_an_example_of_an_image_is_what_torch_draws() -> None:
    expected = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(InputSpec.image((2, 4, 4)).example(3), expected)


def test_older_runs_hold_a_shape() -> None:
    assert InputSpec.recorded({"input_shape": [3, 32, 32]}) == InputSpec.image((3, 32, 32))
    assert InputSpec.image((3, 32, 32)).as_recorded()["input_shape"] == [3, 32, 32]
    assert "input_shape" not in SEVERAL.as_recorded()


def test_only_what_is_like_one_image_has_the_shape_of_one() -> None:
    assert InputSpec({"spectrum": Field((1, 40, 64), "float32", -1, 1)}).image_shape == (1, 40, 64)
    assert InputSpec({"tokens": Field((1, 4, 4), "int64", 0, 9)}).image_shape is None
    assert InputSpec({IMAGE: Field((5,))}).image_shape is None
    assert SEVERAL.image_shape is None


def test_a_spec_in_words() -> None:
    assert str(SEVERAL) == "image 1 × 8 × 8, sensor 5, token one number"
    assert str(InputSpec({"sensor": Field((5,))})) == "sensor 5"


@pytest.mark.parametrize(
    ("field", "text"),
    [({"dtype": "float64"}, "one of float32, int64"), ({"dtype": "int64", "low": 0}, "needs low and high")],
)
def test_a_field_that_no_batch_has_is_refused(field: dict, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Field((2,), **field)


def test_what_is_done_to_a_batch_is_done_to_every_field() -> None:
    batch = SEVERAL.example(3)
    assert examples(first(batch, 2)) == 2 and torch.equal(first(batch, 2)["token"], batch["token"][:2])
    own = copied(batch)
    own["sensor"].zero_()
    assert not same(own, batch) and same(batch, SEVERAL.example(3))
    half = cast(batch, torch.bfloat16)
    assert [tensor.dtype for tensor in tensors(half)] == [torch.bfloat16, torch.bfloat16, torch.int64]
    image, sensor, _ = tensors(laid_out({**batch, "image": torch.ones(3, 2, 4, 4)}, torch.channels_last))
    assert image.is_contiguous(memory_format=torch.channels_last) and not image.is_contiguous()
    assert sensor is batch["sensor"]


def test_reading_a_spec_needs_no_torch() -> None:
    use = "str(inputs.InputSpec.image((1, 2, 2)))"
    code = f"import sys; from kdbench import inputs; {use}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("room", ["models", "plan", "training", "runner", "efficiency", "exporting"])
def test_nobody_else_makes_tensors_of_a_shape_that_is_handed_in(room: str) -> None:
    for file in sorted((Path(kdbench.__file__).parent / room).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and any(isinstance(each, ast.Starred) for each in node.args):
                made = ast.unparse(node.func)
                assert made not in {f"torch.{name}" for name in ("zeros", "ones", "rand", "randn")}, file
