from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from kdbench.data import Description, describe_dataset, load_dataset

HEADER = "import numpy as np, torch\n"


@pytest.fixture
def factory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Return a function that writes the body of ``make`` to a file and gives the dataset's name."""
    monkeypatch.chdir(tmp_path)

    def write(text: str) -> str:
        (tmp_path / "mine.py").write_text(HEADER + text)
        return "mine.py:make"

    return write


GOOD = """
def make(count=20, fill=9):
    x = np.full((count, 4, 5, 3), fill, dtype=np.uint8)
    y = np.arange(count) % 2
    return (x, y), (x[:6], y[:6])
"""


def test_a_pair_of_pairs(factory: Callable[[str], str]) -> None:
    name = factory(GOOD)
    data = load_dataset(name, validation_fraction=0.2, args={"count": 30, "fill": 4})
    assert data.inputs.image_shape == (3, 4, 5)
    assert data.classes == ("0", "1")
    assert (len(data.train), len(data.validation), len(data.test)) == (24, 6, 6)
    assert data.train.images.unique().tolist() == [4]
    assert describe_dataset(name) == Description.of_images((3, 4, 5), 2)
    assert describe_dataset("mine:make", args={"size": 7, "channels": 1}) == Description.of_images(
        (1, 7, 7), 2
    )


def test_a_mapping_of_tensors_with_its_own_validation_and_classes(factory: Callable[[str], str]) -> None:
    name = factory("""
def make():
    x = torch.arange(48, dtype=torch.uint8).view(12, 2, 2)
    y = torch.arange(12, dtype=torch.int32) % 3
    parts = {"train": (x, y), "test": (x[:3], y[:3]), "validation": (x[3:6], y[3:6])}
    return {**parts, "classes": ["a", "b", "c"]}
""")
    data = load_dataset(name, validation_fraction=0.5)
    assert data.classes == ("a", "b", "c")
    # What the source ships is used, whatever the fraction; the training split stays whole.
    assert len(data.train) == 12
    assert data.validation.images.flatten().tolist() == list(range(12, 24))
    assert len(load_dataset(name, validation_fraction=0).validation) == 0


def test_the_factory_s_own_arrays_are_not_shared(factory: Callable[[str], str]) -> None:
    name = factory(
        GOOD.replace("def make", "X = np.zeros((8, 2, 2), dtype=np.uint8)\nY = np.arange(8) % 2\ndef kept")
        + """
def make():
    return (X, Y), (X, Y)
"""
    )
    data = load_dataset(name, validation_fraction=0)
    data.train.images.fill_(1)
    assert load_dataset(name, validation_fraction=0).train.images.sum() == 0
    assert data.test.images.sum() == 0


def _pair(shape: tuple[int, ...] = (4, 2, 2), dtype: str = "uint8", labels: str = "[0, 1, 0, 1]") -> str:
    test = "(np.zeros((2, 2, 2), dtype='uint8'), [0, 1])"
    return f"def make(): return (np.zeros({shape}, dtype='{dtype}'), {labels}), {test}"


def _named(classes: str, test: str = "[0, 1, 0, 1]") -> str:
    pairs = f"'train': (x, [0, 1, 0, 1]), 'test': (x, {test})"
    return f"def make(): x = np.zeros((4, 2, 2), 'uint8'); return {{{pairs}, 'classes': {classes}}}"


def _fields(train: str, test: str | None = None) -> str:
    return f"def make(): return ({train}, [0, 1, 0, 1]), ({test or train}, [0, 1, 0, 1])"


