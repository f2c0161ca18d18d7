"""The contract of a method: how a student is made from a teacher.

A method is one file of this package (or of a user's own): a ``Distiller`` registered with ``@method``. It is
built from the shapes of the tapped features, declares what it needs, and turns the outputs of student and
teacher into named loss terms, whose sum is minimised. Its own networks (adapters) train with the student.

The plan reads every method without torch: take it from ``kdbench.deferred``, and use it in functions only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

from kdbench.code.factory import factory_fingerprint
from kdbench.column import Column
from kdbench.deferred import Tensor, nn
from kdbench.models.shapes import FeatureShapes, Outputs, Taps
from kdbench.registry import Registry
from kdbench.suite.plain import Exact
from kdbench.targets import USUAL, find_target

if TYPE_CHECKING:
    from kdbench.suite.schema import ModelEntry

Role = Literal["student", "teacher"]
S = TypeVar("S")


class Parameters(Exact):
    """The hyper-parameters of a method, with their defaults and ranges."""


@dataclass(frozen=True)
class Pair:
    """A teacher and a student as a method sees them before training: their shapes and what they predict.

    ``target`` is the name of one of `kdbench.targets`.
    """

    teacher: str
    student: str
    teacher_shapes: FeatureShapes
    student_shapes: FeatureShapes
    num_classes: int
    same_architecture: bool
    target: str = USUAL

    def name(self, role: Role) -> str:
        """Return the name of one of the two."""
        return self.student if role == "student" else self.teacher

    def shapes(self, role: Role) -> FeatureShapes:
        """Return the shapes of one of the two."""
        return self.student_shapes if role == "student" else self.teacher_shapes


class Refusal(Exception):
    """Raised by ``check``: the reason why a method cannot work with a pair."""


@dataclass(frozen=True)
class Networks:
    """The models themselves, which a method may look at once before the first step.

    Attributes:
        student: the student, with its first weights.
        teacher: the teacher, whose weights never change.
        taps: where each is tapped.
        heads: the last linear layer of each, by role; absent where a model does not end in one.
        labels: those of the training split, on the device, as ``Batch.target``.
        fresh: makes another network of the student's or the teacher's kind, with new random weights.
    """

    student: nn.Module
    teacher: nn.Module
    taps: Mapping[Role, Taps]
    heads: Mapping[Role, nn.Linear]
    labels: Tensor
    fresh: Callable[[Role], nn.Module]


@dataclass(frozen=True)
class Batch:
    """One step of the training.

    Attributes:
        target: the labels: class numbers (B,), of several labels an example 0 or 1 for each (B, K).
        index: places of the images in the training split (B,).
        progress: how far the training is, from 0 to 1.
        run: gives the logits (B, K), in float32, of a further network on the batch's images.
    """

    target: Tensor
    index: Tensor
    progress: float
    run: Callable[[nn.Module], Tensor]


class Distiller:
    """How a student learns; one instance serves one student.

    An attribute that is an ``nn.Module`` belongs to the method: its parameters train with the student's, are
    saved in checkpoints, and are counted as ``params_adapter``. A network that shall not train with it (a
    layer of the teacher) is kept in a tuple.

    A method of this package leaves what it is handed as it is, for other students read it too; one of a
    user's own is handed copies.

    Class attributes a method may set:
        needs: what is read from both models, of ``logits``, ``pooled``, ``stages``.
        targets: the names of the targets that it can learn, None for all: where it takes its losses of
            logits and labels from ``self.target``, and reads neither itself.
        uses_teacher: False for a method that is trained without a teacher.
        moves_weights: True where the student's weights are changed beside the optimiser, so that
            batch-norm statistics must be computed anew before the student is evaluated.
        columns: further numbers that ``diagnose`` returns.
    """

    Parameters: ClassVar[type[Parameters]] = Parameters
    needs: frozenset[str] = frozenset({"logits"})
    targets: ClassVar[frozenset[str] | None] = frozenset({USUAL})
    uses_teacher: bool = True
    moves_weights: ClassVar[bool] = False
    columns: ClassVar[tuple[Column, ...]] = ()

    def __init__(self, hyper: Any, pair: Pair) -> None:
        """Build the adapters from the shapes of the pair; ``hyper`` is a ``Parameters``."""
        self.hyper = hyper
        self.pair = pair
        self.target = find_target(pair.target)

    @classmethod
    def requires(cls, hyper: Any) -> frozenset[str]:
        """Return what of ``needs`` both models must have: all of it, unless a method can do without."""
        return cls.needs

    @classmethod
    def check(cls, hyper: Any, pair: Pair) -> None:
        """Raise Refusal where the method cannot work with a pair, beyond what its declarations say."""

    @classmethod
    def assistants(cls, hyper: Any, student: str) -> tuple[str, ...]:
        """Return the models that are distilled one from another, first to last, before the student.

        Each is trained by this method from the one before it, the first from the teacher; the student then
        learns from the last.
        """
        return ()

    @classmethod
    def network(cls, hyper: Any, student: ModelEntry, teacher: ModelEntry) -> dict[str, Any] | None:
        """Return the model that trains in the student's place, as fields of an entry; None: the student.

        It is what is evaluated, kept and measured. The random numbers of its first weights are those of the
        student, so one that builds the student first begins with the same as under other methods.
        """
        return None

    @classmethod
    def network_shapes(cls, hyper: Any, pair: Pair) -> FeatureShapes | None:
        """Return the shapes of that model, so that the plan need not build it; None where it must."""
        return None

    @classmethod
    def soft_temperature(cls, hyper: Any) -> float | None:
        """Return the T of the targets softmax(z_t/T) that the student learns from, None where it has none."""
        return None

    @classmethod
    def reads_logits_only(cls, hyper: Any, student: str) -> bool:
        """Return whether the method reads nothing but logits.

        Not so where it reads features, looks at the models themselves, or teaches assistants first.
        """
        looks = cls.prepare is not Distiller.prepare or cls.after_step is not Distiller.after_step
        changes = looks or cls.has_own_network()
        return cls.needs == {"logits"} and not (changes or cls.assistants(hyper, student))

    @classmethod
    def has_own_network(cls) -> bool:
        """Return whether the method may train another model than the student."""
        return cls.network.__func__ is not Distiller.network.__func__  # type: ignore[attr-defined]

    @property
    def widths(self) -> list[int]:
        """How many of the logits are each head's; all are the dataset's own unless there are further ones."""
        return [self.pair.num_classes]

    def prepare(self, networks: Networks) -> None:
        """Look at the models once, before the first step."""

    def losses(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> dict[str, Tensor]:
        """Return named loss terms of one batch: scalars with their weights already applied.

        What teachers give carries no gradient. ``teacher`` is None where the method does not use one.
        """
        raise TypeError(f"{type(self).__name__} does not define losses()")

    def after_step(self, student: nn.Module, teacher: nn.Module, epoch_ended: bool, ended: bool) -> None:
        """Act on the student's weights after the optimiser's step."""

    def diagnose(
        self, student: nn.Module, teacher: nn.Module, loss: Callable[[nn.Module], float]
    ) -> dict[str, float]:
        """Return further numbers of the trained student; ``loss`` gives a model's held-out mean NLL."""
        return {}

    def adapters(self) -> nn.ModuleDict:
        """Return the networks of the method itself: its attributes that are modules, by name.

        Raises TypeError for a bare parameter or a list of modules, which would silently not be trained.
        """
        networks = {}
        for name, value in vars(self).items():
            if isinstance(value, nn.Module):
                networks[name] = value
            elif isinstance(value, nn.Parameter):
                raise TypeError(f"'{name}' is a bare parameter: keep it in an nn.ParameterList")
            elif isinstance(value, list) and any(isinstance(entry, nn.Module) for entry in value):
                raise TypeError(f"'{name}' is a list of modules: keep them in an nn.ModuleList")
        return nn.ModuleDict(networks)


