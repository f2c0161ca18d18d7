"""What was run: data, models, methods, seeds."""

from __future__ import annotations

from collections.abc import Iterator

from kdbench.analysis.summary import Summary
from kdbench.report import numerals
from kdbench.report.blocks import Block, Facts
from kdbench.report.registry import section


@section("facts", order=30)
def facts(summary: Summary) -> Iterator[Block]:
    """Give the size of everything, and how much of the plan is done."""
    manifest, failed = summary.manifest, len(summary.failures)
    done = f"{len(summary.records) - failed} done, {failed} failed or skipped"
    if summary.unfinished:
        done += f", {summary.unfinished} not run"
    heads = manifest.get("heads", {}).items()
    yield Facts(
        (
            ("dataset", f"{manifest['dataset']}, {len(manifest['classes'])} classes"),
            *((f"head {head}", f"{len(classes)} classes") for head, classes in heads),
            ("examples", ", ".join(f"{size:,} {split}" for split, size in manifest["sizes"].items())),
            ("teachers", ", ".join(summary.teacher_names) or numerals.DASH),
            ("students", f"{len(summary.student_names)}"),
            ("methods", f"{len(summary.without_repeats().methods)}"),
            ("seeds", ", ".join(map(str, manifest["seeds"]))),
            ("records", done),
        )
    )
