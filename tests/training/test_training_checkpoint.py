"""Checkpoints of cohorts: what was written is read back, and nothing else."""

from __future__ import annotations

import copy
import hashlib
import io
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kdbench.errors import SharedFault
from kdbench.inputs import InputSpec
from kdbench.methods import Pair, find_method
from kdbench.models import build_model, feature_shapes, find_taps
from kdbench.printable import printable
from kdbench.suite.schema import Recipe
from kdbench.training.checkpoint import read_state, saved_ids, write_state
from kdbench.training.trainee import Best, Trainee

INPUTS = InputSpec.image((1, 8, 8))
MARK = b"kdbench cohort 1"


def trainee(model: str = "mlp_4", id: str = "a", **recipe: Any) -> Trainee:
    """Return a student that has trained for an epoch, all of its numbers made up."""
    torch.manual_seed(3)
    network = build_model(model, inputs=INPUTS, num_classes=3)
    taps = find_taps(network, INPUTS)
    shapes = feature_shapes(network, taps, INPUTS)
    distiller = find_method("scratch").distiller
    made = distiller(distiller.Parameters(), Pair(model, model, shapes, shapes, 3, same_architecture=True))
    settings = Recipe(epochs=3, precision="fp32", **recipe)
    one = Trainee(id, network, taps, made, settings, torch.device("cpu"), "fp32")
    one.history = [{"epoch": 1, "loss": 0.5, "validation_top1": None}]
    one.best = Best(1, 0.5, 1.0, copy.deepcopy(network.state_dict()))
    for moments in one.optimizer.state.values():
        moments["momentum_buffer"].normal_()
    return one


def sealed(content: Any, **how: Any) -> bytes:
    """Return what the file of a checkpoint holds, its checksum computed here."""
    torch.save(content, buffer := io.BytesIO(), **how)
    return buffer.getvalue() + MARK + hashlib.sha256(buffer.getvalue()).digest()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cohorts") / "c.pt"
    write_state(path, 1, [trainee()])
    return path


@pytest.fixture(scope="module")
def content(file: Path) -> dict[str, Any]:
    return torch.load(io.BytesIO(file.read_bytes()[:-48]), weights_only=True)


def refusal(path: Path, reader: Trainee | None = None) -> str:
    """Return the one line with which a checkpoint is refused."""
    with pytest.raises(SharedFault) as caught:
        read_state(path, [reader or trainee()])
    text = str(caught.value)
    assert printable(text) == text and text.startswith(f"{path} ")
    assert text.endswith(": delete it, and its cohort starts again from its first epoch.")
    return text


def test_what_was_written_is_restored_and_the_settings_of_the_optimiser_are_the_recipes(
    file: Path, content: dict[str, Any]
) -> None:
    assert file.read_bytes()[-32:] == hashlib.sha256(file.read_bytes()[:-48]).digest()
    written, reader = trainee(), trainee(lr=0.7, momentum=0.3)
    with torch.no_grad():
        reader.model.head.weight.zero_()
        for moments in reader.optimizer.state.values():
            moments["momentum_buffer"].zero_()
    assert saved_ids(file) == {"a"}
    assert read_state(file, [reader]) == 1
    assert torch.equal(reader.model.head.weight, written.model.head.weight)
    assert reader.history == written.history and reader.best
    assert reader.optimizer.param_groups[0]["momentum"] == 0.3
    saved = content["trainees"]["a"]["optimizer"]
    for number, parameter in enumerate(reader.trained):
        assert torch.equal(
            reader.optimizer.state[parameter]["momentum_buffer"], saved[number]["momentum_buffer"]
        )


def test_where_there_is_none_training_begins(tmp_path: Path) -> None:
    assert saved_ids(tmp_path / "c.pt") == set()
    assert read_state(tmp_path / "c.pt", [trainee()]) == 0


@given(st.data())
def test_a_file_that_was_changed_anywhere_is_refused(file: Path, data: st.DataObject) -> None:
    whole = file.read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    end = data.draw(st.binary(max_size=8))
    flipped = whole[:place] + bytes([whole[place] ^ data.draw(st.integers(1, 255))]) + whole[place + 1 :]
    damaged = data.draw(st.sampled_from([flipped, whole[:place], whole[:place] + end, whole + b"\0" + end]))
    if damaged != whole:
        (changed := file.with_name("d.pt")).write_bytes(damaged)
        with pytest.raises(SharedFault, match="is damaged, or of another version of kdbench: delete it"):
            saved_ids(changed)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**62), 2**62) | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.text(max_size=3) | st.integers(0, 3), inner, max_size=2)
    ),
    max_leaves=4,
)


