"""Where the numbers come from: the run, the machine, the versions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from kdbench.analysis.summary import Summary
from kdbench.inputs import InputSpec
from kdbench.report import numerals
from kdbench.report.blocks import Block, Facts, Pairs, Title
from kdbench.report.registry import section

# What records are stamped with one by one; they may differ where a run was carried out in pieces.
STAMPS = ("device", "precision", "threads", "data_checksum", "git", "kdbench")


@section("provenance", order=440)
def provenance(summary: Summary) -> Iterator[Block]:
    """Give what is needed to make the run again."""
    yield Title("Provenance")
    yield Facts(_run(summary), "Run")
    yield Facts(tuple(_flat(summary.manifest["machine"])), "Machine")
    yield Facts(tuple(_flat(summary.manifest["versions"])), "Versions")


def _run(summary: Summary) -> Pairs:
    manifest = summary.manifest
    stamps = ((name.replace("_", " "), ", ".join(summary.stamped(name)) or numerals.DASH) for name in STAMPS)
    return (
        ("suite", manifest["suite"]),
        ("started", manifest["started"]),
        ("input shape", str(InputSpec.recorded(manifest))),
        ("seeds", ", ".join(map(str, manifest["seeds"]))),
        *stamps,
    )


def _flat(values: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    for key, value in values.items():
        text = _text(value)
        if text:
            yield key.replace("_", " "), text


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, Mapping):
        return ", ".join(f"{key.replace('_', ' ')} {_text(inner)}" for key, inner in value.items())
    if isinstance(value, list):
        return "; ".join(map(_text, value)) or "none"
    return str(value)