@pytest.mark.parametrize(
    ("text", "texts"),
    [
        (_pair(dtype="float32"), ["images of train of mine.py:make are float32", "uint8"]),
        (_pair(shape=(4, 3, 8, 8)), ["shape (4, 3, 8, 8)", "permute(0, 2, 3, 1)"]),
        (_pair(shape=(4, 8)), ["shape (4, 8)", "(N, H, W, C)"]),
        (_pair(labels="[0, 1, 0]"), ["4 images and 3 labels"]),
        (_pair(labels="[0., 1., 0., 1.]"), ["labels of train of mine.py:make are float64"]),
        (_pair(labels="[0, 1, 0, -1]"), ["example 3 of the train split", "label -1", "0 to 1"]),
        (_pair(labels="[0, 3, 0, 1]"), ["class '2' of mine.py:make has no training example"]),
        (
            _pair(labels="[0, 1, 0, 2**62]"),
            ["mine.py:make holds 6 examples and the label 4611686018427387904"],
        ),
        (
            _pair(labels="np.array([0, 1, 0, 2**63], np.uint64)"),
            ["labels of train of", "hold 9223372036854775808"],
        ),
        (_pair(labels="[[0, 1], [0]]"), ["labels of train of mine.py:make cannot be made an array"]),
        (
            "import torch\ndef make(): x = torch.zeros(4, 2, 2, device='meta'); return (x, x), (x, x)",
            ["labels of train of mine.py:make cannot be made an array"],
        ),
        (_named("['a', 'b\\x1b[31m']"), ["the name of class 1 of mine.py:make cannot be shown"]),
        (_named("['a', 'b'] + ['c'] * 2"), ["class 'c' of mine.py:make has no training example"]),
        (_named("7"), ["classes of mine.py:make are a int: return a list of names"]),
        (
            _named("['a', 'b']", test="[0, 0, 0, 0]"),
            ["class 'b' of mine.py:make has no test example: add some."],
        ),
        (
            _fields("{'token': np.full((4, 2), 2**62)}"),
            ["field 'token' of train of mine.py:make has whole numbers beyond"],
        ),
        (
            _pair(shape=(4, 3, 2)),
            ["images of the test split of mine.py:make are 2×2×1 and those of train 3×2×1"],
        ),
        (
            _pair(shape=(0, 2, 2), labels="np.zeros(0, dtype=int)"),
            ["train split of mine.py:make has no examples"],
        ),
        ("def make(): return 3", ["mine.py:make returned a int", "((x_train, y_train), (x_test, y_test))"]),
        ("def make(): return 3, 4", ["train of mine.py:make is a int"]),
        ("def make(): return {'train': 1}", ["returned no 'test'"]),
        ("def make(): return {'train': 1, 'tset': 2}", ["'tset'. Did you mean 'test'?"]),
        ("def make(n): return n", ["missing a required argument: 'n'"]),
        (
            "def make(): raise SystemExit(4)",
            ["dataset factory mine.py:make raised ProcessEnded: SystemExit(4) in mine.py, line"],
        ),
        ("def make(): raise KeyError('x')", ["dataset factory mine.py:make raised KeyError: 'x'"]),
        ("def mak(): pass", ["Did you mean 'mak'?"]),
        (
            "def make(): x = np.zeros((4, 2, 2), 'uint8'); y = [0] * 4; return (x, y), (x, y)",
            ["has 1 class: classification needs two or more"],
        ),
        (_fields("{}"), ["train of mine.py:make has no field"]),
        (_fields("{'a b': np.zeros((4, 2))}"), ["has a field 'a b'", "by a word"]),
        (_fields("{'photo': np.zeros((4, 2, 2, 3), 'uint8')}"), ["field 'photo'", "name images 'image'"]),
        (
            _fields("{'image': np.zeros((4, 2, 2))}"),
            ["images of train of mine.py:make are float64", "'sensor'"],
        ),
        (_fields("{'sensor': np.full((4, 2), np.nan)}"), ["field 'sensor'", "not finite"]),
        (_fields("{'sensor': np.array(['a'] * 4)}"), ["field 'sensor'", "return floats or whole numbers"]),
        (_fields("{'sensor': np.zeros((3, 2))}"), ["3 rows of 'sensor' and 4 labels", "one an example"]),
        (
            _fields("{'sensor': np.zeros((4, 2))}", "{'sensor': np.zeros((4, 3))}"),
            ["'sensor'", "3 and those of train 2"],
        ),
        (
            _fields("{'sensor': np.zeros((4, 2))}", "{'other': np.zeros((4, 2))}"),
            ["'other'", "'sensor'", "make them alike"],
        ),
    ],
)
def test_bad_factories(text: str, texts: list[str], factory: Callable, message_of: Callable) -> None:
    name = factory(text)
    message = message_of(lambda: load_dataset(name, validation_fraction=0))
    for part in texts:
        assert part in message


