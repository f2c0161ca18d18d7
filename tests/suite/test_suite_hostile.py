"""Suites of anybody's: whatever one holds ends in a suite or in one line, at once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from kdbench.errors import UserError
from kdbench.methods import methods
from kdbench.plan.variants import expand
from kdbench.suite import Suite
from kdbench.suite.measurements import ControlsEntry, MeasureEntry, RobustnessEntry
from kdbench.suite.plain import MOST_DEPTH, MOST_VALUES
from kdbench.suite.schema import DatasetEntry, MethodEntry, PairEntry, Recipe, TeacherEntry
from kdbench.suite.yaml_source import _Loader, as_yaml, read_value
from tests.conftest import SMALL

Write = Callable[..., Path]

PARTS = (Suite, DatasetEntry, TeacherEntry, MethodEntry, PairEntry, Recipe)
PARTS += (MeasureEntry, ControlsEntry, RobustnessEntry)
FIELDS = sorted({name for part in PARTS for name in part.model_fields} | {"chain", "temperature", "weight"})
WORDS = [
    "kd",
    "scratch",
    "teacher",
    "digits",
    "mlp_16",
    "all",
    "a.py:B",
    "x.y:z",
    "folder:x",
    "~nobody/x",
    "..",
]
# Halves of surrogate pairs too.
TEXT = st.text(st.characters(), max_size=6)
PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | TEXT | st.sampled_from(WORDS)
VALUES = st.recursive(
    PLAIN,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(FIELDS) | TEXT | st.integers(), inner, max_size=3)
    ),
    max_leaves=6,
)
NAMES = st.sampled_from([*FIELDS, "0", "1", "-1", "²", "٣", ""]) | TEXT


def load(file: Path, *overrides: str) -> Suite | None:
    """Return the suite of a file whose methods have been expanded, or None for a refusal in one line."""
    try:
        suite = Suite.load(file, overrides)
        for entry in suite.methods:
            list(expand(entry, suite))
        return suite
    except UserError as error:
        assert len(str(error)) < 2_500
        return None


def message(file: Path, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        Suite.load(file, overrides)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 1_000
    return str(caught.value)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("suites") / "small.yaml"


@settings(max_examples=150)
@given(fields=st.dictionaries(st.sampled_from(sorted(Suite.model_fields)) | TEXT, VALUES, max_size=3))
def test_any_mapping_is_a_suite_or_one_line(file: Path, fields: dict[str, Any]) -> None:
    file.write_bytes(as_yaml(read_value(SMALL) | fields).encode(errors="surrogatepass"))
    load(file)


@settings(max_examples=100)
@given(
    content=st.binary(max_size=40) | st.text("[]{}:-&*!?|>%@#'\"\\ \n\tax<~.0", max_size=40).map(str.encode)
)
def test_any_file_is_a_suite_or_one_line(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    assert load(file) is None
    file.write_bytes(SMALL.encode() + b"description: " + content)
    load(file)


@settings(max_examples=150)
@given(keys=st.lists(NAMES, min_size=1, max_size=4), value=VALUES.map(as_yaml) | TEXT)
def test_any_override_is_taken_or_one_line(file: Path, keys: list[str], value: str) -> None:
    file.write_text(SMALL)
    load(file, f"{'.'.join(keys)}={value}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            f"extra: {'[' * 20_000}",
            f"small.yaml:12: not valid YAML: fields are nested more than {MOST_DEPTH} deep",
        ),
        ("description: !!timestamp 2024-02-31", "could not determine a constructor for the tag"),
        (
            "recipe: {epochs: 2024-02-31}",
            "recipe.epochs: found '2024-02-31'; input should be a valid integer",
        ),
        (f"threads: {'9' * 5000}", "is not a number that can be read"),
        (f"threads: 0x{'f' * 5000}", "threads: found a number of 20000 bits; a whole number has 64 at most"),
        ('description: "\\ud800"', "description: a text has no control signs, halves of surrogate pairs"),
        ('description: "\\e]0;owned\\a"', "description: a text has no control signs"),
        ("extra: &a [*a]", "small.yaml:12: not valid YAML: a part of it holds itself"),
        ("extra: !!set {a}", "could not determine a constructor"),
        ("threads: 100000000", "threads: found 100000000; input should be less than or equal to 4096"),
        (
            "measure: {threads: 100000000}",
            "measure.threads: found 100000000; input should be less than or equal",
        ),
        ("? [a, b]\n: 1", "not valid YAML: found unhashable key"),
        ("~: 1", "the names of fields are texts"),
    ],
)
def test_what_no_suite_has_is_one_short_line(write_suite: Write, text: str, expected: str) -> None:
    kept = [line for line in SMALL.splitlines() if line.partition(":")[0] != text.partition(":")[0]]
    assert expected in message(write_suite("\n".join([*kept, text])))


@pytest.mark.parametrize(
    "assignment",
    [
        "seeds.²=1",
        "seeds.٣=1",
        "seeds=[1" + "0" * 200 + "]",
        "recipe.lr=1e999",
        "recipe.epochs=99999999999999999999",
        "recipe.epochs=1000001",
        "recipe.milestones=[-3, 2]",
        "recipe.batch_size=1e300",
        "dataset.imbalance.factor=1e300",
        "dataset.split_seed=4294967296",
        "students.0.name=\ud800",
        "students=[{name: mlp_16, label: 'a\x1b[31m'}]",
        f"name={'a' * 101}",
        f"description={'[' * 20_000}",
        f"recipe{'.a' * 5_000}=1",
        "paths_from='~nobody-of-this-name'",
    ],
)
def test_overrides_out_of_range_are_one_short_line(write_suite: Write, assignment: str) -> None:
    assert message(write_suite(), assignment).startswith("--set ")


def test_what_aliases_and_lists_make_of_a_few_lines_is_counted_and_not_made(write_suite: Write) -> None:
    rows = "\n".join(f"r{n}: &r{n} [{', '.join([f'*r{n - 1}'] * 10)}]" for n in range(1, 9))
    assert f"it holds more than {MOST_VALUES:,} values" in message(
        write_suite(f"r0: &r0 [x]\n{rows}\n{SMALL}")
    )
    grid = ", ".join(
        f"{name}: [{', '.join(map(str, range(1, 30)))}]" for name in ("temperature", "alpha", "beta")
    )
    suite = Suite.load(write_suite(SMALL), [f"methods=[{{name: kd, {grid}}}]"])
    with pytest.raises(UserError, match="its lists of values span 24,389 combinations"):
        next(expand(suite.methods[0], suite))


def test_the_keys_of_a_mapping_are_each_compared_once(monkeypatch: pytest.MonkeyPatch) -> None:
    class Key(str):
        """Text that counts how often it is compared."""

        compared = 0
        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            Key.compared += 1
            return str.__eq__(self, other)

    scalar = _Loader.compose_scalar_node

    def counted(loader: _Loader, anchor: Any) -> Any:
        node = scalar(loader, anchor)
        node.value = Key(node.value)
        return node

    monkeypatch.setattr(_Loader, "compose_scalar_node", counted)
    assert len(read_value("\n".join(f"key{number}: x" for number in range(500)))) == 500
    assert Key.compared < 5_000


@pytest.mark.parametrize("name", sorted(methods()))
def test_every_number_of_a_method_has_an_end(name: str) -> None:
    parameters = methods()[name].parameters
    for field, info in parameters.model_fields.items():
        for kind, value in ((int, 10**18), (int, -(10**18)), (float, 1e300), (float, -1e300)):
            if isinstance(info.default, kind) and not isinstance(info.default, bool):
                with pytest.raises(ValidationError):
                    parameters(**{field: value})


def test_every_number_of_a_recipe_and_of_measuring_has_an_end() -> None:
    for part in (Recipe, MeasureEntry):
        for field, info in part.model_fields.items():
            for value in (10**18, -(10**18)):
                if type(info.default) in (int, float):
                    with pytest.raises(ValidationError):
                        part(**{field: value if type(info.default) is int else value * 1e100})


@pytest.mark.parametrize("temperature", [0, 1e-9, 1e9])
def test_a_temperature_that_leaves_no_numbers_is_refused(
    small_suite: Callable[..., Suite], temperature: float
) -> None:
    suite = small_suite(f"methods=[{{name: kd, temperature: {temperature}}}]")
    with pytest.raises(UserError, match="method 'kd': temperature: found"):
        list(expand(suite.methods[0], suite))


@pytest.mark.parametrize(
    "text", ["%YAML " + "9" * 5000 + ".1\n---\na: 1", 'name: "\\U9999999999"', "a: \x00"]
)
def test_what_yamls_own_reader_stumbles_over_is_one_line(write_suite: Write, text: str) -> None:
    assert len(message(write_suite(text))) < 1000


@pytest.mark.parametrize(
    "assignment",
    [
        *(
            "recipe.epochs=true",
            "recipe.lr=true",
            "threads=true",
            "seeds=[true]",
            "measure.batch_sizes=[true]",
        ),
        *("measure.threads=true", "dataset.augment.crop_padding=true", "methods=[{name: kd, alpha: true}]"),
        *("methods=[{name: kd, temperature: [1, true]}]", "methods=[{name: fitnet, layer: true}]"),
    ],
)
def test_true_is_no_number(write_suite: Write, assignment: str) -> None:
    assert load(write_suite()) is not None and load(write_suite(), assignment) is None


def test_true_is_taken_where_it_belongs(write_suite: Write) -> None:
    suite = load(write_suite(), "dataset.augment.flip=true", "methods=[{name: cat_kd, normalised: false}]")
    assert suite is not None and suite.dataset.augment.flip
