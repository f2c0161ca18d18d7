"""The parts of a suite: what may be said of data, models, methods, recipes, measuring and controls."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AliasChoices,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from kdbench.suite.plain import LONGEST_LABEL, MOST_AT_ONCE, Exact, Free, Label, Line, Several, faults
from kdbench.suite.references import Placed, checked_name, located, located_file
from kdbench.suite.seed import Seed


class Strict(Exact):
    """A part of a suite; a field that it does not know is an error."""


class Augment(Strict):
    """Random changes of the training images, made on the device."""

    crop_padding: int = Field(0, ge=0, le=64)
    flip: bool = False


class ImbalanceEntry(Strict):
    """A long tail in training: the largest class has ``factor`` times the images of the smallest."""

    factor: float = Field(ge=1, le=1e6)


# What a suite called further heads before, and may still.
FORMER_HEADS = "tasks"
# It is the beginning of names of columns and files.
HeadName = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_]*$", max_length=LONGEST_LABEL)]


def _as_names(value: Any) -> Any:
    # The classes of many datasets are numbers, and YAML reads them as such.
    numbers = isinstance(value, list | tuple) and all(type(item) in (int, str) for item in value)
    return [str(item) for item in value] if numbers else value


# A name that may be that of a user's own code, as it was written; a file, from the suite's folder.
Name = Annotated[Line, AfterValidator(checked_name)]
File = Annotated[Path, AfterValidator(located_file)]


class DatasetEntry(Placed, Strict):
    """The data: its source, the part of train that is kept for validation, the augmentation.

    ``classes`` are the names of its classes in the order of the models' outputs, for a checkpoint whose order
    is another than that of the source. ``heads`` are further columns of labels, each learned by a head of its
    own, with the weight of its loss; that of the dataset's own labels weighs 1. ``args`` are those that every
    source takes (``size``, ``channels``, ``limit``, ``limit_test``, ``mean``, ``std``) and the source's own.
    """

    name: Name
    validation_fraction: float = Field(0.1, ge=0, le=0.95)
    split_seed: Annotated[Seed, Field(lt=2**32)] = 0
    augment: Augment = Augment()
    imbalance: ImbalanceEntry | None = None
    classes: Annotated[tuple[Line, ...] | None, BeforeValidator(_as_names)] = None
    heads: dict[HeadName, Annotated[float, Field(gt=0, le=1e6)]] = Field(
        {}, validation_alias=AliasChoices("heads", FORMER_HEADS), max_length=1000
    )
    args: Free = Field({})

    @field_validator("heads")
    @classmethod
    def _in_one_order(cls, heads: dict[str, float]) -> dict[str, float]:
        # The order of the heads must not be one that ids do not tell apart.
        return dict(sorted(heads.items()))

    @property
    def imbalance_factor(self) -> float:
        """The factor of the long tail, 1 where there is none."""
        return self.imbalance.factor if self.imbalance else 1.0

    @property
    def shown(self) -> str:
        """The name that results show: a long tail is another dataset, and so are further heads."""
        tail = f" (long tail of factor {self.imbalance_factor:g})" if self.imbalance_factor != 1 else ""
        heads = f" with {' and '.join(self.heads)}" if self.heads else ""
        return f"{self.name}{heads}{tail}"


class OptimizerFields(Strict):
    """What may differ between the students of one cohort: the optimiser and its schedule."""

    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    # As far as float32 goes: what diverges shall do so in its own cell.
    lr: float = Field(0.05, gt=0, le=1e30)
    momentum: float = Field(0.9, ge=0, lt=1)
    nesterov: bool = False
    weight_decay: float = Field(5e-4, ge=0, le=1000)
    clip_norm: float | None = Field(None, ge=1e-6, le=1e6)
    schedule: Literal["constant", "step", "cosine", "one_cycle"] = "cosine"
    milestones: tuple[Annotated[int, Field(ge=1)], ...] = Field((), max_length=1000)
    gamma: float = Field(0.1, ge=1e-6, le=1)
    warmup: float = Field(0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _consistent(self) -> OptimizerFields:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs momentum above 0")
        if self.schedule == "step" and not self.milestones:
            raise ValueError("schedule 'step' needs milestones, for example [150, 180, 210]")
        if list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f"milestones {list(self.milestones)} must increase")
        return self


class Recipe(OptimizerFields):
    """How a model is trained. ``warmup`` is the share of the training in which lr rises linearly."""

    epochs: int = Field(240, ge=1, le=1_000_000)
    batch_size: int = Field(64, ge=2, le=MOST_AT_ONCE)
    precision: Literal["auto", "fp32", "bf16"] = "auto"

    @model_validator(mode="after")
    def _reached(self) -> Recipe:
        if self.schedule == "step" and self.milestones[-1] > self.epochs:
            raise ValueError(
                f"milestones {list(self.milestones)} are epochs of the training, which has {self.epochs}"
            )
        return self


class TapsEntry(Strict):
    """The modules whose features are read, where they are not to be found automatically."""

    stages: tuple[Line, ...] | None = Field(None, max_length=1000)
    pooled: Line | None = None


class ModelEntry(Placed, Strict):
    """A model: any name that ``kdbench measure`` takes, with its arguments.

    ``name`` is as it was written, and part of ids; ``reference`` is what is opened.
    """

    name: Name
    args: Free = Field({})
    label: Label | None = None
    checkpoint: File | None = None
    taps: TapsEntry | None = None
    recipe: Free = Field({})

    @property
    def reference(self) -> str:
        """The name as it is found from the suite's folder."""
        return located(self.name, self.folder)

    def opened(self) -> ModelEntry:
        """Return the entry with its reference for a name: what can be built from any folder."""
        return self.model_copy(update={"name": self.reference})

    def beside(self, name: str, **fields: Any) -> ModelEntry:
        """Return the entry of another model that is named in the same suite."""
        return ModelEntry.placed({"name": name} | fields, self.folder)

    @property
    def shown(self) -> str:
        """The name that tables show."""
        if self.label:
            return self.label
        arguments = ",".join(f"{key}={value}" for key, value in sorted(self.args.items()))
        return f"{self.name}({arguments})" if arguments else self.name


