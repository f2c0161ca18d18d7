"""The README's own example, run as written on a folder and a checkpoint that are made here."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from typer.testing import CliRunner

from kdbench.cli import app
from kdbench.inputs import InputSpec
from kdbench.methods import distillers, find_method
from kdbench.methods.base import METHODS
from kdbench.models import build_model
from kdbench.plan import make_plan
from kdbench.store import load
from kdbench.suite import Suite
from tests.registries import reopen

README = (Path(__file__).parent.parent / "README.md").read_text()


def block(language: str, holding: str) -> str:
    blocks = re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)
    return next(text for text in blocks if holding in text)


def test_the_example_of_the_readme_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for split, count in (("train", 24), ("test", 10)):
        for shade, name in ((40, "cat"), (160, "dog")):
            folder = tmp_path / "pets" / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = random.integers(shade, shade + 60, (20 + index % 3, 24, 3)).astype("uint8")
                Image.fromarray(pixels).save(folder / f"{index}.png")
    teacher = build_model("resnet20", inputs=InputSpec.image((3, 32, 32)), num_classes=2)
    torch.save(teacher.state_dict(), "teacher.pth")
    (tmp_path / "student.py").write_text(block("python", "def tiny"))
    (tmp_path / "mine.yaml").write_text(block("yaml", "folder:pets"))

    checked = CliRunner().invoke(app, ["check", "mine.yaml"], catch_exceptions=False)
    assert checked.exit_code == 0 and "a valid suite" in checked.output
    short = ["--set", "recipe.epochs=1", "--seeds", "0", "--set", "measure.latency=false"]
    ran = CliRunner().invoke(app, ["run", "mine.yaml", *short], catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    frame = load("runs/mine")
    assert len(frame) == 9 and set(frame.status) == {"ok"}
    assert (tmp_path / "runs" / "mine" / "report" / "index.html").is_file()


def test_the_loss_of_the_readme_is_one_short_file_that_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = block("python", "@method")
    assert len(text.splitlines()) <= 25
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cosine.py").write_text(text)
    entry = re.search(r"`(\{name: \"cosine.py:Cosine\".*?\})`", README)
    assert entry
    (tmp_path / "own.yaml").write_text(
        "dataset: {name: digits, args: {limit: 200, limit_test: 100}}\n"
        "teachers: [cnn_4]\nstudents: [mlp_16]\n"
        f"methods: [scratch, {entry.group(1)}]\n"
        "seeds: [0]\nrecipe: {epochs: 2, batch_size: 20, precision: fp32}\nmeasure: {latency: false}\n"
    )
    ran = CliRunner().invoke(app, ["run", "own.yaml"], catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    frame = load("runs/own").set_index("method_name")
    assert frame.params_adapter["cosine"] == 16 * 16 + 16
    history = next(
        file.read_text()
        for file in Path("runs/own/nodes").glob("*/history.csv")
        if "cosine" in file.read_text()
    )
    assert {"loss_ce", "loss_kd", "loss_cosine"} <= set(history.splitlines()[0].split(","))
    before = set(frame.id)
    (tmp_path / "cosine.py").write_text(text.replace("1 - similarity", "2 - 2 * similarity"))
    again = CliRunner().invoke(app, ["plan", "own.yaml", "--json"], catch_exceptions=False)
    after = {row["id"] for row in json.loads(again.output)}
    assert len(before & after) == 1, "only scratch keeps its id when the loss is edited"


def test_the_metric_and_the_compressor_of_the_readme_are_short_files_that_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    files = {"surprise.py": block("python", "@metric"), "clipped.py": block("python", "@compressor")}
    for name, text in files.items():
        assert len(text.splitlines()) <= 25
        (tmp_path / name).write_text(text)
    entry = re.search(r"`(\{name: \"clipped.py:Clipped\".*?\})`", README)
    metrics = re.search(r"`(metrics: .*?)` in a suite", README)
    assert entry and metrics
    (tmp_path / "own.yaml").write_text(
        "dataset: {name: digits, args: {limit: 200, limit_test: 100}}\n"
        "teachers: [cnn_4]\nstudents: [mlp_16, teacher]\n"
        f"methods: [scratch, {entry.group(1)}, "
        "{chain: [kd, 'clipped.py:Clipped', kd], students: [mlp_16]}]\n"
        f"{metrics.group(1)}\n"
        "seeds: [0]\nrecipe: {epochs: 2, batch_size: 20, precision: fp32}\nmeasure: {latency: false}\n"
    )
    ran = CliRunner().invoke(app, ["run", "own.yaml"], catch_exceptions=False)
    assert ran.exit_code == 0, ran.output
    frame = load("runs/own").set_index("method")
    assert (frame.surprise > 0).all() and frame.surprise_best_val.notna().sum() >= 3
    for method in ("clipped", "kd → clipped → kd"):
        folder = tmp_path / "runs" / "own" / "nodes" / frame.id[method]
        record = json.loads((folder / "record.json").read_text())
        decided = folder if method == "clipped" else folder.parent / record["start"]
        limit = json.loads((decided / "decision.json").read_text())["limit"]
        stored = load_file(folder / "weights.safetensors")
        weights = [value for name, value in stored.items() if "running" not in name and "batches" not in name]
        largest = max(float(value.abs().max()) for value in weights)
        assert largest == pytest.approx(limit)


def test_the_chains_of_the_readme_are_planned(tmp_path: Path) -> None:
    text = block("yaml", "prune_magnitude")
    (tmp_path / "chains.yaml").write_text(f"dataset: digits\nteachers: [cnn_16]\n{text}")
    plan = make_plan(Suite.load(tmp_path / "chains.yaml"))
    assert not any(cell.refusal for cell in plan.cells)
    assert {cell.method for cell in plan.cells} >= {"prune 90 %, kd", "kd → cast"}


def test_a_file_beside_the_methods_is_a_method_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cosine.py").write_text(block("python", "@method"))
    monkeypatch.setattr(distillers, "__path__", [*distillers.__path__, str(tmp_path)])
    reopen(METHODS, monkeypatch)
    assert find_method("cosine").title == "align pooled features"


def test_the_commands_of_the_readme_exist() -> None:
    shell = "".join(re.findall(r"```sh\n(.*?)```", README, flags=re.DOTALL))
    commands = set(re.findall(r"kdbench (\w+)", shell))
    assert {"run", "plan", "compare", "report", "measure", "list", "check"} <= commands
    for command in commands:
        assert CliRunner().invoke(app, [command, "--help"]).exit_code == 0, command
