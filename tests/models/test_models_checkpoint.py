"""Checkpoints that users bring: formats that are read, files that are refused."""

from __future__ import annotations

import argparse
import gzip
import io
import os
import pickle
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from kdbench.errors import UserError
from kdbench.inputs import InputSpec
from kdbench.models import build_model, load_checkpoint


def fresh() -> nn.Module:
    return build_model("cnn_2", inputs=InputSpec.image((1, 8, 8)), num_classes=3)


State = Mapping[str, Tensor]


def under(prefix: str, state: State) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in state.items()}


def plus_one(state: State) -> dict[str, Tensor]:
    return {name: value + 1 for name, value in state.items()}


def training(state: State) -> dict[str, Any]:
    """Return what a training program keeps beside weights: optimiser, arguments, scores."""
    moments = {number: {"step": 1, "exp_avg": value} for number, value in enumerate(state.values())}
    optimizer = {"state": moments, "param_groups": [{"lr": 0.1, "params": list(moments)}]}
    args = argparse.Namespace(lr=0.1, out=Path("x"))
    return {"optimizer": optimizer, "args": args, "best": np.float64(93.5), "epoch": 3}


def loaded(tmp_path: Path, content: Any, target: nn.Module | None = None) -> tuple[nn.Module, str]:
    """Load what a file holds into a model; return it and what was told."""
    torch.save(content, tmp_path / "weights.pth")
    target = target or fresh()
    return target, " ".join(load_checkpoint(target, tmp_path / "weights.pth"))


def same(model: nn.Module, state: State) -> bool:
    return all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


WRAPPED: dict[str, Callable[[State], Any]] = {
    "plain": lambda state: state,
    "state_dict": lambda state: {"state_dict": state, "epoch": 3},
    "model": lambda state: {"model": state},
    "data-parallel": lambda state: {"state_dict": under("module.", state)},
    "compiled": lambda state: under("_orig_mod.", state),
    "parallel of compiled": lambda state: {"net": under("module._orig_mod.", state), **training(state)},
    "compiled of parallel": lambda state: {"model": under("_orig_mod.module.", state)},
    "compiled part": lambda state: {k.replace("stages.0", "stages._orig_mod.0"): v for k, v in state.items()},
    "lightning": lambda state: {"state_dict": under("model.", state), "hyper_parameters": {"width": 2}},
    "lightning, compiled": lambda state: {"state_dict": under("net._orig_mod.", state), "states": [state]},
    "any prefix that all share": lambda state: under("anything.", state),
    "nested": lambda state: {"app": {"network": state}},
    "pair": lambda state: (3, state),
    "profiled": lambda state: {**state, "total_ops": torch.zeros(1), "head.total_params": torch.zeros(1)},
    "scalars of one": lambda state: {k: v if v.dim() else v.reshape(1) for k, v in state.items()},
}


@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
def test_wrapped_state_dicts_are_seen_through(tmp_path: Path, wrap: Callable[[State], Any]) -> None:
    state = fresh().state_dict()
    target, told = loaded(tmp_path, wrap(state))
    assert same(target, state)
    assert told == ""


