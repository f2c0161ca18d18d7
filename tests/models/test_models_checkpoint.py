"""Checkpoints that users bring: formats that are read, files that are refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn

from kdbench.errors import UserError
from kdbench.models import build_model, load_checkpoint


def fresh() -> nn.Module:
    return build_model("cnn_2", input_shape=(1, 8, 8), num_classes=3)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model": state},
        lambda state: {"state_dict": {f"module.{name}": value for name, value in state.items()}},
    ],
    ids=["plain", "state_dict", "model", "data-parallel"],
)
def test_wrapped_state_dicts_are_seen_through(tmp_path: Path, wrap: Callable[[dict], dict]) -> None:
    source, target = fresh(), fresh()
    torch.save(wrap(source.state_dict()), tmp_path / "weights.pth")
    load_checkpoint(target, tmp_path / "weights.pth")
    for mine, theirs in zip(target.state_dict().values(), source.state_dict().values(), strict=True):
        assert torch.equal(mine, theirs)


def test_safetensors_are_read(tmp_path: Path) -> None:
    source, target = fresh(), fresh()
    safetensors.torch.save_file(source.state_dict(), tmp_path / "weights.safetensors")
    load_checkpoint(target, tmp_path / "weights.safetensors")
    assert torch.equal(target.head.weight, source.head.weight)


class Hostile:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.marker}",)


def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    torch.save({"state_dict": Hostile(marker)}, tmp_path / "hostile.pth")
    with pytest.raises(UserError, match="was refused: it is a pickle that needs code") as caught:
        load_checkpoint(fresh(), tmp_path / "hostile.pth")
    assert "\n" not in str(caught.value)
    assert not marker.exists()


def test_a_pickled_model_is_refused(tmp_path: Path) -> None:
    torch.save(fresh(), tmp_path / "model.pth")
    with pytest.raises(UserError, match="Save the weights alone"):
        load_checkpoint(fresh(), tmp_path / "model.pth")


@pytest.mark.parametrize("name", ["garbage.pth", "garbage.safetensors", "empty.pth"])
def test_damaged_files_are_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"" if name.startswith("empty") else b"\x00\x01 not weights" * 20)
    with pytest.raises(UserError, match=name) as caught:
        load_checkpoint(fresh(), tmp_path / name)
    assert "\n" not in str(caught.value)


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    def save(state: dict) -> Path:
        torch.save(state, tmp_path / "weights.pth")
        return tmp_path / "weights.pth"

    state = fresh().state_dict()
    renamed = {name.replace("head", "fc"): value for name, value in state.items()}
    with pytest.raises(UserError, match=r"lacks 2 of the model's .* weights, first 'head.weight'"):
        load_checkpoint(fresh(), save(renamed))
    with pytest.raises(UserError, match="holds 1 weights that the model lacks, first 'extra'"):
        load_checkpoint(fresh(), save(state | {"extra": torch.zeros(1)}))
    with pytest.raises(UserError, match=r"'head.bias' has shape \(4,\), the model needs \(3,\)"):
        load_checkpoint(fresh(), save(state | {"head.bias": torch.zeros(4)}))
    with pytest.raises(UserError, match="entry 'epoch' is int"):
        load_checkpoint(fresh(), save(state | {"epoch": 3}))
    with pytest.raises(UserError, match="does not exist"):
        load_checkpoint(fresh(), tmp_path / "nothing.pth")
