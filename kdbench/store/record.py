"""The record of a node: what it was made of, how that ended, and every number that is known of it.

Schema 2 is written. Schema 1, of which the published runs are, is read: a teacher lay in ``teachers/ID`` and
a cell in ``cells/ID``, weights were named after the role, and each amendment had a field of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, Self

from kdbench.store.files import Fingerprints
from kdbench.store.sealed import shape_of

# Beside a record lie predictions, and of a further head HEAD.predictions...; the decision of a compressor.
RECORD = "record.json"
OUTCOMES = "outcomes.parquet"
PREDICTIONS = "predictions.safetensors"
DECISION = "decision.json"
TRACEBACK = "traceback.txt"
# Under which folder nodes lie, the present one first.
HOMES = ("nodes", "teachers", "cells")
# How the weights of the last epoch, and of the best, were called by schema 1.
_STEMS = ("weights", "student", "teacher")
# The fields of schema 1 that say what an amendment rests on.
_KEYS = {"costs": "cost_id", "shift": "robustness_id", "independent": "independent_teacher"}

# A link is a node that others start from; an assistant teaches; neither is a row of the results.
Role = Literal["teacher", "assistant", "link", "student"]
Status = Literal["ok", "failed", "skipped"]


@dataclass(frozen=True)
class Record:
    """What is known of one node.

    Attributes:
        id: the hash of ``config``.
        role: what the node is to the suite.
        status: how making it ended.
        teacher: label of the teacher that the node is compared with; for a teacher its own.
        seed: the seed of its training.
        reason: why it has no metrics, where it has none.
        dataset: the name that tables show.
        student: label of the student; None for a teacher.
        method: label of the method or the chain.
        method_name: name of the step that made it.
        control_of: the method that it repeats with a random teacher, where it is this control.
        cohort: id of the cohort that it was made in.
        config: everything that decides the result.
        origin: id of the teacher that it is compared with; None for a teacher itself.
        taught_by: id of the node that taught it.
        start: id of the node whose weights it began from.
        metrics: every number by the name of its column.
        reasons: why a number is None.
        tables: what is no single number, such as the recall of every class.
        amendments: the key of everything that was added to the finished record, by the amendment's name.
        best_epoch: the epoch that was best on validation.
        epochs: how many there were.
        durations: seconds by what took them.
        provenance: versions, machine, data, times.
        files: size and checksum of the files beside the record, by name.
        home: the folder that its own lies in; it is not written.
    """

    id: str
    role: Role
    status: Status
    teacher: str
    seed: int
    reason: str | None = None
    dataset: str = ""
    student: str | None = None
    method: str | None = None
    method_name: str | None = None
    control_of: str | None = None
    cohort: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    origin: str | None = None
    taught_by: str | None = None
    start: str | None = None
    metrics: dict[str, float | None] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    tables: dict[str, Any] = field(default_factory=dict)
    amendments: dict[str, str] = field(default_factory=dict)
    best_epoch: int | None = None
    epochs: int | None = None
    durations: dict[str, float | None] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    files: Fingerprints = field(default_factory=dict)
    home: str = HOMES[0]

    @property
    def place(self) -> str:
        """The folder of its files within the run directory."""
        return f"{self.home}/{self.id}"

    @property
    def cost_id(self) -> str | None:
        """The id of the measurement that its costs are from; the key also holds how they were stated."""
        return self.amendments["costs"].partition(":")[0] if "costs" in self.amendments else None

    @property
    def rests_on(self) -> list[str]:
        """The ids of the nodes that a finished record was made from or compared with."""
        if self.status != "ok":
            return []
        named = (self.origin, self.taught_by, self.start, self.amendments.get("independent"))
        return [id for id in dict.fromkeys(named) if id]

    @property
    def outcome(self) -> str:
        """Why it has no metrics, and where its traceback lies if there is one."""
        reason = self.reason or "no reason was recorded"
        return f"{reason} [{self.place}/{TRACEBACK}]" if TRACEBACK in self.files else reason

    @property
    def named(self) -> str:
        """What a person calls it."""
        return named(vars(self))

    def weights(self, *, best: bool = False) -> str | None:
        """Return the name of the file with its weights of the last epoch or of the best, None for none."""
        names = (f"{stem}{'_best' if best else ''}.safetensors" for stem in _STEMS)
        return next((name for name in names if name in self.files), None)

    def as_json(self) -> dict[str, Any]:
        """Return what is written."""
        content = asdict(self)
        del content["home"]
        return content

    @classmethod
    def from_json(cls, content: Mapping[str, Any], home: str) -> Self:
        """Return a record from what was written, of any schema."""
        names = {entry.name for entry in fields(cls)}
        upgraded = _from_first(content) if content.get("schema", 1) == 1 else content
        return cls(**{name: value for name, value in upgraded.items() if name in names} | {"home": home})


def fault_of(content: Mapping[str, Any]) -> str | None:
    """Return what is wrong with a record whose fields are of the right types; None where nothing is."""
    if content["role"] == "student" and not (content.get("student") and content.get("method")):
        return "it is of a student, and names no student or no method"
    for name in _PARTS:
        part = content["config"].get(name)
        if part is not None and not isinstance(part, dict):
            return f"config.{name} is no mapping"
    dataset = content["config"].get("dataset")
    if dataset is not None and not isinstance(dataset.get("name"), str):
        return "config.dataset has no name"
    return None


# Of what decided a record; a mapping each.
_PARTS = ("dataset", "model", "student", "network", "method")


def named(labels: Mapping[str, Any]) -> str:
    """Return what a person calls a node, given its labels."""
    seed = f"seed {labels['seed']}" if labels.get("seed") is not None else None
    teacher = f"teacher {labels['teacher']}" if labels.get("teacher") else None
    return ", ".join(filter(None, (labels.get("student"), labels.get("method"), teacher, seed)))


def _from_first(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record of schema 1 in the fields of schema 2."""
    config, role = content["config"], content["role"]
    taught_by = config.get("teacher")
    if "tasks" in config.get("dataset", {}):  # what schema 1 called further heads
        data = {"heads" if name == "tasks" else name: value for name, value in config["dataset"].items()}
        config = config | {"dataset": data}
    keys = {name: content.get(key) for name, key in _KEYS.items()}
    return {
        **content,
        "config": config,
        "origin": taught_by if role == "student" else None,
        "taught_by": config.get("tutor") or taught_by,
        "amendments": {name: key for name, key in keys.items() if key},
    }


# What every record holds as JSON; the fields that schema 1 had too are required.
SHAPE = shape_of(Record, {"id", "role", "status", "teacher", "seed", "config"}, home=None)
