"""What the documents of a run directory hold, beside the records: the manifest, the columns, the costs."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field, create_model

from kdbench.column import Column
from kdbench.place import Place
from kdbench.store.sealed import CLOSED, STRICT, shape_of


class ManifestShape(BaseModel):
    """What ``run.json`` holds."""

    model_config = STRICT

    suite: str
    dataset: str
    sizes: dict[str, int]
    teachers: list[str]
    cells: list[str]
    seeds: list[int] = []
    started: str = ""
    classes: list[Any] = []
    machine: dict[str, Any] = {}
    versions: dict[str, Any] = {}
    description: str = ""
    supporting: list[str] = []
    labels: dict[str, dict[str, Any]] = {}
    heads: dict[str, list[Any]] = {}
    target: str = ""
    headline: str = ""
    files: dict[str, dict[str, Any]] = {}


PlaceShape = shape_of(Place, {"device", "batch"}, CLOSED)
ColumnShape = shape_of(Column, {"name", "title", "family", "direction"}, CLOSED, place=PlaceShape | None)
# What ``columns.json`` holds.
ColumnsShape = create_model(
    "Columns",
    __config__=STRICT,
    columns=(list[ColumnShape], Field(min_length=1)),  # type: ignore[valid-type]
)


class CostShape(BaseModel):
    """What ``costs/ID/cost.json`` holds, by the label of the model."""

    model_config = STRICT

    metrics: dict[str, dict[str, float | None]]
    reasons: dict[str, dict[str, str]]
    conditions: dict[str, Any]
    intervals: dict[str, dict[str, Any]] = {}
    trained: dict[str, float | None] = {}
    files: dict[str, dict[str, Any]] = {}