@given(VALUES)
def test_a_file_of_other_content_is_refused(file: Path, other: Any) -> None:
    (path := file.with_name("o.pt")).write_bytes(sealed(other))
    refusal(path)


@given(st.integers(0, 11), VALUES)
def test_a_field_of_another_value_is_restored_or_refused_in_one_line(
    file: Path, content: dict[str, Any], number: int, value: Any
) -> None:
    whole = copy.deepcopy(content) | {"cohort": "c2"}
    state = whole["trainees"]["a"]
    place, field = [*((whole, key) for key in whole), *((state, key) for key in state)][number]
    place[field] = value
    (path := file.with_name("c2.pt")).write_bytes(sealed(whole))
    try:
        assert read_state(path, [trainee()]) == 1
    except SharedFault:
        refusal(path)


@pytest.mark.parametrize(
    "bytes_",
    [b"", b"{}", b"[]", b"some text\n", b"\x80\x02.", MARK, MARK + hashlib.sha256(b"").digest()],
    ids=["empty", "object", "list", "text", "pickle", "mark", "seal of nothing"],
)
def test_what_is_no_checkpoint_is_refused(tmp_path: Path, bytes_: bytes) -> None:
    (tmp_path / "c.pt").write_bytes(bytes_)
    refusal(tmp_path / "c.pt")


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "c.pt").mkdir()
    assert "is not a file" in refusal(tmp_path / "c.pt")
    os.mkfifo(tmp_path / "d.pt")
    assert "is not a file" in refusal(tmp_path / "d.pt")
    (tmp_path / "e.pt").symlink_to("nothing")
    assert "is not a file" in refusal(tmp_path / "e.pt")


class Hostile:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("was-run",)


def test_code_in_a_file_with_a_right_checksum_does_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.pt").write_bytes(sealed({"epoch": Hostile()}))
    assert "cannot be read" in refusal(tmp_path / "c.pt")
    assert not (tmp_path / "was-run").exists()


Change = Callable[[dict[str, Any], dict[str, Any]], object]
CHANGES: dict[str, tuple[Change, str]] = {
    "another cohort": (lambda whole, state: whole.update(cohort="b"), "is of another cohort"),
    "a late epoch": (lambda whole, state: whole.update(epoch=1_000_000), "is of epoch 1,000,000 of 3"),
    "a skipped epoch": (lambda whole, state: whole.update(epoch=2), "its history has 1 epochs, not 2"),
    "no epoch": (lambda whole, state: whole.update(epoch=0), "epoch"),
    "a negative epoch": (lambda whole, state: whole.update(epoch=-1), "epoch"),
    "no such student": (lambda whole, state: whole.update(trainees={"b": state}), "lacks 'a'"),
    "a missing field": (lambda whole, state: state.pop("optimizer"), "optimizer: Field required"),
    "other weights": (lambda whole, state: state["model"].popitem(), "does not fit 'a'"),
    "other shapes": (
        lambda whole, state: state["model"].update({"head.bias": torch.ones(7)}),
        "does not fit 'a'",
    ),
    "other best": (
        lambda whole, state: state.update(best=(1, 0.5, 1.0, {"w": torch.ones(1)})),
        "its best epoch is that of another model",
    ),
    "a later best": (
        lambda whole, state: state.update(best=(2, *state["best"][1:])),
        "its best epoch is that of another model",
    ),
    "other momenta": (
        lambda whole, state: state["optimizer"][0].update(momentum_buffer=torch.ones(7)),
        "its optimiser is that of another model",
    ),
    "momenta of nothing": (
        lambda whole, state: state["optimizer"].update({99: {}}),
        "its optimiser is that of another model",
    ),
    "no time": (lambda whole, state: state.update(train_seconds=float("nan")), "train_seconds"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_state_that_is_not_the_cohorts_is_refused(
    tmp_path: Path, content: dict[str, Any], change: str
) -> None:
    whole = copy.deepcopy(content)
    alter, problem = CHANGES[change]
    alter(whole, whole["trainees"]["a"])
    (tmp_path / "c.pt").write_bytes(sealed(whole))
    assert problem in refusal(tmp_path / "c.pt")


def test_a_full_disk_keeps_the_last_state_and_is_told_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "c.pt"
    write_state(path, 1, [trainee()])
    before, limit = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    for size in (0, 100, len(before) // 2, len(before) - 20):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limit[1]))
        try:
            with pytest.raises(SharedFault, match=f"cannot write {path}: File too large") as caught:
                write_state(path, 2, [trainee()])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        assert "\n" not in str(caught.value)
        assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
