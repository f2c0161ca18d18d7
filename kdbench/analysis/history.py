"""Learning curves: the history files of all records in one frame."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from kdbench.store import Record, RunDirectory

HISTORY = "history.csv"
IDENTITY = ("role", "teacher", "student", "method", "seed")


def read_histories(run: RunDirectory, records: Iterable[Record]) -> pd.DataFrame:
    """Return one row an epoch and record: role, teacher, student, method, seed, then history.csv's columns.

    Records without a history file (a loaded teacher, a one-shot compressor) add no rows.
    """
    frames = []
    for record in records:
        if run.holds(record, HISTORY):
            rows = pd.read_csv(run.recorded_file(record, HISTORY))
            frames.append(rows.assign(**{key: getattr(record, key) for key in IDENTITY}))
    if not frames:
        return pd.DataFrame(columns=[*IDENTITY, "epoch"])
    together = pd.concat(frames, ignore_index=True)
    return together[[*IDENTITY, *together.columns.difference([*IDENTITY], sort=False)]]
