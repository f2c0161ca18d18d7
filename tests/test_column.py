"""What columns say of themselves, and what the names of those that say less are read as."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kdbench.column import Column
from kdbench.column_names import completed, is_timing
from kdbench.efficiency.places import Dimensions
from kdbench.methods import methods
from kdbench.place import Place
from kdbench.runner.amendments.independent import INDEPENDENT_COLUMNS
from kdbench.runner.records import all_columns

EVERY_PLACE = Dimensions(
    runtimes=("eager", "compile", "export", "onnx", "graph"),
    precisions=("fp32", "bf16"),
    threads=(1, 2),
    memory=True,
    energy=True,
)
RESULTS = Path(__file__).parents[1] / "results"
ADDED = ("scale", "quantity", "head", "epoch", "place")


def every_column() -> list[Column]:
    used = list(methods().values())
    return [*all_columns((1, 256), used, EVERY_PLACE, heads=("coarse_label",)), *INDEPENDENT_COLUMNS]


def test_a_column_is_read_as_it_was_written() -> None:
    for column in every_column():
        assert completed(json.loads(json.dumps(column.as_json()))) == column


def test_a_column_of_an_earlier_version_says_by_its_name_what_it_says_itself_today() -> None:
    published = {
        entry["name"]
        for file in RESULTS.glob("*/columns.json")
        for entry in json.loads(file.read_text())
        if "scale" not in entry
    }
    known = [column for column in every_column() if column.place or column.name in published]
    assert {column.quantity for column in known} > {"top1", "agreement_excess", "macs", "memory_peak"}
    for column in known:
        entry = {key: value for key, value in column.as_json().items() if key not in ADDED}
        assert completed(entry) == column


def test_what_a_model_is_run_for_has_a_place() -> None:
    columns = every_column()
    assert {column.name for column in columns if column.place} == {
        column.name for column in columns if is_timing(column.name)
    }
    timed = {column.scale for column in columns if column.is_timed}
    assert timed == {"ms", "rate", "ratio"}


def test_a_quantity_is_one_whichever_its_head_and_epoch() -> None:
    columns = {column.name: column for column in every_column()}
    column = columns["coarse_label.top1_best_val"]
    assert (column.quantity, column.head, column.epoch, column.scale) == (
        "top1",
        "coarse_label",
        "best",
        "percent",
    )
    assert (columns["top1"].head, columns["top1"].epoch) == ("", "last")
    assert columns["agreement_independent"].quantity == "agreement_independent"


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (Place("cpu", 1), "CPU, batch 1"),
        (Place("cuda", 256, runtime="graph"), "GPU, batch 256, CUDA graph"),
        (Place("cpu", 1, 1, "bf16", "onnx"), "CPU, batch 1, 1 thread, bf16, ONNX Runtime"),
        (Place("cpu", 1, 2), "CPU, batch 1, 2 threads"),
    ],
)
def test_a_place_has_words(place: Place, words: str) -> None:
    assert place.words == words


def test_all_that_takes_turns_is_of_one_pass() -> None:
    assert Place("cpu", 1, 1, "bf16", "onnx").turn == "cpu_b1_t1"
    assert Place("cpu", 1).is_usual and not Place("cpu", 1, runtime="onnx").is_usual