class TeacherEntry(ModelEntry):
    """A teacher: a model with a seed of its own; it is trained once, or loaded from its checkpoint."""

    seed: Seed = 0

    @classmethod
    def of(cls, entry: ModelEntry, seed: int) -> TeacherEntry:
        """Return a model as a teacher with a seed."""
        return cls.placed(entry.model_dump() | {"seed": seed}, entry.folder)


# The method that trains a student alone, against which others are compared.
CONTROL = "scratch"
# The student that is the teacher's own network, which begins from its weights.
TEACHER = "teacher"
# Between the links of a chain that has no label.
CHAINED = " → "
Students = Annotated[tuple[Line, ...], Field(min_length=1), Several]


class MethodEntry(Placed):
    """A method, the students that it is for, and its hyper-parameters; a list of values makes a grid."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: Name
    label: Label | None = None
    students: Students | None = None

    @model_validator(mode="after")
    def _plain_parameters(self) -> MethodEntry:
        for location, fault in faults(self.parameters):
            raise ValueError(f"{'.'.join(map(str, location))}: {fault}")
        return self

    @property
    def parameters(self) -> dict[str, Any]:
        """The hyper-parameters that the suite sets."""
        return dict(self.__pydantic_extra__ or {})

    @property
    def links(self) -> tuple[MethodEntry, ...]:
        """The methods that follow one another: it alone."""
        return (self,)

    @property
    def shown(self) -> str:
        """The name by which the rest of a suite refers to it."""
        return self.label or self.name


def _as_link(value: Any) -> Any:
    """Return a link of a chain as the fields of a method: ``kd``, ``{kd: {temperature: 2}}``, or these."""
    if isinstance(value, str):
        return {"name": value}
    if isinstance(value, dict) and "chain" in value:
        raise ValueError("a chain cannot hold a chain: write their links in one list")
    if isinstance(value, dict) and len(value) == 1 and "name" not in value:
        ((name, parameters),) = value.items()
        if parameters is None or isinstance(parameters, dict):
            return {"name": name} | (parameters or {})
    return value


def _bare(link: MethodEntry) -> MethodEntry:
    """Return a link; raises ValueError for what only the whole chain can have."""
    for field in ("label", "students"):
        if getattr(link, field) is not None:
            raise ValueError(f"a link has no {field} of its own: give the chain one")
    return link


def _several(value: Any) -> Any:
    """Return the links of a chain; raises ValueError for fewer than two, or what is no list."""
    if not isinstance(value, list | tuple) or len(value) < 2:
        raise ValueError("a chain is a list of two methods or more, such as [kd, cast]")
    return value


class ChainEntry(Placed, Strict):
    """Methods that follow one another, each beginning from the network that the one before has made."""

    chain: Annotated[
        tuple[Annotated[MethodEntry, BeforeValidator(_as_link), AfterValidator(_bare)], ...],
        BeforeValidator(_several),
        Field(max_length=100),
    ]
    label: Label | None = None
    students: Students | None = None

    @property
    def links(self) -> tuple[MethodEntry, ...]:
        """The methods that follow one another."""
        return self.chain

    @property
    def shown(self) -> str:
        """The name by which the rest of a suite refers to it."""
        return self.label or CHAINED.join(link.name for link in self.chain)


class PairEntry(Strict):
    """A teacher with its students, and the hyper-parameters that methods take for them, by method."""

    teacher: Line
    students: Students
    methods: dict[Line, Free] = Field({}, max_length=1000)
