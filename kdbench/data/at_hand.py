"""Whether the data at hand is what the finished records of a run were made of, by its checksum."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdbench.data.load import dataset_checksum
from kdbench.errors import SharedFault, UserError
from kdbench.store import Record, canonical_json
from kdbench.suite.schema import DatasetEntry

# Images on disk of no more bytes of pixels are decoded to be compared: seconds to a minute.
AFFORDABLE = 1_000_000_000
# So many records are named in a line.
NAMED = 5


@dataclass(frozen=True)
class Comparison:
    """How the records of one dataset compare with the data that is at hand.

    ``other`` are the records of other data, as ``nodes/ID``; ``checksum`` is that of the data at hand, None
    where it was not compared, for the reason ``uncompared``.
    """

    dataset: str
    records: int
    other: Mapping[str, str]
    checksum: str | None
    uncompared: str | None = None

    @property
    def fault(self) -> str | None:
        """One line that says which records are of other data; None where there are none."""
        if not self.other or self.checksum is None:
            return None
        first = next(iter(self.other.values()))
        named = ", ".join(list(self.other)[:NAMED])
        more = f" and {len(self.other) - NAMED} more" if len(self.other) > NAMED else ""
        return (
            f"{len(self.other)} of {self.records} finished records are of other data than '{self.dataset}' "
            f"holds now (checksum {first[:12]} then, {self.checksum[:12]} now): {named}{more}"
        )


def compare_data(
    records: Iterable[Record],
    data_root: Path | None = None,
    folder: Path | None = None,
    most: int | None = AFFORDABLE,
) -> Iterator[Comparison]:
    """Read the data of finished records and compare its checksum with theirs, dataset by dataset.

    What the checksum depends on (limits, sizes, heads) is that of each record; paths are relative to
    ``folder``, None is the current one. Nothing is downloaded, and of images on disk no more than ``most``
    bytes of pixels are decoded (None: whatever there is).
    """
    groups: dict[str, list[Record]] = {}
    for record in records:
        if record.provenance.get("data_checksum") and record.config.get("dataset"):
            groups.setdefault(canonical_json(_data_of(record)), []).append(record)
    for group in groups.values():
        fields = _data_of(group[0])
        shown = fields["name"]
        try:
            entry = DatasetEntry.placed(fields, folder)
            shown = entry.shown
            yield compared(entry, group, dataset_checksum(entry, root=data_root, most=most))
        except UserError as error:
            yield Comparison(shown, len(group), {}, None, str(error))


def compared(entry: DatasetEntry, records: Iterable[Record], checksum: str) -> Comparison:
    """Return how records compare with data of a checksum that is known."""
    checksums = {record.place: record.provenance["data_checksum"] for record in records}
    other = {name: then for name, then in checksums.items() if then != checksum}
    return Comparison(entry.shown, len(checksums), other, checksum)


def refuse_other_data(comparison: Comparison, run: Path) -> None:
    """Raise SharedFault where records of a run that goes on are of other data."""
    if comparison.fault:
        raise SharedFault(
            f"the data changed since {run} was begun: {comparison.fault}. Bring the data back, or choose "
            "another --out."
        )


def _data_of(record: Record) -> dict[str, Any]:
    """Return the part of a record's dataset that its checksum depends on."""
    config = record.config["dataset"]
    return {
        name: config[name] for name in ("name", "args", "split_seed", "classes", "heads") if name in config
    }
