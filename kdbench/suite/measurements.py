"""The parts of a suite that say what is measured beside training: costs, controls and robustness."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from kdbench.suite.plain import MOST_AT_ONCE, MOST_THREADS
from kdbench.suite.references import Placed, located
from kdbench.suite.schema import File, Name, Strict
from kdbench.suite.seed import Seed

Count = Annotated[int, Field(ge=1, le=MOST_THREADS)]
Threads = Count | Literal["all"]


class MeasureEntry(Strict):
    """Which costs are measured, and how long.

    ``threads`` is one number for everything, or a list such as ``[1, all]``. ``memory`` and ``energy``
    take a process, or two seconds, for each model and batch size.
    """

    latency: bool = True
    batch_sizes: tuple[Annotated[int, Field(ge=1, le=MOST_AT_ONCE)], ...] = Field(
        (1, 256), min_length=1, max_length=100
    )
    threads: Count | Annotated[tuple[Threads, ...], Field(max_length=100)] | None = None
    runtimes: tuple[Literal["eager", "compile", "export", "onnx", "graph"], ...] = ("eager",)
    precisions: tuple[Literal["fp32", "bf16"], ...] = ("fp32",)
    memory: bool = False
    energy: bool = False
    min_samples: int = Field(100, ge=11, le=10_000_000)
    min_seconds: float = Field(0.5, ge=0, le=86_400)
    max_seconds: float = Field(20.0, ge=0.001, le=86_400)
    timeout_s: float = Field(900.0, ge=0.001, le=604_800)

    @model_validator(mode="after")
    def _comparable(self) -> MeasureEntry:
        listed: dict[str, tuple[Any, str]] = {
            "runtimes": (self.runtimes, "eager"),
            "precisions": (self.precisions, "fp32"),
        }
        if isinstance(self.threads, tuple):
            listed["threads"] = (self.threads, "all")
        for name, (values, needed) in listed.items():
            if needed not in values or len(set(values)) != len(values):
                listing = ", ".join(map(str, values))
                raise ValueError(f"{name} [{listing}] must be distinct and have '{needed}' among them")
        return self


class IndependentEntry(Strict):
    """The second training of every teacher: its seed (default: the teacher's + 1), or a checkpoint of it."""

    seed: Seed | None = None
    checkpoint: File | None = None

    @model_validator(mode="after")
    def _one_way(self) -> IndependentEntry:
        if self.seed is not None and self.checkpoint is not None:
            raise ValueError("name a seed or a checkpoint, not both")
        return self


def _independent(value: Any) -> Any:
    if isinstance(value, bool):
        return {} if value else None
    if isinstance(value, str | float):
        raise ValueError("it is true, false, a seed, or {checkpoint: PATH}")
    return {"seed": value} if isinstance(value, int) else value


class ControlsEntry(Strict):
    """What gives fidelity its meaning.

    ``independent_teacher`` (``true``, a seed, or a checkpoint) is another training of every teacher, which
    teaches nobody: agreement with it is what accuracy alone gives. With ``random_teacher`` every method that
    takes nothing but logits also learns from its teacher's logits in random order.
    """

    independent_teacher: Annotated[IndependentEntry | None, BeforeValidator(_independent)] = None
    random_teacher: bool = False


def _from_single(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


class RobustnessEntry(Placed, Strict):
    """The corruptions of the test images that every model is shown once it is trained.

    ``corruptions`` is ``all``, or names of ``kdbench list corruptions`` and of a user's own; ``examples`` is
    how many test images, balanced over the classes, null for all of them.
    """

    corruptions: Annotated[tuple[Name, ...], BeforeValidator(_from_single)] = Field(
        ("all",), min_length=1, max_length=1000
    )
    severities: tuple[Annotated[int, Field(ge=1, le=5)], ...] = Field(
        (1, 2, 3, 4, 5), min_length=1, max_length=5
    )
    examples: int | None = Field(None, ge=1, le=2**31)

    @property
    def references(self) -> tuple[str, ...]:
        """The corruptions as they are found from the suite's folder."""
        return tuple(located(name, self.folder) for name in self.corruptions)

    @model_validator(mode="after")
    def _no_duplicates(self) -> RobustnessEntry:
        for kind, values in (("corruption", self.corruptions), ("severity", self.severities)):
            for value in values:
                if values.count(value) > 1:
                    raise ValueError(f"{kind} '{value}' is listed twice")
        return self
