"""What a run keeps: files written atomically, records with their checksums, and the run directory."""

from kdbench.store.checking import Finding, check, missing_weights
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
from kdbench.store.places import LOCK, locked, within
from kdbench.store.record import DECISION, OUTCOMES, PREDICTIONS, TRACEBACK, Record
from kdbench.store.run import COLUMNS, MANIFEST, RUNS, SUITE, RunDirectory, earlier_note
from kdbench.store.table import IDENTITY, load, write_results

__all__ = [
    "COLUMNS",
    "DECISION",
    "IDENTITY",
    "LOCK",
    "MANIFEST",
    "OUTCOMES",
    "PREDICTIONS",
    "RUNS",
    "SUITE",
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
    "locked",
    "missing_weights",
    "read_json",
    "replacing",
    "sha256_of",
    "within",
    "write_atomic",
    "write_json",
    "write_recorded",
    "write_results",
]
