"""The reading side must work where torch is not installed, and must leave no pyplot state behind."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import importlib.abc, io, sys

class Blocker(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "torchvision", "fvcore"}:
            raise ModuleNotFoundError(f"{name} is not installed")

sys.meta_path.insert(0, Blocker())
try:
    import torch
except ModuleNotFoundError:
    pass
else:
    raise SystemExit("torch was not blocked")

import kdbench
from rich.console import Console
from kdbench.report import gallery, render

gallery.FORMATS, gallery.DPI = {"png": {}, "svg": {}}, 20
run = sys.argv[1]
assert len(kdbench.load(run)) == 7
assert len(kdbench.compare(run)) == 3
render(run, Console(file=io.StringIO()))
print(kdbench.write_report(run))
assert "torch" not in sys.modules
assert "matplotlib.pyplot" not in sys.modules
"""


def test_everything_that_reads_runs_without_torch(write_run):
    run = write_run(students=("mlp_64",), methods=("scratch", "fitnet"), epochs=1)
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(run)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PYTHONPATH": str(root)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(run / "report" / "index.html")
