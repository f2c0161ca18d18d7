"""The records of a run as a table, and the files of it that any program reads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdbench.store.files import canonical_json, write_atomic
from kdbench.store.run import EARLIER, RunDirectory

if TYPE_CHECKING:
    import pandas as pd

# What identifies a row of the results; metrics and durations follow in the order of columns.json.
IDENTITY = (
    "id",
    "role",
    "status",
    "reason",
    "dataset",
    "teacher",
    "student",
    "method",
    "method_name",
    "control_of",
    "seed",
    "cohort",
)


def load(path: str | Path, *, earlier: bool = False) -> pd.DataFrame:
    """Return the records of a run as a table: one row a teacher or cell, one column a metric.

    Columns are those of ``IDENTITY``, then every metric in the order of ``columns.json``, then
    ``best_epoch`` and ``data_checksum``. A metric that is null stays missing.

    Args:
        path: the run directory.
        earlier: return, instead of the records of the present plan, those of earlier plans of the suite
            that lie here too, with the metrics that only they have and their ``recipe`` as JSON.

    Raises:
        UserError: where ``path`` is not a run directory.
    """
    import pandas as pd  # slow to import, and most of this package does without

    run = RunDirectory.open(path)
    records = run.earlier() if earlier else list(run.records())
    metrics = list(run.columns())
    if earlier:
        metrics = list(dict.fromkeys([*metrics, *(name for record in records for name in record.metrics)]))
    rows = []
    for record in records:
        row: dict[str, Any] = {name: getattr(record, name) for name in IDENTITY}
        row |= {name: record.metrics.get(name) for name in metrics}
        row["best_epoch"] = record.best_epoch
        row["data_checksum"] = record.provenance.get("data_checksum")
        if earlier:
            row["recipe"] = canonical_json(record.config.get("recipe"))
        rows.append(row)
    last = ["best_epoch", "data_checksum", *(["recipe"] if earlier else [])]
    frame = pd.DataFrame(rows, columns=[*IDENTITY, *metrics, *last])
    return frame.astype(dict.fromkeys([*metrics, "best_epoch"], "float64"))


def write_results(run: RunDirectory) -> pd.DataFrame:
    """Rebuild ``results.csv`` and ``results.parquet`` from the records and return the table.

    Where records of earlier plans lie here too, they are listed in ``results_earlier.csv``.
    """
    frame = load(run.path)
    write_atomic(run.inside("results.csv"), frame.to_csv(index=False))
    write_atomic(run.inside("results.parquet"), frame.to_parquet(index=False))
    earlier = load(run.path, earlier=True)
    if len(earlier):
        write_atomic(run.inside(EARLIER), earlier.to_csv(index=False))
    else:
        (run.inside(EARLIER)).unlink(missing_ok=True)
    return frame
