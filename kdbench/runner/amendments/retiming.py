"""Re-timing: the latencies and speed-ups of a run anew from its raw samples, without measuring."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kdbench.bounds import UNCOUNTED
from kdbench.column_names import is_timing
from kdbench.efficiency.columns import columns
from kdbench.efficiency.protocol import Protocol
from kdbench.efficiency.restating import restate
from kdbench.efficiency.samples import read_samples
from kdbench.errors import UserError
from kdbench.store import Record, RunDirectory, write_results

Content = Mapping[str, Any]


def retime(path: str | Path) -> int:
    """State the timings of all finished records as they are stated today; return how many there were.

    They are made from ``costs/ID/latency.parquet``, which stays as it is. Nothing else in a record changes,
    but that counts which were not complete become bounds. ``columns.json`` and the results follow.

    Raises:
        UserError: where samples are missing, a record's costs are not those of its cost file, or another
            process works on the run; nothing is changed then.
    """
    run = RunDirectory.open(path)
    with run.lock():
        records = [record for record in run.records() if record.status == "ok"]
        before, now = _contents(run, {str(record.cost_id) for record in records})
        stated = [_stated(run, record, before, now) for record in records]
        _write_columns(run, now)
        for record, changes in zip(records, stated, strict=True):
            run.amend(record, **changes)
        # Last: the old figures tell which model a record is about, should this be cut short.
        for id, content in now.items():
            run.write_cost(id, content)
        write_results(run)
    return len(stated)


def _contents(run: RunDirectory, ids: set[str]) -> tuple[dict[str, Content], dict[str, Content]]:
    before: dict[str, Content] = {}
    now: dict[str, Content] = {}
    for id in sorted(ids):
        content = run.cost(id)
        if content is None:
            raise UserError(f"{run.path} holds no costs/{id}: run the suite again to measure them.")
        before[id], now[id] = content, restate(content, read_samples(run.samples(id)))
    return before, now


def _stated(
    run: RunDirectory, record: Record, before: Mapping[str, Content], now: Mapping[str, Content]
) -> dict[str, Any]:
    """Return what changes in a record where the timings of its model are stated as today."""
    id = str(record.cost_id)
    label = _label(record, before[id]) or _label(record, now[id])
    if label is None:
        raise UserError(
            f"the costs of {record.place} are those of no model in {run.path}/costs/{id}: "
            "run the suite again to measure them."
        )
    metrics, reasons = now[id]["metrics"][label], now[id]["reasons"][label]
    names = [name for name in metrics if is_timing(name) or name in _OF_COUNTS]
    return {
        "metrics": record.metrics | {name: metrics[name] for name in names},
        "reasons": {name: text for name, text in record.reasons.items() if name not in names}
        | {name: reasons[name] for name in names if name in reasons},
    }


# What bounds change in a record that was written before there were any.
_OF_COUNTS = (UNCOUNTED, "arithmetic_intensity", "theoretical_speedup")


def _label(record: Record, content: Content) -> str | None:
    """Return the model whose costs a record holds: what a method keeps for use has a label of its own."""
    first = record.student or record.teacher
    for label in sorted(content["metrics"], key=lambda name: name != first):
        values = content["metrics"][label]
        shared = [name for name in values if is_timing(name) or name in ("macs", "size_bytes")]
        if all(record.metrics.get(name) == values[name] for name in shared):
            return label
    return None


def _write_columns(run: RunDirectory, contents: Mapping[str, Content]) -> None:
    """Put what the cost columns mean today in the place of what they meant."""
    known = run.columns()
    for content in contents.values():
        protocol = Protocol.from_json(content["conditions"]["protocol"])
        today = {column.name: column for column in columns(protocol.batch_sizes, protocol.dimensions)}
        known = {name: today.get(name, column) for name, column in known.items()}
        if UNCOUNTED not in known:
            items = list(known.items())
            after = list(known).index("macs") + 1
            known = dict([*items[:after], (UNCOUNTED, today[UNCOUNTED]), *items[after:]])
    run.write_columns(known.values())
