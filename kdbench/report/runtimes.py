"""The table of latencies by runtime: eager beside what a model can be deployed with."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from kdbench.analysis.costs import CostFiles, read_costs
from kdbench.analysis.summary import Row, Summary
from kdbench.report import numerals
from kdbench.report.headline import FOOTING
from kdbench.report.table import Cell, Heading, Line, Notes, Table

P50 = re.compile(
    r"latency_(?P<device>cpu|cuda)_b(?P<batch>\d+)(?:_t(?P<threads>\d+))?(?P<bf16>_bf16)?"
    r"(?:_(?P<runtime>[a-z]+))?_p50_ms"
)
_DEVICES = {"cpu": "CPU", "cuda": "GPU"}


@dataclass(frozen=True)
class _Setting:
    """Where a model ran, whichever runtime it was."""

    device: str
    batch: int
    threads: int | None
    precision: str

    @property
    def text(self) -> str:
        """The words for it: ``CPU, batch 1, 1 thread``."""
        threads = "" if self.threads is None else f", {self.threads} thread{'' if self.threads == 1 else 's'}"
        precision = "" if self.precision == "fp32" else f", {self.precision}"
        return f"{_DEVICES[self.device]}, batch {self.batch}{threads}{precision}"


def runtime_table(summary: Summary) -> Table | None:
    """Return the median latency of each model by runtime, and how much faster than eager mode each is.

    None where a run was timed in eager mode only. A row is a model at one device, batch size, number of
    threads and precision; rows in which nothing was measured are left out.
    """
    columns = _columns(summary)
    runtimes = _runtimes(summary, columns)
    if len(runtimes) < 2:
        return None
    notes, costs = Notes(), read_costs(summary)
    several = len(summary.teacher_names) > 1
    lines = [
        Line(tuple(_cells(row, setting, found, runtimes, several, costs, notes)), row.role == "teacher")
        for row in _models(summary)
        for setting, found in columns.items()
        if any(row.mean(name) is not None for name in found.values())
    ]
    legend: tuple[str, ...] = (
        "Latencies of one forward pass; all runtimes of a batch size took turns in the same rounds. "
        "× is how many times faster than eager mode the runtime is. "
        "A runtime is timed only where its output is that of eager mode.",
        FOOTING,
    )
    disturbed = costs.disturbances(name for found in columns.values() for name in found.values())
    if disturbed:
        legend += (
            f"The machine was not quiet meanwhile ({disturbed}); what that left without meaning is a dash.",
        )
    return Table("Latency by runtime", tuple(_headings(runtimes, several)), tuple(lines), legend, notes.texts)


def _columns(summary: Summary) -> dict[_Setting, dict[str, str]]:
    """Return the columns of median latencies, by setting and runtime."""
    found: dict[_Setting, dict[str, str]] = {}
    for name in summary.columns:
        if match := P50.fullmatch(name):
            threads = int(match["threads"]) if match["threads"] else None
            precision = "bf16" if match["bf16"] else "fp32"
            setting = _Setting(match["device"], int(match["batch"]), threads, precision)
            found.setdefault(setting, {})[match["runtime"] or "eager"] = name
    return found


def _runtimes(summary: Summary, columns: Mapping[_Setting, Mapping[str, str]]) -> dict[str, str]:
    """Return the titles of the runtimes, as the titles of their columns end, by name."""
    titles = {"eager": "eager"}
    for found in columns.values():
        for runtime, name in found.items():
            titles.setdefault(runtime, summary.columns[name].title.rsplit(", ", 1)[-1])
    return titles


def _models(summary: Summary) -> Iterable[Row]:
    """Yield the first row of each model: its cost is the same for every method that trained it."""
    seen: set[tuple[str, str]] = set()
    for row in summary.rows:
        if row.seeds and (row.teacher, row.model) not in seen:
            seen.add((row.teacher, row.model))
            yield row


def _headings(runtimes: Mapping[str, str], several: bool) -> Iterable[Heading]:
    if several:
        yield Heading("teacher", "teacher", numeric=False)
    yield Heading("student", "model", numeric=False)
    yield Heading("setting", "setting", numeric=False)
    for name, title in runtimes.items():
        yield Heading(name, f"{title} p50", "↓", "ms")
        if name != "eager":
            yield Heading(f"{name}_gain", "×", "↑", help=f"latency of eager mode / that of {title}")


def _cells(
    row: Row,
    setting: _Setting,
    columns: Mapping[str, str],
    runtimes: Mapping[str, str],
    several: bool,
    costs: CostFiles,
    notes: Notes,
) -> Iterable[Cell]:
    if several:
        yield Cell(row.teacher, sort=row.teacher)
    yield Cell(row.model, {"teacher": row.teacher, "model": row.model}, sort=row.model)
    yield Cell(setting.text, vars(setting), sort=setting.text)
    eager = row.mean(columns["eager"])
    for runtime in runtimes:
        name = columns.get(runtime)
        value = None if name is None else row.mean(name)
        if name is None or value is None:
            reason = (
                "; ".join(row.reasons.get(name, ())) if name else "there is no such runtime on this device"
            )
            yield Cell(numerals.DASH, {f"{runtime}_p50_ms": None}, notes.number(reason))
        else:
            yield _latency_cell(row, runtime, name, value, costs)
        if runtime != "eager":
            gain = eager / value if eager is not None and value else None
            text = numerals.DASH if gain is None else numerals.significant(gain, 3)
            yield Cell(text, {f"{runtime}_over_eager": gain}, sort=gain)


def _latency_cell(row: Row, runtime: str, name: str, value: float, costs: CostFiles) -> Cell:
    bounds = costs.interval(row.teacher, row.model, name)
    low, high = bounds or (None, None)
    hint = f"95 % interval {numerals.number(name, low)} to {numerals.number(name, high)}" if bounds else ""
    raw = {f"{runtime}_p50_ms": value, f"{runtime}_p50_low_ms": low, f"{runtime}_p50_high_ms": high}
    return Cell(numerals.number(name, value), raw, sort=value, hint=hint)
