"""The table of what went wrong how often, and each fault with the command that repeats it."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TextIO

from harm.outcome import KINDS, Outcome
from kdbench import machine

# Where a machine keeps its files is nobody's business.
FOLDERS = re.compile(r"(?<![\w.])/(?:[\w.-]+/)+")
Parts = Mapping[str, Sequence[Outcome]]


def groups(parts: Parts) -> dict[str, list[Outcome]]:
    """Return the outcomes by the rows of the table: part, and what it was that was tried."""
    rows: dict[str, list[Outcome]] = {}
    for part, outcomes in parts.items():
        for outcome in outcomes:
            rows.setdefault(f"{part}: {row_of(outcome)}", []).append(outcome)
    return rows


def row_of(outcome: Outcome) -> str:
    """Return the row of an outcome: the way of a kill, the file damaged, the kind of input."""
    if outcome.part == "kills":
        return outcome.name.split("-")[1]
    return outcome.name.split("/")[1]


def write_csv(file: TextIO, parts: Parts) -> None:
    """Write the table of counts, one line a row."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["what", "tried", *KINDS])
    for name, row in _rows(parts).items():
        writer.writerow([name, *row.values()])


def _rows(parts: Parts) -> dict[str, dict[str, int]]:
    """Return the counts of every group, and then of every part."""
    rows = {name: counts(outcomes) for name, outcomes in groups(parts).items()}
    return rows | {f"all {part}": counts(outcomes) for part, outcomes in parts.items()}


def as_json(parts: Parts, seed: int) -> dict[str, Any]:
    """Return everything: conditions, counts by row, and the cases with what became of them."""
    return {
        "machine": machine.fingerprint(),
        "versions": machine.versions(),
        "kdbench": machine.git_commit() or machine.versions()["kdbench"],
        "seed": seed,
        "kinds": KINDS,
        "counts": {name: counts(outcomes) for name, outcomes in groups(parts).items()},
        "cases": [outcome.as_json() for outcomes in parts.values() for outcome in outcomes],
    }


def counts(outcomes: Sequence[Outcome]) -> dict[str, int]:
    tried = {"tried": sum(outcome.tried for outcome in outcomes)}
    return tried | {kind: sum(outcome.count(kind) for outcome in outcomes) for kind in KINDS}


def summary_lines(parts: Parts) -> Iterator[str]:
    """Yield the table in Markdown, and then the faults."""
    yield f"| what | tried | {' | '.join(KINDS)} |"
    yield f"|:--|--:|{'--:|' * len(KINDS)}"
    for name, row in _rows(parts).items():
        yield f"| {name} | {' | '.join(f'{value:,}' for value in row.values())} |"
    yield ""
    faulty = [outcome for outcomes in parts.values() for outcome in outcomes if outcome.faults]
    if not faulty:
        yield "No fault was found."
    for outcome in faulty:
        yield f"- {outcome.name}: {_cell(outcome.about)}"
        for fault in outcome.faults:
            yield f"    - {fault.kind}: {_cell(FOLDERS.sub('…/', fault.text))}"
        yield f"    - again: `python benchmarks/faults.py --case '{outcome.name}'`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")


def as_markdown(parts: Parts, seed: int) -> str:
    """Return the page that is written to results/."""
    made_on, versions = machine.fingerprint(), machine.versions()
    seconds = sum(outcome.seconds for outcomes in parts.values() for outcome in outcomes)
    lines = [
        "# What kdbench withstands",
        "",
        "A small suite killed at random moments and resumed, every kind of file of a run damaged in every "
        "way, run directories made to write elsewhere, bad suites, words, checkpoints, data and code. "
        "*tried* counts kills and cases; the other columns what went wrong:",
        "",
        *(f"- *{kind}*: {text}" for kind, text in KINDS.items()),
        "",
        *summary_lines(parts),
        "",
        f"Made by `python benchmarks/faults.py --seed {seed}` in {seconds / 60:.0f} minutes of one core on "
        f"{made_on['cpu']} ({made_on['cores_usable']} cores), {made_on['os']}, Python {versions['python']}, "
        f"torch {versions['torch']}, kdbench {machine.git_commit() or versions['kdbench']}.",
    ]
    return "\n".join(lines) + "\n"
