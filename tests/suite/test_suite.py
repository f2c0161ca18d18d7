"""Suites: what is read, and the one line that each mistake gives."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from kdbench.errors import UserError
from kdbench.methods import find_method
from kdbench.suite import Suite, suite_names
from kdbench.suite.references import PATHS_FROM
from kdbench.suite.schema import Recipe
from kdbench.suite.yaml_source import YamlSource, as_yaml, read_value
from tests.conftest import SMALL

Load = Callable[..., Suite]
FINITE = st.floats(allow_nan=False, allow_infinity=False)


def message(write_suite: Callable[..., Path], text: str, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        Suite.load(write_suite(text), overrides)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", suite_names())
def test_shipped_suites_are_valid_and_survive_a_round_trip(name: str, tmp_path: Path) -> None:
    suite = Suite.load(name)
    assert suite.name == name and suite.description
    file = tmp_path / f"{name}.yaml"
    file.write_text(suite.to_yaml())
    assert PATHS_FROM not in file.read_text()
    assert Suite.load(file).model_dump(exclude={PATHS_FROM}) == suite.model_dump(exclude={PATHS_FROM})


def test_names_alone_stand_for_entries(small_suite: Load) -> None:
    suite = small_suite()
    assert suite.students[0].name == "mlp_16"
    assert suite.methods[0].name == "scratch"
    assert suite.methods[1].parameters == {"temperature": 2}


@pytest.mark.parametrize(
    ("line", "wrong", "expected"),
    [
        ("\nrecipe:", "\nrecpie:", "small.yaml:10: recpie: unknown field 'recpie'. Did you mean 'recipe'?"),
        (
            "epochs: 2, batch",
            "epoch: 2, batch",
            "recipe.epoch: unknown field 'epoch'. Did you mean 'epochs'?",
        ),
        ("lr: 0.1", "lr: -1", "recipe.lr: found -1; input should be greater than 0"),
        (
            "measure: {latency: false}",
            "measure: {runtimes: [onnx]}",
            "measure: runtimes [onnx] must be distinct and have 'eager' among them",
        ),
        (
            "measure: {latency: false}",
            "measure: {runtimes: [eager, onyx]}",
            "measure.runtimes.1: found 'onyx'",
        ),
        (
            "measure: {latency: false}",
            "measure: {threads: [1, 2]}",
            "measure: threads [1, 2] must be distinct and have 'all' among them",
        ),
        ("lr: 0.1", "lr: fast", "recipe.lr: found 'fast'"),
        ("precision: fp32", "precision: fp31", "recipe.precision: found 'fp31'"),
        ("precision: fp32", "precision: fp31", "Did you mean 'fp32'?"),
        ("seeds: [0, 1]", "seeds: []", "seeds: found []"),
        ("seeds: [0, 1]", f"seeds: [{2**63 - 1}]", f"seeds.0: found {2**63 - 1}; input should be less than"),
        ("seeds: [0, 1]", "seeds: [true]", "seeds: found [True]; true and false are no numbers or names"),
        ("digits,", "digits, split_seed: -1,", "dataset.split_seed: found -1"),
        ("measure: {latency: false}", "measure: {batch_sizes: []}", "measure.batch_sizes: found []"),
        ("seeds: [0, 1]", "seeds: [0, 0]", "duplicate cells: seed '0' is listed twice"),
        ("students: [mlp_16, cnn_2]", "students: [mlp_16, mlp_16]", "student 'mlp_16' is listed twice"),
        ("students: [mlp_16, cnn_2]", "students: []", "students: found []"),
        ("seeds: [0, 1]", "seeds: [0, 1]\nseeds: [2]", "the field 'seeds' is given twice"),
        ("seeds: [0, 1]", "seeds: [0, 1", "not valid YAML"),
        ("lr: 0.1", "lr: 0.1, momentum: 0, nesterov: true", "nesterov needs momentum above 0"),
        ("lr: 0.1", "lr: 0.1, schedule: step", "schedule 'step' needs milestones"),
        ("dataset: {name: digits,", "dataset: {", "dataset.name: the field is missing"),
    ],
)
def test_a_mistake_gives_one_line_with_its_place(
    write_suite: Callable[..., Path], line: str, wrong: str, expected: str
) -> None:
    assert line in SMALL
    assert expected in message(write_suite, SMALL.replace(line, wrong))


def test_a_mistake_in_an_override_names_the_override(write_suite: Callable[..., Path]) -> None:
    found = message(write_suite, SMALL, "recipe.lr=-3")
    assert found.startswith("--set recipe.lr=-3: recipe.lr: found -3")
    assert "expected key=value" in message(write_suite, SMALL, "recipe.lr")
    assert "there is no '7'" in message(write_suite, SMALL, "teachers.7.seed=1")
    assert "unknown field 'epoch'" in message(write_suite, SMALL, "recipe.epoch=1")


def test_overrides_reach_every_field(small_suite: Load) -> None:
    suite = small_suite("recipe.epochs=7", "teachers.0.seed=3", "seeds=[5]", "measure.batch_sizes=[1, 8]")
    assert suite.recipe.epochs == 7
    assert suite.teachers[0].seed == 3
    assert suite.seeds == (5,)
    assert suite.measure.batch_sizes == (1, 8)


@pytest.mark.parametrize("text", ["5e-4", "1E3", "+2.5e-1", ".5e1"])
def test_numbers_in_scientific_notation_are_numbers(tmp_path: Path, text: str) -> None:
    file = tmp_path / "numbers.yaml"
    file.write_text(f"x: {text}")
    assert YamlSource.read(file).value == {"x": float(text)}
    assert yaml.safe_load("x: 5e-4") == {"x": "5e-4"}  # other users of PyYAML are left alone


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("010", 10),
        ("08", 8),
        ("0o10", 8),
        ("0x1F", 31),
        ("-3", -3),
        ("1.", 1.0),
        ("1:30", "1:30"),
        ("0b11", "0b11"),
        ("yes", "yes"),
        ("off", "off"),
        ("2025-01-02", "2025-01-02"),
        ("True", True),
        ("~", None),
    ],
)
def test_plain_scalars_are_those_of_yaml_1_2(text: str, value: object) -> None:
    # the examples of section 10.3 of its specification, and those that YAML 1.1 reads otherwise
    found = read_value(text)
    assert (type(found), found) == (type(value), value)


def test_seeds_and_overrides_are_read_alike(write_suite: Callable[..., Path]) -> None:
    suite = Suite.load(
        write_suite(SMALL.replace("seeds: [0, 1]", "seeds: [010, 011]")), ["recipe.epochs=012"]
    )
    assert (suite.seeds, suite.recipe.epochs) == ((10, 11), 12)


@pytest.mark.parametrize("number", [".inf", "-.Inf", ".nan", "1e999"])
def test_an_infinite_number_is_a_mistake_with_its_place(
    write_suite: Callable[..., Path], number: str
) -> None:
    at = next(n for n, line in enumerate(SMALL.splitlines(), start=1) if line.startswith("recipe"))
    found = message(write_suite, SMALL.replace("lr: 0.1", f"lr: {number}"))
    assert f"small.yaml:{at}: recipe.lr: found {read_value(number)};" in found
    assert "a number must be finite" in found
    inside = message(write_suite, SMALL.replace("temperature: 2", f"temperature: {number}"))
    assert "methods.1.temperature: found" in inside
    assert message(write_suite, SMALL, f"recipe.lr={number}").startswith(
        f"--set recipe.lr={number}: recipe.lr:"
    )


def test_infinities_are_refused_of_python_too() -> None:
    with pytest.raises(ValidationError, match="finite number"):
        Recipe(lr=math.inf)
    with pytest.raises(ValidationError, match="finite number"):
        find_method("kd").parameters(temperature=math.inf)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | FINITE | st.text(), lambda x: st.lists(x, max_size=4)
    )
)
@example(["010", "0o10", "09", "1e5", "yes", "~", "1:30", ".inf", "2025-01-02", "<<"])
def test_what_is_written_as_yaml_is_read_again(value: object) -> None:
    assert read_value(as_yaml(value)) == value


def test_unknown_suites_and_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown suite 'quikstart'"):
        Suite.load("quikstart")
    with pytest.raises(UserError, match=r"no suite file at .*mine.yaml"):
        Suite.load(tmp_path / "mine.yaml")
    (tmp_path / "list.yaml").write_text("- a\n- b\n")
    with pytest.raises(UserError, match="a suite is a mapping of fields"):
        Suite.load(tmp_path / "list.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="cannot be read"):
        Suite.load(tmp_path / "binary.yaml")
