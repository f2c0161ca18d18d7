"""The one way in which finished records are amended.

An amendment has a name, columns and tables of its own, and for every node a key: what its figures rest on. A
record that holds another key is stale and is amended again; one whose suite asks for it no more loses what
was added. Nothing else of a record changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from kdbench.plan import Node
from kdbench.runner.scores import Scores
from kdbench.store import Record, RunDirectory

Due = tuple[Node, Record]


class Amendment(Protocol):
    """What can be added to finished records."""

    name: str

    def owns(self, name: str) -> bool:
        """Return whether a column or a table is this amendment's."""

    def key(self, node: Node) -> str | None:
        """Return what the figures of a node rest on; None where they are not asked for."""

    def scored(self, due: Sequence[Due]) -> Iterator[tuple[Record, Scores]]:
        """Yield the figures of the records that are due."""


def outdated(amendment: Amendment, nodes: Iterable[Node], run: RunDirectory) -> list[Due]:
    """Return the finished nodes whose records do not hold what is asked for, with their records."""
    finished = ((node, run.record(node.id)) for node in nodes)
    return [
        (node, record)
        for node, record in finished
        if record and record.status == "ok" and not _holds(record, amendment, amendment.key(node))
    ]


def _holds(record: Record, amendment: Amendment, key: str | None) -> bool:
    if key is not None:
        return record.amendments.get(amendment.name) == key
    return amendment.name not in record.amendments and not any(map(amendment.owns, record.metrics))


def bring_up_to_date(amendment: Amendment, nodes: Iterable[Node], run: RunDirectory) -> None:
    """Amend the records of nodes that do not hold what is asked for, each atomically."""
    due = outdated(amendment, nodes, run)
    keys = {record.id: amendment.key(node) for node, record in due}
    for _, record in due:
        if keys[record.id] is None:
            run.amend(record, **changes(amendment, record, None, Scores()))
    asked = [(node, record) for node, record in due if keys[record.id] is not None]
    for record, scores in amendment.scored(asked) if asked else ():
        run.amend(record, **changes(amendment, record, keys[record.id], scores))


def changes(amendment: Amendment, record: Record, key: str | None, scores: Scores) -> dict[str, Any]:
    """Return the fields of a record with these figures in place of those that the amendment had added."""
    keys = {name: known for name, known in record.amendments.items() if name != amendment.name}
    parts = {part: _without(amendment, getattr(record, part)) | new for part, new in vars(scores).items()}
    return parts | {"amendments": keys | ({amendment.name: key} if key is not None else {})}


def _without(amendment: Amendment, known: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in known.items() if not amendment.owns(name)}
