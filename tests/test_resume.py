"""kill -9 at random moments of a quickstart run: it goes on, redoes nothing, and ends with the same bits."""

from __future__ import annotations

import random
import re
import signal
import subprocess
import sys
from pathlib import Path

from kdbench.store import RunDirectory, load

KILLS = 5
COMMAND = (
    *("run", "quickstart", "--quiet", "--device", "cpu", "--seeds", "0,1"),
    *("--set", "recipe.epochs=2", "--set", "teachers.0.recipe.epochs=2"),
    *("--set", "dataset.args.limit=400", "--set", "measure.latency=false"),
    "--out",
)


def start(events: int, out: Path) -> subprocess.CompletedProcess[str]:
    script = Path(__file__).parent / "killed_run.py"
    return subprocess.run(
        [sys.executable, str(script), str(events), *COMMAND, str(out)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parent.parent,
    )


def finished(out: Path) -> dict[Path, int]:
    done = [*out.glob("cells/*/record.json"), *out.parent.glob("teachers/*/teacher.safetensors")]
    return {path: path.stat().st_mtime_ns for path in done}


def test_a_killed_quickstart_ends_like_one_that_was_not_killed(tmp_path: Path) -> None:
    whole = start(0, tmp_path / "whole" / "run")
    assert whole.returncode == 0, whole.stderr
    total = int(re.findall(r"events (\d+)", whole.stdout)[-1])
    moments = sorted(random.Random(20261121).sample(range(1, total - 60), KILLS))
    cut = tmp_path / "cut" / "run"
    done: dict[Path, int] = {}
    before = 0
    for moment in moments:
        killed = start(moment - before, cut)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        before = moment
        now = finished(cut)
        assert all(now[path] == stamp for path, stamp in done.items()), "a finished cell was written again"
        done = now
    last = start(0, cut)
    assert last.returncode == 0, last.stderr
    now = finished(cut)
    assert all(now[path] == stamp for path, stamp in done.items())

    mine, theirs = load(cut), load(tmp_path / "whole" / "run")
    assert len(mine) == len(theirs) == 37 and set(mine.status) == {"ok"}
    columns = RunDirectory(cut).columns()
    quality = ["id", "best_epoch", *(name for name, column in columns.items() if column.family != "cost")]
    assert mine[quality].equals(theirs[quality])
