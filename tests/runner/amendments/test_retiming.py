"""Latencies of finished runs, stated anew from their raw samples."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from kdbench.efficiency import CostReport, ModelJob
from kdbench.efficiency.columns import columns
from kdbench.efficiency.protocol import Protocol
from kdbench.efficiency.restating import FOOTING
from kdbench.errors import UserError
from kdbench.models import index
from kdbench.plan import make_plan
from kdbench.progress import Progress
from kdbench.runner.amendments.amendment import outdated
from kdbench.runner.amendments.costs import Costs
from kdbench.runner.amendments.measurement import measured
from kdbench.runner.amendments.retiming import retime
from kdbench.store import Record, RunDirectory, load, read_json
from kdbench.suite import Suite
from tests.documents import write_document

PACES = np.array([1.0, 1.0, 1.25, 1.25, 1.5, 0.5, 4.0])
ID = "0123456789ab"
MODELS = {"big": 6.0, "small": 2.0, "small by simkd": 3.0}
SPEEDUP, P50 = "speedup_cpu_b1", "latency_cpu_b1_p50_ms"
PROTOCOL = Protocol(batch_sizes=(1,))


def samples() -> pd.DataFrame:
    """Samples in the columns from before there were runtimes; the student has no turn in the slow rounds."""
    rows = [
        (label, "cpu", 1, 2, round_, ms * PACES[round_ % 7])
        for label, ms in MODELS.items()
        for round_ in range(28)
        if label == "big" or round_ % 7 < 6
    ]
    return pd.DataFrame(rows, columns=["model", "device", "batch", "threads", "round", "ms"])


def old_content() -> dict[str, Any]:
    """A cost file as it was written before: medians over all samples, and no word on bounds."""
    pooled = samples().groupby("model")["ms"].median()
    names = [column.name for column in columns((1,)) if column.name != "macs_uncounted"]
    metrics = {
        label: dict.fromkeys(names)
        | {
            P50: pooled[label],
            SPEEDUP: 6.0 / ms,
            "macs": 100 * ms,
            "size_bytes": 9,
            "theoretical_speedup": 6.0 / ms,
        }
        for label, ms in MODELS.items()
    }
    calls: dict[str, dict[str, int]] = {"big": {"aten::mul": 1}, "small": {}}
    calls["small by simkd"] = {"aten::_convolution_mode": 2, "aten::sigmoid": 3}
    conditions = {
        "reference": "big",
        "protocol": PROTOCOL.as_json(),
        "counts": {label: {"uncounted": found} for label, found in calls.items()},
    }
    reasons = {
        label: {name: "not measured then" for name, value in values.items() if value is None}
        for label, values in metrics.items()
    }
    return {"metrics": metrics, "reasons": reasons, "conditions": conditions}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run of one teacher and two cells, as it was published before."""
    content = old_content()
    kinds = {"big": ("teachers", "teacher", None), "small": ("cells", "student", "scratch")}
    kinds["small by simkd"] = ("cells", "student", "simkd")
    manifest: dict[str, Any] = {"suite": "s", "dataset": "d", "sizes": {}, "teachers": [], "cells": []}
    for number, (label, (kind, role, method)) in enumerate(kinds.items()):
        id = f"id{number}"
        manifest[kind].append(id)
        metrics = content["metrics"][label] | {"top1": 0.5, "params_trainable": 7}
        identity = {"id": id, "role": role, "teacher": "big", "student": "small" if method else None}
        (tmp_path / kind / id).mkdir(parents=True)
        write_document(
            tmp_path / kind / id / "record.json",
            {
                "schema": 1,
                "status": "ok",
                "reason": None,
                "method": method,
                "seed": 0,
                "cost_id": ID,
                "config": {},
                "metrics": metrics,
                "reasons": {
                    name: text for name, text in content["reasons"][label].items() if metrics[name] is None
                },
                "tables": {},
                "files": {"weights": {"sha256": "kept", "bytes": 1}},
                **identity,
            },
        )
    folder = tmp_path / "costs" / ID
    folder.mkdir(parents=True)
    write_document(folder / "cost.json", content)
    samples().to_parquet(folder / "latency.parquet")
    shown = [column.as_json() for column in columns((1,)) if column.name != "macs_uncounted"]
    write_document(
        tmp_path / "columns.json",
        [{"name": "top1", "title": "", "family": "task", "direction": "higher"}, *shown],
    )
    write_document(tmp_path / "run.json", manifest)
    return tmp_path


def records(run: Path) -> dict[str, Record]:
    return {record.method or "teacher": record for record in RunDirectory.open(run).records()}


def test_the_figures_of_a_row_agree_after_it(run: Path) -> None:
    before = records(run)
    # As it was published: the ratio of the printed latencies is not the printed speed-up.
    assert (
        before["teacher"].metrics[P50] / before["scratch"].metrics[P50] != before["scratch"].metrics[SPEEDUP]
    )
    assert retime(run) == 3
    found = {name: record.metrics for name, record in records(run).items()}
    assert found["teacher"][P50] == 6.0 * 1.25
    for name, ratio in (("scratch", 3.0), ("simkd", 2.0)):
        assert found[name][SPEEDUP] == pytest.approx(ratio, rel=1e-12)
        assert found["teacher"][P50] / found[name][P50] == pytest.approx(ratio, rel=1e-12)
    frame = load(run)
    assert list(frame[SPEEDUP]) == pytest.approx([1.0, 3.0, 2.0])


