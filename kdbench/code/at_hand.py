"""Whether a user's own code at hand is what the finished records of a run were made with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdbench.code.factory import has_changed
from kdbench.errors import UserError
from kdbench.store import RunDirectory
from kdbench.suite.references import is_code, located
from kdbench.suite.suite import field_of

# So many records are named in a line.
NAMED = 5


@dataclass(frozen=True)
class CodeComparison:
    """How a model's, method's or dataset's code compares with that which ``records`` were made with.

    ``what`` names it, such as ``model 'nets.py:make'``; where it was not compared ``uncompared`` says why.
    """

    what: str
    records: tuple[str, ...]
    changed: bool
    uncompared: str | None = None

    @property
    def fault(self) -> str | None:
        """One line that says which records are of other code; None where there are none."""
        if not self.changed:
            return None
        count = len(self.records)
        more = f" and {count - NAMED} more" if count > NAMED else ""
        event = "a finished record was made with it" if count == 1 else f"{count} records were made with it"
        return (
            f"the code of {self.what}, or code that it imports, has changed since {event} "
            f"({', '.join(self.records[:NAMED])}{more}): restore the files, or run the suite "
            "again, which makes anew what rests on them"
        )


def compare_code(run: RunDirectory, folder: Path | None) -> Iterator[CodeComparison]:
    """Compare all code of a user's own that the records of a run name with the files that are at hand.

    Relative names are found from ``folder``, None is the current one. Code is imported only where its files
    differ from what was recorded: what it adds to ``sys.path`` counts for what it consists of.
    """
    methods = _method_references(run, folder)
    groups: dict[tuple[str, str, str], list[str]] = {}
    for record in (*run.records(), *run.supporting()):
        for kind, name, source in _code_of(record.config):
            groups.setdefault((kind, name, source), []).append(f"{record.place}")
    for (kind, name, source), records in groups.items():
        references = methods if kind == "method" else [located(name, folder)]
        yield _compared(f"{kind} '{name}'", tuple(records), references, source)


def _compared(what: str, records: tuple[str, ...], references: Sequence[str], source: str) -> CodeComparison:
    """Compare with the code behind the references; a record says of a method not which of them it is."""
    missing = None if references else "the suite of the run does not name its file"
    for reference in references:
        try:
            if not has_changed(reference, source):
                return CodeComparison(what, records, changed=False)
        except UserError as error:
            missing = str(error)
    return CodeComparison(what, records, missing is None, missing)


def _code_of(config: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield the kind, the name and the fingerprint of all code of a user's own that decided a record."""
    for kind, key in (("dataset", "dataset"), ("model", "model"), ("model", "student")):
        part = config.get(key)
        if part and part.get("source"):
            yield kind, part["name"], part["source"]
    if config.get("method_source"):
        yield "method", config["method"]["name"], config["method_source"]


def _method_references(run: RunDirectory, folder: Path | None) -> list[str]:
    entries = field_of(run.path, "methods", list) or []
    links = [link for entry in entries for link in _links(entry)]
    names = [link.get("name") if isinstance(link, dict) else link for link in links]
    return [located(name, folder) for name in names if isinstance(name, str) and is_code(name)]


def _links(entry: Any) -> list[Any]:
    """Return what follows one another in an entry of a suite: the links of a chain, or it alone."""
    chain = entry.get("chain") if isinstance(entry, dict) else None
    return chain if isinstance(chain, list) else [entry]