def test_arguments_are_checked_before_the_call(factory: Callable, message_of: Callable) -> None:
    name = factory(GOOD)
    message = message_of(lambda: load_dataset(name, args={"cuont": 3}))
    assert message == "unknown dataset argument 'cuont'. Did you mean 'count'?"


def test_a_misspelt_kind_is_not_taken_for_a_module(message_of: Callable) -> None:
    assert (
        message_of(lambda: load_dataset("foldr:x"))
        == "unknown kind of dataset 'foldr'. Did you mean 'folder'?"
    )


def _index_coded(count: int) -> str:
    return f"""
def make():
    rows = np.arange({count})
    x = np.stack([rows % 256, rows // 256], axis=-1).astype(np.uint8).reshape({count}, 1, 2)
    return (x, rows % 4), (x[:8], rows[:8] % 4)
"""


def _rows(images: torch.Tensor) -> list[int]:
    return [int(low) + 256 * int(high) for low, high in images.flatten(1)]


@pytest.mark.parametrize("fraction", [0.1, 0.5])
@pytest.mark.parametrize("limit", [None, 100])
def test_no_example_is_in_two_parts(
    fraction: float, limit: int | None, factory: Callable[[str], str]
) -> None:
    name = factory(_index_coded(600))
    args: dict[str, Any] = {"limit": limit} if limit else {}
    data = load_dataset(name, validation_fraction=fraction, args=args)
    train, validation = _rows(data.train.images), _rows(data.validation.images)
    assert not set(train) & set(validation)
    assert len(train) + len(validation) == len(set(train + validation)) == (limit or 600)
    assert data.train.labels.tolist() == [row % 4 for row in train]
    assert data.validation.labels.tolist() == [row % 4 for row in validation]
    assert len(validation) == round(fraction * (limit or 600))
    other = load_dataset(name, validation_fraction=fraction, split_seed=1, args=args)
    assert set(_rows(other.validation.images)) != set(validation)
    assert other.checksum == data.checksum


def test_mean_and_std_are_those_of_the_training_part(factory: Callable[[str], str]) -> None:
    name = factory("""
def make():
    x = np.random.default_rng(0).integers(0, 256, (50, 3, 4, 3), dtype=np.uint8)
    x[..., 2] = 77
    y = np.arange(50) % 2
    return (x, y), (x * 0, y)
""")
    data = load_dataset(name)
    pixels = data.train.images.numpy().reshape(-1, 3) / 255
    np.testing.assert_allclose(data.mean, pixels.mean(0), rtol=1e-12)
    np.testing.assert_allclose(data.std[:2], pixels[:, :2].std(0), rtol=1e-12)
    # The constant channel: one grey level instead of zero.
    assert data.std[2] == 1 / 255
    given = load_dataset(name, args={"mean": [0, 0.5, 1], "std": [1, 2, 3]})
    assert (given.mean, given.std) == ((0, 0.5, 1), (1, 2, 3))


def test_the_checksum_is_of_pixels_labels_shapes_and_classes(factory: Callable[[str], str]) -> None:
    text = """
def make(pixel=0, label=0, names=("a", "b"), wide=False, where="train"):
    x = np.zeros((2, 8, 2, 8), dtype=np.uint8)
    y = np.stack([np.arange(8) % 2] * 2)
    which = ["train", "test"].index(where)
    x[which, 3, 1, 1] = pixel
    y[which, 0] = label
    x = x.reshape(2, 8, 8, 2) if wide else x
    return {"train": (x[0], y[0]), "test": (x[1], y[1]), "classes": names}
"""
    name = factory(text)

    def checksum(fraction: float = 0.25, seed: int = 0, **args: Any) -> str:
        return load_dataset(name, validation_fraction=fraction, split_seed=seed, args=args).checksum

    base = checksum()
    changed = [
        checksum(pixel=1),
        checksum(pixel=1, where="test"),
        checksum(label=1),
        checksum(label=1, where="test"),
        checksum(names=("a", "c")),
        checksum(wide=True),
        checksum(fraction=0.5, limit=4),
        checksum(channels=3),
    ]
    assert len({base, *changed}) == 1 + len(changed)
    assert {checksum(), checksum(fraction=0), checksum(seed=5), checksum(mean=[0.5])} == {base}
    assert len(base) == 64
