"""Who was right where: for every test example whether a model has it right, read from a run directory."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors import safe_open

from kdbench.store import OUTCOMES, PREDICTIONS, Record, RunDirectory

# The metrics that are the share of test examples on which something holds of the predicted class.
SHARES = ("top1", "agreement")

Hits = NDArray[np.bool_]


class NotStored(Exception):
    """The run does not hold what a statistic over test examples needs; the text says what is missing."""


class Outcomes:
    """Labels and predicted classes of the test split, read at their first use and kept.

    They come from ``outcomes.parquet``, or for a run made before there was such a file from the logits in
    ``predictions.safetensors``. A file that is not what was recorded raises SharedFault, in one line.
    """

    def __init__(self, run: RunDirectory, records: Iterable[Record]) -> None:
        """Take the run directory and its records; nothing is read yet."""
        self._run = run
        self._records = {record.id: record for record in records}
        self._read: dict[str, tuple[NDArray[Any], NDArray[Any]]] = {}

    def labels(self, id: str) -> NDArray[Any]:
        """Return the test labels (N,) that a record was scored against."""
        return self._table(id)[0]

    def predicted(self, id: str) -> NDArray[Any]:
        """Return the classes (N,) that a record's model predicts; raises NotStored where they are missing."""
        return self._table(id)[1]

    def hits(self, id: str, metric: str) -> Hits:
        """Return for each test example (N,) whether a model's prediction counts for ``metric``.

        For ``top1`` that is the label, for ``agreement`` what the teacher predicts. Raises NotStored for
        another metric, where predictions are missing, and where they do not give the recorded value.
        """
        if metric not in SHARES:
            raise NotStored(f"{metric} is not a share of test examples that stored classes give")
        labels, predicted = self._table(id)
        if metric == "agreement":
            hits = predicted == self._table(self._records[id].origin or "")[1]
        else:
            hits = predicted == labels
        if abs(hits.mean() - self._records[id].metrics[metric]) > 1e-6:
            raise NotStored(f"stored predictions do not give the recorded {metric}")
        return hits

    def _table(self, id: str) -> tuple[NDArray[Any], NDArray[Any]]:
        if id not in self._read:
            record = self._records.get(id)
            if record is None:
                raise NotStored(f"node {id} is not finished")
            if self._run.holds(record, OUTCOMES):
                frame = pd.read_parquet(self._run.recorded_file(record, OUTCOMES))
                self._read[id] = frame["label"].to_numpy(), frame["predicted"].to_numpy()
            elif self._run.holds(record, PREDICTIONS):
                with safe_open(self._run.recorded_file(record, PREDICTIONS), framework="np") as file:
                    predicted = file.get_tensor("test_logits").argmax(axis=1)
                    self._read[id] = file.get_tensor("test_labels"), predicted
            else:
                raise NotStored(f"the run directory holds no test predictions ({OUTCOMES})")
        return self._read[id]