@dataclass(frozen=True)
class Method:
    """A registered method: its name, what it is, and where it comes from.

    ``step`` is its class, a ``Distiller`` or a ``Compressor``. Of a user's own, ``reference`` is what a suite
    calls it, and ``fingerprint`` that of its code.
    """

    name: str
    title: str
    source: str
    year: int
    step: type[Any]
    fingerprint: str | None = None
    reference: str | None = None

    @property
    def parameters(self) -> type[Parameters]:
        """The schema of its hyper-parameters."""
        return self.step.Parameters

    @property
    def trains(self) -> bool:
        """Whether it trains a student; if not, it compresses a trained network."""
        return issubclass(self.step, Distiller)

    @property
    def distiller(self) -> type[Distiller]:
        """The class of a method that trains."""
        assert self.trains
        return self.step


def _fault(member: Any) -> str | None:
    """Return what keeps a member from being a method."""
    if not isinstance(member, type) or not issubclass(member, Distiller):
        return "is no Distiller: derive the class from it"
    return None


METHODS: Registry[Method] = Registry("method", home="kdbench.methods.distillers", check=_fault)


def method(name: str, *, title: str, source: str, year: int) -> Callable[[type[S]], type[S]]:
    """Register a distiller as the method ``name``."""
    return registering(METHODS, name, title, source, year)


def registering(
    registry: Registry[Method], name: str, title: str, source: str, year: int
) -> Callable[[type[S]], type[S]]:
    """Return the decorator that files a class in a registry of methods."""

    def register(step: type[S]) -> type[S]:
        registry.add(name, Method(name, title, source, year, step), step)
        return step

    return register


def methods() -> dict[str, Method]:
    """Return every method of this package, and of installed ones that add any, by name."""
    return dict(sorted(METHODS.all().items()))


def find_method(name: str) -> Method:
    """Return a method by name, or that of a class in a user's own code, ``path/file.py:Class``.

    Raises UserError with the nearest right name, or where the class is no method.
    """
    entry = METHODS.find(name)
    return replace(entry, fingerprint=factory_fingerprint(name), reference=name) if ":" in name else entry
