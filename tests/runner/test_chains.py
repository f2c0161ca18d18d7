"""Chains in a run: what is pruned stays so, links are made once, and what is deployed is what is recorded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from sklearn.metrics import accuracy_score
from torch import Tensor
from typer.testing import CliRunner

from kdbench.cli import app
from kdbench.data import Batches, load_dataset
from kdbench.exporting import export, trained_student
from kdbench.inputs import InputSpec
from kdbench.methods.compressors.prune_magnitude import prunable
from kdbench.models import build_model
from kdbench.plan import make_plan
from kdbench.progress import Progress
from kdbench.runner import run
from kdbench.store import Record, RunDirectory, check
from kdbench.suite import Suite
from kdbench.training.evaluation import predict
from tests.runner.observed import Listening, results

Load = Callable[..., Suite]
FOUR = "kd, prune, kd, cast"
SUITE = """
dataset: {name: digits, args: {limit: 300, limit_test: 200}, validation_fraction: 0.2}
teachers: [{name: cnn_4, recipe: {epochs: 4}}]
students: [cnn_2, teacher]
methods:
  - scratch
  - kd
  - {name: prune_magnitude, sparsity: [0.5, 0.9], students: [teacher]}
  - {chain: [{prune_magnitude: {sparsity: 0.9}}, kd], students: [teacher], label: "prune 90 %, kd"}
  - chain: [kd, {prune_magnitude: {sparsity: 0.75, scope: layer}}, kd, {cast: {dtype: bf16}}]
    students: [cnn_2]
    label: "kd, prune, kd, cast"
  - {name: cast, students: [teacher]}
  - {chain: [simkd, prune_magnitude, kd], students: [cnn_2], label: reused}
