"""kill -9 at random moments of a run: it goes on, redoes nothing, and ends with the same bits."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

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
  - {chain: [fitnet, prune_magnitude, kd], students: [cnn_4]}
seeds: [0, 1]
threads: 1
recipe: {epochs: 2, batch_size: 32, lr: 0.1, schedule: one_cycle, clip_norm: 5.0}
measure: {latency: false}
"""
ROWS = 17
# For each seed two links of the chain that are no cells.
NODES = ROWS + 4


class Runs:
    """Runs of the suite one after the other, each in a process of its own that can be killed."""

    def __init__(self, suite: Path) -> None:
        command = [sys.executable, str(Path(__file__).parent / "killed_run.py"), str(suite)]
        root = Path(__file__).parent.parent
        self.process = subprocess.Popen(
            command, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root
        )

    def start(self, events: int, out: Path) -> tuple[int, int]:
        """Return the exit code of a run that is killed at its n-th event, and how many there were."""
        assert self.process.stdin and self.process.stdout
        print(events, out, file=self.process.stdin, flush=True)
        code, count = self.process.stdout.readline().split()
        return int(code), int(count)


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Runs]:
    suite = tmp_path / "killed.yaml"
    suite.write_text(SUITE)
    started = Runs(suite)
    yield started
    started.process.communicate()
    assert started.process.returncode == 0


def finished(out: Path) -> dict[Path, int]:
    # Records are amended later; what they are about is not written again.
    done = [path.with_name("weights.safetensors") for path in out.glob("nodes/*/record.json")]
    return {path: path.stat().st_mtime_ns for path in done}


def test_a_killed_run_ends_like_one_that_was_not_killed(runs: Runs, tmp_path: Path) -> None:
    code, total = runs.start(0, tmp_path / "whole" / "run")
    assert code == 0
    moments = sorted(random.Random(20261121).sample(range(1, total - 20), KILLS))
    cut = tmp_path / "cut" / "run"
    done: dict[Path, int] = {}
    before = 0
    for moment in moments:
        assert runs.start(moment - before, cut) == (-signal.SIGKILL, moment - before)
        before = moment
        now = finished(cut)
        assert all(now[path] == stamp for path, stamp in done.items()), "a finished cell was written again"
        done = now
    assert 0 < len(done) < NODES
    assert runs.start(0, cut)[0] == 0
    now = finished(cut)
    assert all(now[path] == stamp for path, stamp in done.items())

    mine, theirs = load(cut), load(tmp_path / "whole" / "run")
    assert len(mine) == len(theirs) == ROWS and set(mine.status) == {"ok"}
    columns = RunDirectory(cut).columns()
    quality = ["id", "best_epoch", *(name for name, column in columns.items() if column.family != "cost")]
    assert mine[quality].equals(theirs[quality])
