"""Runs whose images are over the memory budget: told in the plan, and the same results as in memory."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from kdbench.cli import app
from kdbench.data.streaming import Stream
from kdbench.errors import UserError
from kdbench.progress import Progress
from kdbench.runner import run
from kdbench.store import RunDirectory, load
from kdbench.suite import Suite

TEXT = """
dataset:
  name: NAME
  validation_fraction: 0.2
  augment: {crop_padding: 1, flip: true}
teachers: [{name: cnn_4, recipe: {epochs: 2}}]
students: [mlp_16]
methods: [scratch, kd]
seeds: [0]
recipe: {epochs: 2, batch_size: 25, lr: 0.1, precision: fp32}
measure: {latency: false}
"""


class Listening(Progress):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def images(count: int, seed: int) -> Iterator[tuple[Image.Image, int]]:
    random = np.random.default_rng(seed)
    for index in range(count):
        label = index % 2
        pixels = random.integers(0, 90, (9, 9, 3)) + np.array([60 * label, 60 * (1 - label), 30])
        yield Image.fromarray(pixels.astype("uint8")), label


def write_folder(path: Path) -> str:
    for split, count in (("train", 80), ("test", 30)):
        for index, (image, label) in enumerate(images(count, count)):
            folder = path / split / ("cat", "dog")[label]
            folder.mkdir(parents=True, exist_ok=True)
            image.save(folder / f"{index}.png")
    return f"folder:{path}"


def write_parquet(path: Path) -> str:
    path.mkdir()
    for split, count in (("train", 80), ("test", 30)):
        rows, labels = [], []
        for image, label in images(count, count):
            buffer = io.BytesIO()
            image.save(buffer, "PNG")
            rows.append({"bytes": buffer.getvalue(), "path": None})
            labels.append(label)
        pq.write_table(pa.table({"img": rows, "label": labels}), path / f"{split}-0.parquet")
    return f"parquet:{path}"


@pytest.fixture
def suite(write_suite: Callable[..., Path], tmp_path: Path) -> Path:
    return write_suite(TEXT.replace("NAME", write_folder(tmp_path / "pets")), name="pets")


@pytest.mark.parametrize("write", [write_folder, write_parquet])
def test_a_streamed_run_has_the_results_of_one_in_memory(
    write: Callable[[Path], str], write_suite: Callable[..., Path], tmp_path: Path
) -> None:
    suite = write_suite(TEXT.replace("NAME", write(tmp_path / "pets")), name="pets")
    heard = Listening()
    for way, budget in (("memory", 10**9), ("streamed", 1000)):
        if way == "streamed":  # what models cost is measured once
            unfinished = shutil.ignore_patterns("nodes")
            shutil.copytree(tmp_path / "memory" / "run", tmp_path / way / "run", ignore=unfinished)
        outcome = run(Suite.load(suite), tmp_path / way / "run", memory_budget=budget, progress=heard)
        assert (outcome.ok, outcome.failed) == (2, 0)
        records = list(RunDirectory.open(outcome.path).records())
        assert [record.provenance["data"] for record in records] == [way] * 3
    notes = [note for note in heard.notes if "pixels" in note]
    assert "in memory (budget 1.0 GB)" in notes[0]
    assert "over the budget of 1.0 kB: streamed from disk." in notes[1]
    assert notes[2].startswith("reading ") and len(notes) == 3
    assert not (tmp_path / "streamed" / "run" / ".scratch").exists()
    held, streamed = (load(tmp_path / way / "run") for way in ("memory", "streamed"))
    columns = RunDirectory(tmp_path / "memory" / "run").columns()
    quality = ["id", "best_epoch", *(name for name, column in columns.items() if column.family != "cost")]
    assert held.top1.nunique() > 1
    assert held[quality].equals(streamed[quality])
    for file in (tmp_path / "memory" / "run").glob("nodes/*/predictions.safetensors"):
        assert (
            file.read_bytes() == (tmp_path / "streamed" / file.relative_to(tmp_path / "memory")).read_bytes()
        )


def test_an_image_that_vanishes_in_training_ends_the_run_and_no_student(
    suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches, passes = Stream.batches, 0

    def counted(*arguments: object) -> Iterator[torch.Tensor]:
        nonlocal passes
        passes += 1
        if passes == 2:  # the first evaluation on validation
            for file in (tmp_path / "pets" / "train" / "cat").iterdir():
                file.unlink()
        return batches(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Stream, "batches", counted)
    (tmp_path / "run" / ".scratch").mkdir(parents=True)  # of a run that was killed before it trained
    with pytest.raises(UserError, match=r"cannot read the image .*cat/\d+\.png \(.*\): replace or remove it"):
        run(Suite.load(suite), tmp_path / "run", memory_budget=1000)
    assert list((tmp_path / "run").glob("*/*/record.json")) == []
    assert not (tmp_path / "run" / ".scratch").exists()


def test_an_image_that_vanishes_before_a_student_is_built_fails_no_student(
    suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = ("teachers.0.recipe.epochs=1", "recipe.epochs=1")
    run(Suite.load(suite, [*few, "methods=[scratch]"]), tmp_path / "run", memory_budget=1000)
    batches = Stream.batches

    def without_images(*arguments: object) -> Iterator[torch.Tensor]:
        shutil.rmtree(tmp_path / "pets" / "train" / "cat", ignore_errors=True)
        return batches(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Stream, "batches", without_images)
    with pytest.raises(UserError, match=r"cannot read the image .*cat/\d+\.png"):
        run(Suite.load(suite, [*few, "methods=[scratch, kd]"]), tmp_path / "run", memory_budget=1000)
    assert [record.role for record in RunDirectory(tmp_path / "run").records()] == ["teacher", "student"]


def test_a_budget_of_nothing_is_refused(small_suite: Callable[..., Suite], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a memory budget of 0 bytes holds nothing: give a size such as 8GB"):
        run(small_suite(), tmp_path / "run", memory_budget=0)
    assert not (tmp_path / "run").exists()


def test_the_plan_says_which_way_the_images_go(suite: Path, write_suite: Callable[..., Path]) -> None:
    def plan(file: Path, *arguments: str) -> str:
        result = CliRunner().invoke(app, ["plan", str(file), *arguments], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    # 64 training images of 11 × 11, mirrored as well; 16 for validation and 30 for test of 9 × 9.
    total = (2 * 64 * 11 * 11 + 46 * 9 * 9) * 3
    assert total == 57_642
    assert "/pets: 58 kB of pixels, in memory (budget " in plan(suite)
    assert "in memory (budget 1.0 GB)." in plan(suite, "--memory-budget", "1GB")
    told = plan(suite, "--memory-budget", "20kB")
    assert "/pets: 58 kB of pixels is over the budget of 20 kB: train is streamed from disk" in told
    assert "1.0 kB: streamed from disk." in plan(suite, "--memory-budget", "1kB")
    assert isinstance(json.loads(plan(suite, "--json", "--memory-budget", "1kB")), list)
    assert "but goes in memory" in plan(write_suite(), "--memory-budget", "1kB")
    for command in ("plan", "run"):
        result = CliRunner().invoke(app, [command, str(suite), "--memory-budget", "12 apples"])
        assert isinstance(result.exception, UserError) and "give a size such as 8GB" in str(result.exception)
