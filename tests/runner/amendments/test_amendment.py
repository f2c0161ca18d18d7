"""Amending finished records: what is stale is made again, what is not asked for goes, all else stays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from kdbench.runner.amendments.amendment import Due, bring_up_to_date, outdated
from kdbench.runner.scores import Scores
from kdbench.store import Record, RunDirectory, check, write_json, write_recorded

NODES: list[Any] = [SimpleNamespace(id=id) for id in ("a", "b", "failed", "waiting")]


class Halves:
    """An amendment of one column and one table, under a key of its own."""

    name = "halves"

    def __init__(self, key: str | None, value: float | None = 0.5) -> None:
        self._key = key
        self._value = value
        self.asked: list[str] = []

    def owns(self, name: str) -> bool:
        return name in ("half", "halves")

    def key(self, node: Any) -> str | None:
        return self._key

    def scored(self, due: Sequence[Due]) -> Iterator[tuple[Record, Scores]]:
        for node, record in due:
            self.asked.append(node.id)
            reasons = {} if self._value is not None else {"half": "there is none"}
            yield record, Scores({"half": self._value}, reasons, {"halves": [1, 2]})


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    run = RunDirectory(tmp_path)
    for id in ("a", "b"):
        files = write_recorded(run.folder(id) / "history.csv", "epoch\n1\n")
        metrics, reasons = {"top1": 0.5, "nll": None}, {"nll": "not defined"}
        known = {"metrics": metrics, "reasons": reasons, "amendments": {"costs": "k"}, "files": files}
        run.write(Record(id, "student", "ok", "t", 0, student="s", method="m", **known))
    run.write(Record("failed", "student", "failed", "t", 0, "diverged", student="s", method="m"))
    cells = ["a", "b", "failed"]
    manifest = {"suite": "s", "dataset": "d", "sizes": {}, "teachers": [], "cells": cells}
    write_json(tmp_path / "run.json", manifest)
    return run


def test_finished_records_are_amended_and_nothing_else_of_them_changes(run: RunDirectory) -> None:
    before = {id: run.record(id) for id in ("a", "b", "failed")}
    amendment = Halves("first")
    bring_up_to_date(amendment, NODES, run)
    assert amendment.asked == ["a", "b"]
    for id in ("a", "b"):
        assert run.record(id) == replace(
            before[id],
            metrics={"top1": 0.5, "nll": None, "half": 0.5},
            tables={"halves": [1, 2]},
            amendments={"costs": "k", "halves": "first"},
        )
    assert run.record("failed") == before["failed"] and run.record("waiting") is None


def test_the_same_key_is_not_made_again_and_another_is(run: RunDirectory) -> None:
    bring_up_to_date(Halves("first"), NODES, run)
    same, other = Halves("first"), Halves("second", None)
    bring_up_to_date(same, NODES, run)
    assert same.asked == []
    run.amend(run.record("a"), amendments={"halves": "second"})
    assert [node.id for node, _ in outdated(other, NODES, run)] == ["b"]
    bring_up_to_date(other, NODES, run)
    assert other.asked == ["b"]
    record = run.record("b")
    assert record.metrics["half"] is None
    assert record.reasons == {"nll": "not defined", "half": "there is none"}
    # A figure that is known now has no reason any more.
    bring_up_to_date(Halves("third"), NODES, run)
    assert run.record("b").reasons == {"nll": "not defined"}


def test_what_is_not_asked_for_any_more_goes(run: RunDirectory) -> None:
    before = run.record("a")
    bring_up_to_date(Halves("first"), NODES, run)
    gone = Halves(None)
    bring_up_to_date(gone, NODES, run)
    assert gone.asked == [] and run.record("a") == before
    assert outdated(gone, NODES, run) == []


def test_an_amendment_vouches_for_no_file_that_it_did_not_write(run: RunDirectory) -> None:
    file = run.folder("a") / "history.csv"
    file.write_text("epoch\n2\n")
    bring_up_to_date(Halves("first"), NODES, run)
    damaged = [finding.path for finding in check(run.path) if "checksum" in finding.problem]
    assert damaged == ["nodes/a/history.csv"]