def test_nothing_else_changes_and_twice_is_once(run: Path) -> None:
    before = records(run)
    retime(run)
    once = records(run)
    for name, record in once.items():
        kept = {key for key in record.metrics if not key.startswith(("latency", "throughput", "speedup"))}
        kept -= {"macs_uncounted", "theoretical_speedup"}
        assert {key: record.metrics[key] for key in kept} == {key: before[name].metrics[key] for key in kept}
        assert record.files == before[name].files
        missing = {key for key, value in record.metrics.items() if value is None}
        assert missing == set(record.reasons)
    assert once["scratch"].reasons["latency_cuda_b1_p50_ms"] == "not measured then"
    retime(run)
    assert records(run) == once


def test_what_was_not_counted_then_makes_bounds(run: Path) -> None:
    retime(run)
    found = {name: record.metrics["macs_uncounted"] for name, record in records(run).items()}
    # A product of elements is none of matrices.
    assert found == {"teacher": 0, "scratch": 0, "simkd": 2}
    known = RunDirectory.open(run).columns()
    assert list(known).index("macs_uncounted") == list(known).index("macs") + 1


def test_what_was_cut_short_is_made_whole(run: Path) -> None:
    old = read_json(run / "costs" / ID / "cost.json")
    retime(run)
    once = records(run)
    # The records were written, the cost file not.
    write_document(run / "costs" / ID / "cost.json", old)
    assert retime(run) == 3
    assert records(run) == once
    assert read_json(run / "costs" / ID / "cost.json")["footing"] == FOOTING


def test_without_samples_nothing_is_touched(run: Path) -> None:
    before = (run / "cells" / "id1" / "record.json").read_bytes()
    (run / "costs" / ID / "latency.parquet").unlink()
    with pytest.raises(
        UserError, match=r"latency\.parquet is missing: without it latencies cannot be stated anew"
    ):
        retime(run)
    assert (run / "cells" / "id1" / "record.json").read_bytes() == before


def test_costs_of_another_model_are_refused(run: Path) -> None:
    path = run / "cells" / "id1" / "record.json"
    record = json.loads(path.read_text())
    record["metrics"][P50] = 9.9
    write_document(path, record)
    with pytest.raises(UserError, match="the costs of cells/id1 are those of no model in"):
        retime(run)


def test_a_run_that_goes_on_counts_anew_where_the_code_that_counts_has_changed(
    small_suite: Callable[..., Suite], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Protocol] = []

    def counting(jobs: list[ModelJob], *, reference: str, protocol: Protocol, **more: object) -> CostReport:
        asked.append(protocol)
        names = [column.name for column in columns(protocol.batch_sizes)]
        metrics = {job.label: dict.fromkeys(names) | {"macs": 31_128} for job in jobs}
        reasons = {job.label: dict.fromkeys(names, "not timed") for job in jobs}
        conditions = {"reference": reference, "protocol": protocol.as_json(), "counts": {"mlp_16": {}}}
        return CostReport(metrics, reasons, samples().iloc[:0], conditions)

    monkeypatch.setattr("kdbench.runner.amendments.measurement.measure", counting)
    plan = make_plan(small_suite("students=[mlp_16]", "methods=[scratch]"))
    (teacher,), node = plan.teachers, plan.cells[0].node
    directory = RunDirectory(tmp_path / "run")

    def costs() -> Costs:
        return Costs(plan, directory, 240, Progress())

    id = measured(plan, teacher, directory, Progress()).id
    file = directory.path / "costs" / id / "cost.json"
    content = read_json(file)
    assert content["counter"] == index.counter_fingerprint()
    content["metrics"]["mlp_16"] |= {"macs": 24, P50: 1.5}
    del content["reasons"]["mlp_16"][P50]
    write_document(file, content)
    labels = {"student": "mlp_16", "method": "scratch"}
    record = Record(node.id, "student", "ok", "cnn_4", 0, **labels)
    directory.write(replace(record, amendments={"costs": costs().key(node)}))
    assert outdated(costs(), [node], directory) == [] and len(asked) == 1

    write_document(file, content | {"counter": "of another version"})
    recounted = costs()
    assert [protocol.devices for protocol in asked[1:]] == [()]
    again = read_json(file)
    assert (again["metrics"]["mlp_16"]["macs"], again["metrics"]["mlp_16"][P50]) == (31_128, 1.5)
    assert "macs" in again["reasons"]["mlp_16"] and P50 not in again["reasons"]["mlp_16"]
    assert again["counter"] == index.counter_fingerprint()
    # A record that was written before no longer holds the costs of its model.
    ((due, record),) = outdated(recounted, [node], directory)
    assert due is node and record.cost_id == id
    directory.amend(record, amendments={"costs": recounted.key(node)})
    assert outdated(costs(), [node], directory) == [] and len(asked) == 2
