"""Costs of compressed networks: of what each node deploys, whatever it is called."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch

from kdbench.errors import UserError
from kdbench.runner import run
from kdbench.store import Record, RunDirectory
from kdbench.suite import Suite

Load = Callable[..., Suite]
QUICK = ("recipe.epochs=1", "teachers.0.recipe.epochs=1", "dataset.args.limit=200")
# Its width is decided by the trained weights, so that every seed gets another.
GROW = """
import torch
from torch import nn
from kdbench.methods.compressor import Compressor, compressor


class Grown(nn.Module):
    def __init__(self, inner, width):
        super().__init__()
        self.inner = inner
        self.wide = nn.Linear(64, width)
        self.narrow = nn.Linear(width, 10)
        nn.init.zeros_(self.narrow.weight)
        nn.init.zeros_(self.narrow.bias)

    def forward(self, x):
        return self.inner(x) + self.narrow(self.wide(x.flatten(1)))


@compressor("grow", title="grows", source="this file", year=2026)
class Grow(Compressor):
    def decide(self, model, batches):
        total = sum(float(value.detach().abs().sum()) for value in model.parameters())
        return {"width": 1 + int(total * 1000) % 97}

    def apply(self, model, decision):
        return Grown(model, decision["width"])


@compressor("wrap", title="wraps", source="this file", year=2026)
class Wrap(Compressor):
    def decide(self, model, batches):
        return {}

    def apply(self, model, decision):
        return Inside(model)


class Inside(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x)
"""


def students(run: RunDirectory) -> dict[tuple[str | None, int], Record]:
    return {(record.method, record.seed): record for record in run.records() if record.role == "student"}


@pytest.fixture
def grown(small_suite: Load, tmp_path: Path) -> tuple[Suite, RunDirectory]:
    (tmp_path / "comp.py").write_text(GROW)
    methods = "methods=[kd, {chain: [kd, 'comp.py:Grow'], label: grown}]"
    suite = small_suite("students=[cnn_2]", methods, *QUICK)
    return suite, RunDirectory(run(suite, tmp_path / "run").path)


def test_seeds_whose_structures_differ_have_costs_of_their_own(grown: tuple[Suite, RunDirectory]) -> None:
    _, directory = grown
    records = students(directory)
    widths = []
    for seed in (0, 1):
        small, large = records["kd", seed], records["grown", seed]
        file = directory.folder(large.id) / "weights.safetensors"
        width = safetensors.torch.load_file(file)["wide.weight"].shape[0]
        widths.append(width)
        assert large.metrics["params"] == small.metrics["params"] + 75 * width + 10
        assert large.metrics["macs"] == small.metrics["macs"] + 74 * width
        # Beside the weights a file has a header of names and shapes.
        own = file.stat().st_size - (directory.folder(small.id) / file.name).stat().st_size
        assert large.metrics["size_bytes"] - small.metrics["size_bytes"] == pytest.approx(own, abs=100)
    assert widths[0] != widths[1]


def test_a_compressed_node_has_no_share_of_a_cohorts_time(grown: tuple[Suite, RunDirectory]) -> None:
    _, directory = grown
    records = students(directory)
    assert records["kd", 0].metrics["train_time_share"] is not None
    assert records["grown", 0].metrics["train_time_share"] is None
    assert records["grown", 0].reasons["train_time_share"] == "it was not trained"


def test_damaged_weights_are_told_when_costs_are_measured_anew(grown: tuple[Suite, RunDirectory]) -> None:
    suite, directory = grown
    record = students(directory)["grown", 0]
    file = directory.folder(record.id) / "weights.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    for cost in directory.path.glob("costs/*/*"):
        cost.unlink()
    with pytest.raises(UserError, match=rf"{record.id}/weights\.safetensors: changed since it was recorded"):
        run(suite, directory.path)


def test_a_network_that_a_method_builds_is_halved_by_a_cast(small_suite: Load, tmp_path: Path) -> None:
    suite = small_suite("students=[cnn_2]", "methods=[{chain: [simkd, cast]}, simkd]", "seeds=[0]", *QUICK)
    directory = RunDirectory(run(suite, tmp_path / "run").path)
    records = students(directory)
    dense, cast = records["simkd", 0], records["simkd → cast", 0]
    stored = [
        sum(value.nbytes for value in safetensors.torch.load_file(file).values() if value.is_floating_point())
        for file in (directory.folder(record.id) / "weights.safetensors" for record in (dense, cast))
    ]
    assert stored[0] == 2 * stored[1]
    assert cast.metrics["params"] == dense.metrics["params"]
    # The rest are names and shapes, and counters, which are whole numbers.
    lost = dense.metrics["size_bytes"] - cast.metrics["size_bytes"]
    assert lost == pytest.approx(stored[1], abs=1000)


# An assistant that is called like the student is its own network; any other is a model of that name.
@pytest.mark.parametrize(
    ("teacher", "student", "alike"),
    [("large", "small", False), ("mlp_16", "small", False), ("large", "mlp_16", True)],
)
def test_an_assistant_keeps_its_multiply_adds_whatever_others_are_called(
    small_suite: Load, tmp_path: Path, teacher: str, student: str, alike: bool
) -> None:
    suite = small_suite(
        f"teachers=[{{name: cnn_4, label: {teacher}, recipe: {{epochs: 1}}}}]",
        f"students=[{{name: cnn_2, label: {student}}}]",
        "methods=[{name: takd, assistants: [mlp_16], label: takd}]",
        "seeds=[0]",
        *QUICK,
    )
    directory = RunDirectory(run(suite, tmp_path / "run").path)
    large, record = next(directory.records()), students(directory)["takd", 0]
    own = record.metrics["macs"]
    between = own if alike else 64 * 16 + 16 * 10
    assert record.metrics["train_macs"] == 160 * (3 * own + between + 3 * between + large.metrics["macs"])


@pytest.mark.parametrize("taught", ["kd", "{fitnet: {layer: 1}}"])
def test_what_a_compressor_wraps_is_trained(small_suite: Load, tmp_path: Path, taught: str) -> None:
    (tmp_path / "comp.py").write_text(GROW)
    methods = f"methods=[{{chain: [kd, 'comp.py:Wrap', {taught}], label: wrapped}}]"
    suite = small_suite("students=[cnn_2]", methods, "seeds=[0]", *QUICK)
    outcome = run(suite, tmp_path / "run")
    assert (outcome.ok, outcome.failed) == (1, 0)
    directory = RunDirectory(outcome.path)
    record = students(directory)["wrapped", 0]
    names = safetensors.torch.load_file(directory.folder(record.id) / "weights.safetensors")
    assert names and all(name.startswith("inner.") for name in names)
