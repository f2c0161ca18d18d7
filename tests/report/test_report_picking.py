"""The command that says what to ship, in words and as values."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

import kdbench
from kdbench.cli import app
from kdbench.report import render_pick
from tests.report.tiny_run import COSTS, make_record, write_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    records = [make_record("teacher", "big", None, None, 0, "top1", 0.96, COSTS)]
    for student, method, values in (
        ("cnn", "scratch", (0.90, 0.91, 0.92)),
        ("cnn", "kd", (0.93, 0.94, 0.95)),
        ("mlp", "kd[bold]\x1b[31m", (0.92, 0.945, 0.93)),
    ):
        for seed, value in enumerate(values):
            records.append(make_record("student", "big", student, method, seed, "top1", value, COSTS))
    for record in records:
        record["id"] = record["id"].replace("[bold]\x1b[31m", "")
    write_run(tmp_path / "run", records, 0, 1_000)
    return tmp_path / "run"


def words(run: Path, **asked: object) -> str:
    console = Console(file=io.StringIO(), width=200)
    render_pick(run, console, **asked)
    return console.file.getvalue()


def test_the_words_hold_the_choice_and_what_it_gives_up(run: Path) -> None:
    text = words(run, at_least={"top1": 0.9})
    assert "tiny: of 3 rows 3 keep within top-1 accuracy ≥ 90.0 %." in text
    assert "cnn by kd" in text and "94.0 ± 2.5 % (3 seeds)" in text
    assert "−2.0 points [−4.5, +0.5] from its teacher big with 96.0 % (no difference shown)" in text
    assert "10× faster (CPU, batch 1), 30× fewer MACs and 60× fewer parameters" in text
    assert "+0.8 points" in text and "which of the two is better is not known" in text
    assert "holds no weights: run the suite to have the model." in text


def test_words_of_a_loss_that_is_allowed(run: Path) -> None:
    assert "within 5.0 points of cnn by kd: −0.8 points [−4.0, +2.3]" in words(run, within=5)
    assert "shown to be under 5.0 points" in words(run, within=5)
    assert "not shown to be under 1.0 points, but its mean is" in words(run, within=1)
    assert "the best; no cheaper one (latency) has a mean within 0.5 points of it" in words(run, within=0.5)


def test_what_others_wrote_reaches_the_terminal_as_text(run: Path) -> None:
    text = words(run, at_most={"latency_cpu_b1_p50_ms": 0.1})
    assert "\x1b[31m" not in text and "mlp by kd[bold]" in text


def test_the_export_command_names_the_folder_of_the_first_seed(run: Path) -> None:
    folder = run / "cells" / "student-big-cnn-kd-0"
    (folder / "weights.safetensors").write_bytes(b"")
    assert f"kdbench export {folder} --to onnx  # seed 0, the first of 3" in words(run)


def test_values_are_those_of_the_words(run: Path) -> None:
    values = kdbench.pick(run, at_most={"params": 6_000}, within=5)
    assert (values["picked"]["student"], values["picked"]["method"]) == ("cnn", "kd")
    assert values["picked"]["top1"] == pytest.approx(0.94) and values["picked"]["params"] == 5_000
    assert values["cost"] == "params" and values["within"] == 5
    assert values["runner_up"]["method"] == "scratch" and values["runner_up_difference"]["n"] == 3
    json.dumps(values, allow_nan=False)


def test_the_command_exits_with_1_where_nothing_fits_and_shows_the_nearest(run: Path) -> None:
    arguments = ["pick", str(run), "--max", "latency_cpu_b1_p50_ms=0.15", "--min", "top1=93.9%"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 1
    assert "none keeps within" in done.output and "0.8 % beyond" in done.output
    done = CliRunner().invoke(app, [*arguments, "--json"])
    values = json.loads(done.stdout)
    assert done.exit_code == 1 and values["picked"] is None and values["nearest"]["student"] == "mlp"
    assert values["misses"][0]["limit"] == pytest.approx(0.939)


@pytest.mark.parametrize("text", ["top1", "top1=", "top1=high", "top1=nan", "=3", "top1=1e999"])
def test_a_limit_that_is_none_is_one_line(run: Path, text: str) -> None:
    done = CliRunner().invoke(app, ["pick", str(run), "--min", text])
    assert isinstance(done.exception, kdbench.errors.UserError)


def test_a_limit_given_twice_is_one_line(run: Path) -> None:
    done = CliRunner().invoke(app, ["pick", str(run), "--max", "macs=1", "--max", "macs=2"])
    assert "is given twice" in str(done.exception)
