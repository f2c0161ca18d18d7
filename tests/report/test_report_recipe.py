"""What a report says of how the networks of a run were trained."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kdbench.analysis.summary import Summary, summarise
from kdbench.report.content import gather
from kdbench.report.renderers.html import as_page
from kdbench.report.renderers.markdown import as_document
from kdbench.report.sections.recipe import method_table, recipe_table, setting

SGD: dict[str, Any] = {
    "optimizer": "sgd",
    "lr": 0.2,
    "momentum": 0.9,
    "nesterov": False,
    "weight_decay": 5e-4,
    "clip_norm": None,
    "schedule": "multi_step",
    "milestones": [150, 180],
    "gamma": 0.1,
    "warmup": 0.0,
    "epochs": 200,
    "batch_size": 64,
    "precision": "auto",
}
ADAMW = SGD | {"optimizer": "adamw", "lr": 5e-5, "schedule": "one_cycle", "milestones": [], "clip_norm": 1.0}
HYPER: dict[str, dict[str, Any]] = {
    "scratch": {"name": "scratch"},
    "kd(temperature=4)": {"name": "kd", "temperature": 4.0, "alpha": 0.9},
    "contrast": {"name": "crd", "negatives": 16384, "layer": "pooled"},
    "kd (random teacher)": {"name": "kd", "temperature": 4.0, "alpha": 0.9},
}


@pytest.fixture
def run(write_run: Callable[..., Path]) -> Path:
    """A run whose records hold configurations: one student has a recipe of its own, the teacher weights."""
    path = write_run(students=("mlp_64", "cnn_4", "gru_32"), methods=tuple(HYPER), seeds=(0, 1), epochs=1)
    for file in path.glob("*/*/record.json"):
        record = json.loads(file.read_text())
        student = record["student"]
        record["config"] = {
            "dataset": {
                "name": "digits",
                "validation_fraction": 0.1,
                "split_seed": 0,
                "augment": {"crop_padding": 4, "flip": True, "cutout": 0},
                "imbalance": {"factor": 100.0},
                "args": {},
            },
            "recipe": None if student is None else ADAMW if student == "gru_32" else SGD,
        }
        if student is not None:
            record["config"]["method"] = HYPER[record["method"]]
            record["control_of"] = "kd(temperature=4)" if "random" in record["method"] else None
        file.write_text(json.dumps(record))
    return path


@pytest.fixture
def summary(run: Path) -> Summary:
    """The summary of that run."""
    return summarise(run)


def texts(table: Any) -> list[list[str]]:
    return [[cell.text for cell in line.cells] for line in table.lines]


def test_networks_of_one_recipe_share_a_line(summary: Summary) -> None:
    further = "momentum 0.9, weight decay 0.0005, milestones 150, 180, gamma 0.1"
    assert texts(recipe_table(summary)) == [
        ["cnn_64 (teacher)", *"–––––", "loaded from a checkpoint", ""],
        ["mlp_64, cnn_4", "200", "64", "0.2", "multi step", "sgd", further, "auto: fp32"],
        [
            "gru_32",
            "200",
            "64",
            "5e-05",
            "one cycle",
            "adamw",
            "weight decay 0.0005, clip norm 1",
            "auto: fp32",
        ],
    ]


def test_every_setting_of_a_method_is_told(summary: Summary) -> None:
    assert texts(method_table(summary)) == [
        ["scratch", "none", "all"],
        ["kd(temperature=4)", "temperature 4, alpha 0.9", "all"],
        ["contrast (crd)", "negatives 16384, layer pooled", "all"],
        [
            "kd (random teacher)",
            "temperature 4, alpha 0.9; a control: kd(temperature=4) with a random teacher",
            "all",
        ],
    ]


def test_a_method_of_two_settings_has_two_lines(run: Path) -> None:
    for file in run.glob("cells/*/record.json"):
        record = json.loads(file.read_text())
        if (record["student"], record["method"]) == ("cnn_4", "contrast"):
            record["config"]["method"] = HYPER["contrast"] | {"layer": 2}
            file.write_text(json.dumps(record))
    found = [line for line in texts(method_table(summarise(run))) if line[0] == "contrast (crd)"]
    assert found == [
        ["contrast (crd)", "negatives 16384, layer pooled", "mlp_64, gru_32"],
        ["contrast (crd)", "negatives 16384, layer 2", "cnn_4"],
    ]


def test_data_hardware_and_versions_are_told(summary: Summary) -> None:
    assert dict(setting(summary)) == {
        "data": "digits: 1,293 train, 144 validation, 360 test",
        "split": "validation fraction 0.1, split seed 0, imbalance (factor 100)",
        "augmentation": "crop padding 4, flip",
        "seeds": "0, 1",
        "hardware": "Example CPU <8 cores>, 8 cores, 31.2 GiB, no GPU",
        "versions": "Python 3.11.9, torch 2.11.0",
    }


def test_page_and_document_hold_the_recipe(summary: Summary) -> None:
    content = gather(summary)
    for text in (as_page(content, figures="figures"), as_document(content)):
        for told in ("multi step", "negatives 16384", "crop padding 4, flip", "torch 2.11.0"):
            assert told in text


def test_records_without_configuration_have_no_recipe(synthetic_run: Path) -> None:
    found = summarise(synthetic_run)
    assert recipe_table(found) is None
    assert method_table(found) is None
    assert "augmentation" not in dict(setting(found))
