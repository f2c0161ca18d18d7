"""Suites: what is read, and the one line that each mistake gives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from kdbench.errors import UserError
from kdbench.suite import Suite, suite_names
from kdbench.yaml_source import YamlSource
from tests.conftest import SMALL

Load = Callable[..., Suite]


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
    assert Suite.load(file) == suite


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


@given(st.floats(min_value=1e-8, max_value=10.0))
def test_learning_rates_survive_yaml(lr: float) -> None:
    text = yaml.safe_dump({"lr": lr})
    assert yaml.safe_load(text)["lr"] == lr


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
