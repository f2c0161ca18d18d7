"""What the documents of a run directory hold, beside the records: the manifest, the columns, the costs."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from kdbench.column import Direction, Scale

_AS_WRITTEN = ConfigDict(strict=True, allow_inf_nan=False)


class ManifestShape(BaseModel):
    """What ``run.json`` holds."""

    model_config = _AS_WRITTEN

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


class ColumnShape(BaseModel):
    """What is said of one column."""

    model_config = _AS_WRITTEN

    name: str
    title: str
    family: str
    direction: Direction
    unit: str = ""
    range: str = ""
    source: str = ""
    scale: Scale = "plain"
    quantity: str = ""
    head: str = ""
    place: dict[str, Any] | None = None


class ColumnsShape(BaseModel):
    """What ``columns.json`` holds."""

    model_config = _AS_WRITTEN

    columns: list[ColumnShape] = Field(min_length=1)


class CostShape(BaseModel):
    """What ``costs/ID/cost.json`` holds, by the label of the model."""

    model_config = _AS_WRITTEN

    metrics: dict[str, dict[str, float | None]]
    reasons: dict[str, dict[str, str]]
    conditions: dict[str, Any]
    intervals: dict[str, dict[str, Any]] = {}
    trained: dict[str, float | None] = {}
    files: dict[str, dict[str, Any]] = {}
