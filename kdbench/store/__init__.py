"""What a run keeps: files written atomically, records with their checksums, and the run directory."""

from kdbench.store.files import (
    Fingerprints,
    canonical_json,
    content_id,
    read_json,
    replacing,
    sha256_of,
    write_atomic,
    write_json,
    write_recorded,
)
from kdbench.store.record import DECISION, OUTCOMES, PREDICTIONS, TRACEBACK, Record
from kdbench.store.run import RUNS, Finding, RunDirectory, check, earlier_note
from kdbench.store.table import IDENTITY, load, write_results

__all__ = [
    "DECISION",
    "IDENTITY",
    "OUTCOMES",
    "PREDICTIONS",
    "RUNS",
    "TRACEBACK",
    "Finding",
    "Fingerprints",
    "Record",
    "RunDirectory",
    "canonical_json",
    "check",
    "content_id",
    "earlier_note",
    "load",
    "read_json",
    "replacing",
    "sha256_of",
    "write_atomic",
    "write_json",
    "write_recorded",
    "write_results",
]
