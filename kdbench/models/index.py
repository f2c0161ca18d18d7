"""What is known of the zoo without building it: shapes, taps and counts at 32×32 pixels and 100 classes.

Planning and listing need no more than that of a model, and building all of them takes seconds. The index
``zoo/index.json`` ships with the package and is written by ``make zoo``. An entry counts only while the file
that defines its model is, byte for byte, the one that it was made from; else the model is built and looked
at. Its multiply-adds count only while the code that counts is the same as well.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from kdbench.deferred import nn
from kdbench.inputs import InputSpec
from kdbench.models.shapes import FeatureShapes, Taps

# The inputs at which the distillation literature counts its models.
INPUTS = InputSpec.image((3, 32, 32))
CLASSES = 100
_FOLDER = Path(__file__).parent
_ZOO = _FOLDER / "zoo"
FILE = _ZOO / "index.json"
# What decides how a model's taps are found, whichever model it is.
_READER = "features.py"
# What decides how multiply-adds are counted; the reading side must not import it.
COUNTER = ("calls.py", "counts.py", "operators.py", "rules.py", "traces.py")


@dataclass(frozen=True)
class Sketch:
    """A model as the plan knows it: its taps, shapes, and a hash of its weights' names and shapes.

    ``kinds`` are the classes of its modules, with what they derive from; None of the zoo's indexed models.
    """

    taps: Taps
    shapes: FeatureShapes
    weights: str
    kinds: frozenset[str] | None = None


# Makes one of JSON, whose lists become tuples.
_SKETCH = TypeAdapter(Sketch)


@dataclass(frozen=True)
class Entry:
    """A model of the zoo at the literature's shape; ``macs`` is None where they are counted otherwise now."""

    name: str
    params: int
    macs: int | None
    sketch: Sketch


def sketch_of(model: nn.Module, taps: Taps, shapes: FeatureShapes) -> Sketch:
    """Return the sketch of a model that was built."""
    weights = [[name, list(parameter.shape)] for name, parameter in model.named_parameters()]
    return Sketch(taps, shapes, hashlib.sha256(json.dumps(weights).encode()).hexdigest()[:16])


def indexed(name: str) -> Entry | None:
    """Return what the index says of a model, or None where it is not there or its code has changed."""
    entry = _index().get(name)
    if entry is None or entry["source"] != fingerprint(entry["file"]):
        return None
    macs = entry["macs"] if entry.get("counter") == counter_fingerprint() else None
    return Entry(name, entry["params"], macs, _SKETCH.validate_python(entry["sketch"]))


@cache
def _index() -> dict[str, Any]:
    return json.loads(FILE.read_text(encoding="utf-8")) if FILE.is_file() else {}


@cache
def fingerprint(file: str) -> str | None:
    """Return a hash of the code that a model of the zoo depends on, given its file in this package."""
    return _hash_of([_FOLDER / _READER, _ZOO / file])


@cache
def counter_fingerprint() -> str | None:
    """Return a hash of the code that counts multiply-adds."""
    return _hash_of([_FOLDER.parent / "efficiency" / name for name in COUNTER])


def _hash_of(paths: Sequence[Path]) -> str | None:
    if not all(path.is_file() for path in paths):
        return None
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()[:16]