def batch_normed() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Sequential(nn.BatchNorm2d(2)))


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("versions", [None, 1, 2])
def test_counters_that_old_pytorch_did_not_write_are_filled_in(
    tmp_path: Path, prefix: str, versions: int | None
) -> None:
    source = batch_normed().state_dict()
    old: Any = type(source)((prefix + name, v) for name, v in source.items() if "num_batches" not in name)
    if versions:
        old._metadata = {prefix + name: {"version": versions} for name in ("1", "2.0")}
    target, told = loaded(tmp_path, old, batch_normed())
    assert same(target, source) and told == ""
    safetensors.torch.save_file(dict(old), tmp_path / "old.safetensors")
    load_checkpoint(target := batch_normed(), tmp_path / "old.safetensors")
    assert same(target, source)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_counters_that_were_averaged_are_taken_as_pytorch_takes_them(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    source = batch_normed().state_dict()
    source["1.num_batches_tracked"] = torch.tensor(1200.0, dtype=dtype)
    source["2.0.num_batches_tracked"] = torch.tensor(1200.5, dtype=dtype)
    target, told = loaded(tmp_path, source, batch_normed())
    usual = batch_normed()
    usual.load_state_dict(source)
    assert same(target, usual.state_dict()) and told == ""
    assert int(target.state_dict()["1.num_batches_tracked"]) == 1200


def test_integers_that_became_floating_point_are_taken_only_where_no_value_is_lost(tmp_path: Path) -> None:
    class Indexed(nn.Linear):
        def __init__(self) -> None:
            super().__init__(2, 3)
            self.register_buffer("index", torch.arange(3))

    state = Indexed().state_dict()
    target, _ = loaded(tmp_path, state | {"index": torch.tensor([2.0, 1.0, 0.0])}, Indexed())
    assert target.index.tolist() == [2, 1, 0]
    with pytest.raises(UserError, match="'index' holds float32, the model needs int64"):
        loaded(tmp_path, state | {"index": torch.tensor([2.0, 0.5, 0.0])}, Indexed())


def test_modules_that_ask_for_the_version_of_their_weights_are_loaded(tmp_path: Path) -> None:
    def build() -> nn.Module:
        return build_model("torchvision:mnasnet0_5", inputs=InputSpec.image((3, 32, 32)), num_classes=2)

    source = build().state_dict()
    safetensors.torch.save_file(source, tmp_path / "weights.safetensors")
    load_checkpoint(target := build(), tmp_path / "weights.safetensors")
    assert same(target, source)


def test_names_that_a_model_converts_itself_are_left_to_it(tmp_path: Path) -> None:
    class Renaming(nn.Linear):
        def _load_from_state_dict(self, state: dict, prefix: str, *more: Any) -> None:
            state[f"{prefix}weight"] = state.pop(f"{prefix}kernel")
            super()._load_from_state_dict(state, prefix, *more)

    source = nn.Linear(2, 3)
    old = {"kernel": source.weight.data, "bias": source.bias.data}
    assert same(loaded(tmp_path, old, Renaming(2, 3))[0], source.state_dict())


def test_plain_weights_go_before_averaged_ones_and_that_is_told(tmp_path: Path) -> None:
    state = fresh().state_dict()
    model = fresh()
    model.load_state_dict(plus_one(state))
    averaged = AveragedModel(model).state_dict()
    assert "n_averaged" in averaged
    for content, taken, left in (
        ({"model_ema": averaged, "model": state, **training(state)}, "'model'", "'model_ema'"),
        ({"state_dict_ema": plus_one(state), "state_dict": state}, "'state_dict'", "'state_dict_ema'"),
        ({"state_dict": under("ema_model.", plus_one(state)) | under("model.", state)}, "model", "ema_model"),
    ):
        target, told = loaded(tmp_path, content)
        assert same(target, state)
        assert re.search(rf"sets of weights that fit, .*{taken}.* was taken and .*{left}.* left out", told)
    target, told = loaded(tmp_path, {"ema": {"module": plus_one(state), "updates": 3}})
    assert same(target, plus_one(state))
    assert "the averaged weights 'ema.module' were taken" in told


def test_of_sets_with_equal_right_none_is_guessed(tmp_path: Path) -> None:
    state = fresh().state_dict()
    with pytest.raises(
        UserError, match="several sets of weights that fit: 'student' and 'teacher'"
    ) as caught:
        loaded(tmp_path, {"student": state, "teacher": plus_one(state)})
    assert "\n" not in str(caught.value)
    assert same(loaded(tmp_path, {"student": state, "teacher": state})[0], state)


def test_what_lies_beside_a_prefix_is_left_out_and_told(tmp_path: Path) -> None:
    state = fresh().state_dict()
    content = {"state_dict": under("model.", state) | {"criterion.weight": torch.ones(3)}}
    target, told = loaded(tmp_path, content)
    assert same(target, state)
    assert "1 entry was left out, no weights of this model, first 'criterion.weight'" in told


def test_a_part_of_a_larger_network_is_not_taken_for_the_whole(tmp_path: Path) -> None:
    larger = under("encoder.", fresh().state_dict()) | {"decoder.weight": torch.ones(3)}
    with pytest.raises(UserError, match="lacks"):
        loaded(tmp_path, larger)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floating_point_weights_are_converted_and_that_is_told(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    state = fresh().state_dict()
    stored = {name: v.to(dtype) if v.is_floating_point() else v for name, v in state.items()}
    target, told = loaded(tmp_path, stored)
    assert same(target, {name: stored[name].to(value.dtype) for name, value in state.items()})
    assert f"stored as {str(dtype)[6:]} were read as float32" in told


def test_quantised_weights_are_refused(tmp_path: Path) -> None:
    stored = {name: value.to(torch.int8) for name, value in fresh().state_dict().items()}
    with pytest.raises(UserError, match="holds int8, the model needs float32"):
        loaded(tmp_path, stored)


@pytest.mark.filterwarnings("ignore:Sparse CSR:UserWarning")
def test_tensors_without_values_at_every_place_are_refused(tmp_path: Path) -> None:
    state = fresh().state_dict()
    weight = state["head.weight"]
    for tensor, problem in (
        (weight.to_sparse(), r"'head.weight' is sparse \(sparse_coo\): save it dense"),
        (weight.to_sparse_csr(), r"'head.weight' is sparse \(sparse_csr\): save it dense"),
        (weight.to("meta"), "'head.weight' has a shape and no values"),
    ):
        with pytest.raises(UserError, match=problem):
            loaded(tmp_path, state | {"head.weight": tensor})


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


def saved(state: State, **how: Any) -> bytes:
    torch.save(state, buffer := io.BytesIO(), **how)
    return buffer.getvalue()


TENSORS = {"a": torch.ones(3)}
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
OTHERS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty: download or copy it again"),
    "page": (b"\n<!DOCTYPE html>\n<html></html>", "is a web page, not a file of weights"),
    "pointer": (POINTER, "is a pointer of git-lfs, not the file itself: fetch it with 'git lfs pull'"),
    "compressed": (gzip.compress(saved(TENSORS)), r"is compressed \(gzip\): unpack it"),
    "text": (b"hello world", "is not a file of weights"),
    "noise": (b"\x00\x01 not weights" * 20, "is not a file of weights"),
    "cut zip": (saved(TENSORS)[:-200], "is cut short: download or copy it again"),
    "cut pickle": (
        saved(TENSORS, _use_new_zipfile_serialization=False)[:-2],
        r"is damaged or cut short \(.*\): download or copy it again",
    ),
    "cut safetensors": (safetensors.torch.save(TENSORS)[:-2], "is a damaged safetensors file"),
    "other pickle": (pickle.dumps(TENSORS), "was refused: it is a pickle that"),
}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("kind", OTHERS)
def test_what_came_in_place_of_weights_is_told_with_the_mend(tmp_path: Path, kind: str, suffix: str) -> None:
    content, problem = OTHERS[kind]
    path = tmp_path / f"weights{suffix}"
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"checkpoint {path} {problem}") as caught:
        load_checkpoint(fresh(), path)
    assert "\n" not in str(caught.value)


def test_a_folder_is_called_one(tmp_path: Path) -> None:
    for folder in (tmp_path, Path()):
        with pytest.raises(UserError, match="is a folder: name the file of weights in it"):
            load_checkpoint(fresh(), folder)


def test_files_are_read_by_their_content_not_their_name(tmp_path: Path) -> None:
    source = fresh().state_dict()
    safetensors.torch.save_file(source, tmp_path / "weights.pth")
    (tmp_path / "weights.safetensors").write_bytes(saved(source))
    for name in ("weights.pth", "weights.safetensors"):
        load_checkpoint(target := fresh(), tmp_path / name)
        assert same(target, source)


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
    with pytest.raises(UserError, match="holds dict with the entries epoch, note, not weights by name"):
        load_checkpoint(fresh(), save({"epoch": 3, "note": "none"}))
    with pytest.raises(UserError, match="does not exist"):
        load_checkpoint(fresh(), tmp_path / "nothing.pth")