seeds: [0, 1]
recipe: {epochs: 2, batch_size: 25, lr: 0.1, precision: fp32}
threads: 1
measure: {latency: false}
"""
# 1 teacher; 8 cells by scratch and kd, 2 pruned, 6 by chains, 1 cast; 4 links a seed that are no cells.
CELLS, NODES = 17, 1 + 17 + 8


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Suite:
    file = tmp_path_factory.mktemp("chains") / "chains.yaml"
    file.write_text(SUITE)
    return Suite.load(file)


@pytest.fixture(scope="module")
def finished(suite: Suite, tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """Return the run of the suite, which no test may change."""
    outcome = run(suite, tmp_path_factory.mktemp("finished") / "run")
    assert (outcome.ok, outcome.failed, outcome.skipped) == (CELLS, 0, 0)
    return RunDirectory(outcome.path)


def cell(run: RunDirectory, method: str, seed: int = 0, student: str = "teacher") -> Record:
    (record,) = (
        record
        for record in run.records()
        if (record.method, record.seed, record.student) == (method, seed, student)
    )
    return record


def weights(run: RunDirectory, record: Record) -> dict[str, Tensor]:
    return safetensors.torch.load_file(run.folder(record.id) / "weights.safetensors")


def zeros(run: RunDirectory, record: Record, model: str = "cnn_4") -> dict[str, Tensor]:
    """Return, by name, where the matrices and kernels of a node are zero."""
    names = [
        name for name, _ in prunable(build_model(model, inputs=InputSpec.image((1, 8, 8)), num_classes=10))
    ]
    own = weights(run, record)
    return {name: own[name] == 0 for name in names}


def count(masks: dict[str, Tensor]) -> tuple[int, int]:
    return sum(int(mask.sum()) for mask in masks.values()), sum(mask.numel() for mask in masks.values())


@pytest.mark.parametrize("sparsity", [0.5, 0.9])
def test_sparsity_is_exact_and_shows_in_the_counts(finished: RunDirectory, sparsity: float) -> None:
    teacher = next(finished.records())
    record = cell(finished, f"prune_magnitude(sparsity={sparsity})")
    pruned, of = count(zeros(finished, record))
    assert pruned == int(sparsity * of + 0.5)
    before, _ = count(zeros(finished, teacher))
    assert record.metrics["params_nonzero"] == teacher.metrics["params_nonzero"] - (pruned - before)
    # Dense kernels with zeros in them: neither smaller nor faster by themselves.
    assert record.metrics["params"] == teacher.metrics["params"]
    assert record.metrics["macs"] == teacher.metrics["macs"]
    assert record.metrics["train_macs"] is None and record.reasons["train_macs"] == "it was not trained"
    assert record.metrics["top1_best_val"] is None
    assert record.reasons["top1_best_val"] == "a compressor has no epochs"


def test_training_after_pruning_keeps_exactly_the_zeros(finished: RunDirectory) -> None:
    pruned = cell(finished, "prune_magnitude(sparsity=0.9)")
    masks = zeros(finished, pruned)
    for seed in (0, 1):
        trained = cell(finished, "prune 90 %, kd", seed)
        assert trained.start == pruned.id
        now = zeros(finished, trained)
        assert all(torch.equal(mask, now[name]) for name, mask in masks.items())
        kept, before = weights(finished, trained), weights(finished, pruned)
        assert any(not torch.equal(value, before[name]) for name, value in kept.items()), "nothing was learnt"
        best = safetensors.torch.load_file(finished.folder(trained.id) / "weights_best.safetensors")
        assert all(bool((best[name][mask] == 0).all()) for name, mask in masks.items())


def test_every_link_is_one_record_made_once(finished: RunDirectory, suite: Suite) -> None:
    plan = make_plan(suite)
    lying = {path.parent.name for path in finished.path.glob("nodes/*/record.json")}
    assert lying == plan.nodes.keys() and len(lying) == NODES
    links = list(finished.supporting())
    assert {(link.role, link.method_name, link.seed) for link in links} == {
        ("link", name, seed) for name in ("prune_magnitude", "kd", "simkd") for seed in (0, 1)
    }
    assert all(link.status == "ok" and link.metrics["top1"] > 0 for link in links)
    assert check(finished.path) == []


def test_a_chain_of_four_links_ends_in_what_all_of_them_made(finished: RunDirectory) -> None:
    record = cell(finished, FOUR, student="cnn_2")
    lineage = [record]
    while lineage[0].start:
        lineage.insert(0, finished.record(lineage[0].start))
    assert [made.method_name for made in lineage] == ["kd", "prune_magnitude", "kd", "cast"]
    first, pruned, second, cast = lineage
    assert first.id == cell(finished, "kd", student="cnn_2").id, "the link is the cell"
    for mask in zeros(finished, pruned, "cnn_2").values():
        assert int(mask.sum()) == int(0.75 * mask.numel() + 0.5)
    for name, mask in zeros(finished, second, "cnn_2").items():
        assert torch.equal(mask, zeros(finished, pruned, "cnn_2")[name])
    stored = {name.removeprefix("model."): value for name, value in weights(finished, cast).items()}
    before = weights(finished, second)
    assert stored.keys() == before.keys()
    for name, value in before.items():
        rounded = value.bfloat16() if value.is_floating_point() else value
        assert stored[name].dtype == rounded.dtype and torch.equal(stored[name], rounded), name


def test_the_work_of_a_chain_is_that_of_all_its_trainings(finished: RunDirectory) -> None:
    once, four = cell(finished, "kd", student="cnn_2"), cell(finished, FOUR, student="cnn_2")
    assert four.metrics["train_macs"] == 2 * once.metrics["train_macs"]
    second = finished.record(finished.record(four.id).start)
    own = [record.durations["train_seconds"] for record in (once, second)]
    assert four.metrics["train_seconds"] == pytest.approx(sum(own))
    on_teacher = cell(finished, "prune 90 %, kd")
    assert on_teacher.metrics["train_macs"] == cell(finished, "kd").metrics["train_macs"]


def test_a_cast_network_takes_about_half_the_bytes(finished: RunDirectory) -> None:
    teacher, cast = next(finished.records()), cell(finished, "cast")
    assert cast.metrics["size_bytes"] / teacher.metrics["size_bytes"] == pytest.approx(0.5, abs=0.1)
    assert cast.metrics["params"] == teacher.metrics["params"]
    assert cast.metrics["agreement"] > 0.95


@pytest.mark.parametrize(
    ("method", "student"),
    [
        ("prune_magnitude(sparsity=0.9)", "teacher"),
        ("prune 90 %, kd", "teacher"),
        (FOUR, "cnn_2"),
        ("reused", "cnn_2"),
    ],
)
def test_what_is_exported_gives_the_recorded_logits(
    finished: RunDirectory, tmp_path: Path, method: str, student: str
) -> None:
    record = cell(finished, method, student=student)
    deployed = trained_student(finished, record.id)
    data = load_dataset("digits", validation_fraction=0.2, args={"limit": 300, "limit_test": 200})
    logits = predict(deployed.model, Batches(data.test, data.mean, data.std, device=torch.device("cpu")))
    saved = safetensors.torch.load_file(finished.folder(record.id) / "predictions.safetensors")
    assert torch.equal(logits, saved["test_logits"])
    top1 = accuracy_score(saved["test_labels"], saved["test_logits"].argmax(1))
    assert record.metrics["top1"] == pytest.approx(top1)
    written = export(deployed, "safetensors", tmp_path / "deployed.safetensors")
    stored = safetensors.torch.load_file(written.path)
    assert all(torch.equal(value, stored[name]) for name, value in deployed.model.state_dict().items())


def test_the_commands_take_a_run_with_chains(finished: RunDirectory, tmp_path: Path) -> None:
    def shown(*arguments: object) -> str:
        ran = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
        assert ran.exit_code == 0, ran.output
        return ran.stdout

    shown("check", finished.path)
    rows = json.loads(shown("compare", finished.path, "--json"))
    assert {"prune 90 %, kd", FOUR, "cast"} <= {row["method"] for row in rows}
    id = cell(finished, FOUR, student="cnn_2").id
    shown("export", f"{finished.path}/nodes/{id}", "--to", "torch-export", "--out", tmp_path / "small.pt2")
    assert torch.export.load(tmp_path / "small.pt2").module()(torch.zeros(3, 1, 8, 8)).shape == (3, 10)


class Stop(Progress):
    """Stops a run as Ctrl-C does, where students begin to train for the n-th time."""

    def __init__(self, at: int) -> None:
        self.left = at

    def begin(self, label: str, total: int, unit: str) -> None:
        self.left -= label.endswith("students")
        if self.left == 0:
            raise KeyboardInterrupt


def files(run: RunDirectory) -> dict[str, bytes]:
    """Return what every node of a run is made of."""
    return {
        str(path.relative_to(run.path)): path.read_bytes()
        for name in ("*weights*.safetensors", "*predictions.safetensors", "decision.json")
        for path in run.path.glob(f"nodes/*/{name}")
    }


def test_a_run_that_stops_between_link_and_chain_goes_on_with_the_same_bits(
    finished: RunDirectory, suite: Suite, tmp_path: Path
) -> None:
    out, seen = RunDirectory(tmp_path / "run"), dict[str, int]()
    # First before anything of a seed is trained, then between the first training of the chain and its second.
    for at in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            run(suite, out.path, progress=Stop(at))
        stamps = {path.parent.name: path.stat().st_mtime_ns for path in out.path.glob("nodes/*/weights.saf*")}
        assert all(stamps[id] == stamp for id, stamp in seen.items())
        seen = stamps
    first = cell(finished, "kd", student="cnn_2").id
    assert first in seen and cell(finished, FOUR, student="cnn_2").id not in seen
    heard = Listening()
    assert run(suite, out.path, progress=heard).ok == CELLS
    stamps = {path.parent.name: path.stat().st_mtime_ns for path in out.path.glob("nodes/*/weights.saf*")}
    assert all(stamps[id] == stamp for id, stamp in seen.items()), "a finished node was made again"
    assert files(out) == files(finished) and results(out.path) == results(finished.path)


def test_two_processes_give_the_bits_of_one(
    finished: RunDirectory, suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # not to wait for what else measures on this machine
    outcome = run(suite, tmp_path / "run", jobs=2)
    assert outcome.ok == CELLS and check(outcome.path) == []
    both = RunDirectory(outcome.path)
    assert files(both) == files(finished) and results(both.path) == results(finished.path)


def test_a_damaged_decision_is_found_and_builds_nothing(finished: RunDirectory, tmp_path: Path) -> None:
    copy = RunDirectory(Path(shutil.copytree(finished.path, tmp_path / "run")))
    pruned, trained = cell(copy, "prune_magnitude(sparsity=0.9)"), cell(copy, "prune 90 %, kd")
    decision = copy.folder(pruned.id) / "decision.json"
    decision.write_text(decision.read_text().replace('"kept"', '"lost"'))
    assert [copy.path / finding.path for finding in check(copy.path)] == [decision]
    for id in (pruned.id, trained.id):
        with pytest.raises(Exception, match=r"decision\.json: changed since it was recorded"):
            trained_student(copy, id)
