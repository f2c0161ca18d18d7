"""A user's own code that ends the process, never returns, crashes, raises, or gives back something else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from harm.fixtures import RUN
from harm.trial import PATIENCE, SOUND, SUITE, Trial

HEAD = """import ctypes, faulthandler, os, signal, sys, threading, time
import numpy as np, torch
from torch import nn
class Odd(BaseException): pass
class Unspeakable(Exception):
    def __str__(self): raise RuntimeError("no words")
class Net(nn.Module):
    def __init__(self, num_classes=10, **words):
        super().__init__()
        self.layer = nn.Linear(64, num_classes)
    def forward(self, x):
        return self.layer(x.flatten(1))
"""
# What code does in place of its work.
ACTS = {
    "ends-with-0": "os._exit(0)",
    "ends-with-3": "os._exit(3)",
    "exits": "sys.exit(0)",
    "exits-with-text": 'sys.exit("bye")',
    "raises": 'raise ValueError("on purpose")',
    "raises-of-many-lines": 'raise ValueError("line\\n" * 5000)',
    "raises-escapes": 'raise ValueError("\\x1b[2J\\x07")',
    "raises-nothing": "raise ValueError",
    "raises-what-has-no-words": "raise Unspeakable",
    "raises-no-exception": "raise Odd",
    "raises-an-interrupt": "raise KeyboardInterrupt",
    "raises-stop-iteration": "raise StopIteration",
    "raises-generator-exit": "raise GeneratorExit",
    "raises-memory-error": "raise MemoryError",
    "recurses": "exec('def f(): return f()\\nf()')",
    "hangs": "time.sleep(10**6)",
    "turns-in-circles": "exec('while True: pass')",
    "hangs-without-signals": "signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65)); time.sleep(10**6)",
    "crashes": "ctypes.string_at(0)",
    "aborts": "os.abort()",
    "kills-itself": "os.kill(os.getpid(), signal.SIGKILL)",
}
FEW = ("ends-with-0", "exits", "raises", "raises-no-exception", "hangs", "crashes")
# Where an interrupt is raised it is what a person's Ctrl-C would be.
INTERRUPTED = {"raises-an-interrupt": (1, 2, 130)}

# What a factory of models returns.
MODELS = {
    "none": "None",
    "a-class": "Net",
    "a-number": "3",
    "another-shape": "nn.Sequential(nn.Flatten(), nn.Linear(64, 7))",
    "no-batch": "nn.Flatten(0)",
    "a-text-from-forward": "type('T', (Net,), {'forward': lambda self, x: 'x'})()",
    "nothing-from-forward": "type('T', (Net,), {'forward': lambda self, x: None})()",
    "not-finite": "type('T', (Net,), {'forward': lambda self, x: Net.forward(self, x) * float('nan')})()",
    "no-weights": "nn.Sequential(nn.Flatten(), nn.Softmax(1))",
    "meta": "Net().to('meta')",
    "halves": "Net().half()",
    "complex": "type('T', (Net,), {'forward': lambda self, x: Net.forward(self, x).to(torch.complex64)})()",
    "integers": "type('T', (Net,), {'forward': lambda self, x: Net.forward(self, x).long()})()",
}
IMAGES = "np.zeros((40, 8, 8), np.uint8), np.arange(40) % 2"
# What a factory of datasets returns.
DATA = {
    "none": "None",
    "a-number": "3",
    "one-part": f"(({IMAGES}),)",
    "texts": "(('a', 'b'), ('c', 'd'))",
    "labels-of-2**62": f"(({IMAGES[:-4]} + 2**62), ({IMAGES}))",
    "labels-below-0": f"(({IMAGES[:-4]} - 5), ({IMAGES}))",
    "labels-not-finite": f"((np.zeros((40, 8, 8), np.uint8), np.full(40, np.nan)), ({IMAGES}))",
    "labels-too-few": f"((np.zeros((40, 8, 8), np.uint8), np.arange(3)), ({IMAGES}))",
    "labels-of-text": f"((np.zeros((40, 8, 8), np.uint8), np.array(['a', 'b'] * 20)), ({IMAGES}))",
    "labels-of-objects": f"((np.zeros((40, 8, 8), np.uint8), np.array([None] * 40)), ({IMAGES}))",
    "images-of-floats": f"((np.zeros((40, 8, 8)), np.arange(40) % 2), ({IMAGES}))",
    "images-flat": f"((np.zeros((40, 64), np.uint8), np.arange(40) % 2), ({IMAGES}))",
    "no-images": f"((np.zeros((0, 8, 8), np.uint8), np.zeros(0, int)), ({IMAGES}))",
    "images-of-no-size": f"((np.zeros((40, 0, 0), np.uint8), np.arange(40) % 2), ({IMAGES}))",
    "images-of-two-sizes": f"((np.zeros((40, 9, 9), np.uint8), np.arange(40) % 2), ({IMAGES}))",
    "unknown-parts": "{'nobody': 1}",
    "class-missing-in-test": f"((np.zeros((60, 8, 8), np.uint8), np.arange(60) % 3), ({IMAGES}))",
    "classes-with-escapes": "{'train': (IMAGES), 'test': (IMAGES), 'classes': ['\\x1b[2J', 'a\\nb']}".replace(
        "IMAGES", IMAGES
    ),
    "classes-too-few": "{'train': (IMAGES), 'test': (IMAGES), 'classes': ['a']}".replace("IMAGES", IMAGES),
}
# What text of its own may be shown is replaced, not refused.
SHOWN = ("classes-with-escapes",)


def suite(**parts: Any) -> str:
    return json.dumps(SOUND | parts)


def _suites() -> dict[str, tuple[str, str]]:
    """Return the places where code is called: a suite that names it, and the code with ACT in it."""
    student = suite(students=["own.py:net"], methods=["scratch"])
    made = "def net(**words):\n    return Net(**words)\n"
    own = HEAD + "class Own(Net):\n    def forward(self, x):\n"
    tail = "        return super().forward(x)\ndef net(**words):\n    return Own(**words)\n"
    inside = f"{own}        ACT\n{tail}"
    late = f"{own}        if torch.is_grad_enabled() and len(x) > 8:\n            ACT\n{tail}"
    metric = suite(metrics=["own.py:mine"])
    return {
        "import": (student, f"{HEAD}ACT\n{made}"),
        "model": (student, f"{HEAD}def net(**words):\n    ACT\n"),
        "forward": (student, inside),
        "training": (student, late),
        "dataset": (suite(dataset="own.py:data"), f"{HEAD}def data():\n    ACT\n"),
        "metric": (metric, f"{HEAD}ACT\n"),
        "section": (suite(sections=["own.py:mine"]), f"{HEAD}ACT\n"),
        "method": (suite(methods=["scratch", "own.py:mine"]), f"{HEAD}ACT\n"),
    }


def trials() -> Iterator[Trial]:
    """Yield every act in every place, and everything that is no model and no data."""
    run = (("run", SUITE, "--out", RUN, *PATIENCE),)
    check = (("check", SUITE, *PATIENCE),)
    for where, (text, source) in _suites().items():
        for act, statement in ACTS.items():
            if where not in ("model", "training") and act not in FEW:
                continue
            files = {SUITE: text, "own.py": source.replace("ACT", statement)}
            late = where == "training"
            # What a model does in its training fails its cells; a step of it has no limit of time.
            if late and act in ("hangs", "turns-in-circles", "hangs-without-signals"):
                continue
            statuses = INTERRUPTED.get(act) or ((1, 2) if late else (2,))
            yield Trial(
                "code",
                f"{where}-{act}",
                run if late else (*check, *run),
                files,
                statuses=statuses,
                limit_s=40,
            )
            if late and act in FEW:
                jobs = ((*run[0], "--jobs", "2"),)
                files = files | {SUITE: suite(students=["own.py:net"], methods=["scratch"], seeds=[0, 1])}
                yield Trial("code", f"job-{act}", jobs, files, statuses=statuses, limit_s=60)
    for label, value in MODELS.items():
        source = f"{HEAD}def net(**words):\n    return {value}\n"
        files = {SUITE: suite(students=["own.py:net"], methods=["scratch"]), "own.py": source}
        yield Trial("code", f"model-is-{label}", (*check, *run), files, statuses=(0, 1, 2))
    for label, value in DATA.items():
        files = {SUITE: suite(dataset="own.py:data"), "own.py": f"{HEAD}def data():\n    return {value}\n"}
        yield Trial("code", f"data-are-{label}", run, files, statuses=(0, 1, 2) if label in SHOWN else (2,))
    for label, content in SOURCES.items():
        student, _ = _suites()["model"]
        yield Trial("code", f"file-{label}", check, {SUITE: student, "own.py": content})
    for name in ("random", "html", "torch", "kdbench"):
        source = f"import pathlib\npathlib.Path('../victim/executed-{name}').touch()\nraise SystemExit(7)\n"
        commands = (
            ("check", SUITE),
            ("measure", "mlp_4", "--input", "1,8,8", "--batch-sizes", "1", "--device", "cpu"),
        )
        yield Trial("code", f"named-{name}", commands, {SUITE: suite(), f"{name}.py": source}, statuses=(0,))


SOURCES: dict[str, str | bytes] = {
    "that-is-no-python": "def (:\n",
    "of-noise": bytes(range(256)),
    "with-a-nul": "a = 'x\0y'\n",
    "that-is-empty": "",
    "very-deep": "(" * 5_000 + ")" * 5_000,
    "of-a-long-line": "x = '" + "a" * 1_000_000 + "'\n",
    "that-imports-nobody": "import nobody_at_all\n",
    "that-imports-itself": "import own\nown.net\n",
    "without-the-name": "nett = 3\n",
    "where-the-name-is-a-number": "net = 3\n",
}
