"""What decides a result, as plain values: ids are hashes of it."""

from __future__ import annotations

from typing import Any

from kdbench.code.factory import factory_fingerprint
from kdbench.methods import Method, Parameters
from kdbench.models.index import Sketch
from kdbench.models.registry import source_of
from kdbench.store import sha256_of
from kdbench.suite.references import located
from kdbench.suite.schema import DatasetEntry, ModelEntry

# Part of every id. Raise it when a change of the code changes results, so that old records are not reused.
ENGINE = 1


def dataset_config(entry: DatasetEntry) -> dict[str, Any]:
    """Return what decides the data: the entry of the suite, and the code of a user's own factory."""
    # Fields that came later decide nothing where they are not used: the ids of older results stay.
    unused = {
        "imbalance": entry.imbalance_factor == 1,
        "heads": not entry.heads,
        "classes": entry.classes is None,
    }
    config = entry.model_dump(mode="json", exclude={name for name, absent in unused.items() if absent})
    if ":" in entry.name and entry.name.partition(":")[0] not in ("folder", "parquet"):
        config["source"] = factory_fingerprint(located(entry.name, entry.folder))
    return config


def model_config(entry: ModelEntry, sketch: Sketch) -> dict[str, Any]:
    """Return what decides a model: names and arguments, and the content of the files behind them.

    Of a user's own code it is also the names and shapes of its parameters, which data that the code reads, or
    a library that it builds on, may change.
    """
    config: dict[str, Any] = {"name": entry.name, "args": entry.args}
    if entry.taps:
        config["taps"] = entry.taps.model_dump(mode="json")
    if entry.checkpoint:
        config["checkpoint"] = sha256_of(entry.checkpoint)
    source = source_of(entry.reference)
    if source:
        config["source"] = source
        config["parameters"] = sketch.weights
    return config


def method_config(registered: Method, hyper: Parameters) -> dict[str, Any]:
    """Return what decides a method: its hyper-parameters, and the code of a user's own."""
    config: dict[str, Any] = {"method": {"name": registered.name, **hyper.model_dump(mode="json")}}
    if registered.fingerprint:
        config["method_source"] = registered.fingerprint
    return config
