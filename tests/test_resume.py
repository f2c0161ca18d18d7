"""kill -9 at random moments of a run: it goes on, redoes nothing, and ends with the same bits."""

from __future__ import annotations

import random
import re
import signal
import subprocess
import sys
from pathlib import Path

from kdbench.store import RunDirectory, load

KILLS = 5
# As the quickstart, with one student of each kind of state: momentum, AdamW, adapters, averaged weights.
SUITE = """
dataset: {name: digits, validation_fraction: 0.15, args: {limit: 400}}
teachers: [{name: cnn_8, recipe: {epochs: 2}}]
students: [{name: gru_32, recipe: {optimizer: adamw, lr: 0.05, weight_decay: 0.01}}, cnn_4, cnn_8]
methods:
  - scratch
  - {name: kd, students: [gru_32, cnn_4]}
  - {name: fitnet, layer: 2, students: [cnn_4]}
  - {name: interpolate, lam: 0.5, every: epoch, students: [cnn_8]}
seeds: [0, 1]
threads: 1
recipe: {epochs: 2, batch_size: 32, lr: 0.1, schedule: one_cycle, clip_norm: 5.0}
measure: {latency: false}
"""
RECORDS = 15


def start(suite: Path, events: int, out: Path) -> subprocess.CompletedProcess[str]:
    script = Path(__file__).parent / "killed_run.py"
    return subprocess.run(
        [
            sys.executable,
            str(script),
            str(events),
            "run",
            str(suite),
            *("--quiet", "--device", "cpu"),
            "--out",
            str(out),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parent.parent,
    )


def finished(out: Path) -> dict[Path, int]:
    done = [*out.glob("cells/*/record.json"), *out.glob("teachers/*/teacher.safetensors")]
    return {path: path.stat().st_mtime_ns for path in done}


def test_a_killed_run_ends_like_one_that_was_not_killed(tmp_path: Path) -> None:
    suite = tmp_path / "killed.yaml"
    suite.write_text(SUITE)
    whole = start(suite, 0, tmp_path / "whole" / "run")
    assert whole.returncode == 0, whole.stderr
    total = int(re.findall(r"events (\d+)", whole.stdout)[-1])
    moments = sorted(random.Random(20261121).sample(range(1, total - 60), KILLS))
    cut = tmp_path / "cut" / "run"
    done: dict[Path, int] = {}
    before = 0
    for moment in moments:
        killed = start(suite, moment - before, cut)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        before = moment
        now = finished(cut)
        assert all(now[path] == stamp for path, stamp in done.items()), "a finished cell was written again"
        done = now
    last = start(suite, 0, cut)
    assert last.returncode == 0, last.stderr
    now = finished(cut)
    assert all(now[path] == stamp for path, stamp in done.items())

    mine, theirs = load(cut), load(tmp_path / "whole" / "run")
    assert len(mine) == len(theirs) == RECORDS and set(mine.status) == {"ok"}
    columns = RunDirectory(cut).columns()
    quality = ["id", "best_epoch", *(name for name, column in columns.items() if column.family != "cost")]
    assert mine[quality].equals(theirs[quality])
