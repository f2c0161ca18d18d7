"""The contract of a compressor: how a small network is made out of a trained one.

A compressor is one file of ``kdbench/methods/compressors`` (or of a user's own): a ``Compressor`` registered
with ``@compressor``. What it does is split in two, so that a network can be rebuilt without the data that
decided about it: ``decide`` looks at the trained network and returns plain JSON (places of masks, ranks,
scales), which is kept beside the record; ``apply`` makes the network from such a decision, here and whenever
it is loaded, exported or measured. Loading any network is: build, apply every decision in order, finish,
weights.

The plan reads every compressor without torch: take it from ``kdbench.deferred``, and use it in functions
only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, ClassVar, Literal

from kdbench.code.factory import factory_fingerprint, load_factory
from kdbench.deferred import nn
from kdbench.errors import unknown
from kdbench.inputs import Inputs
from kdbench.methods.base import METHODS, Method, Parameters, S, find_method, registering
from kdbench.models.index import Sketch
from kdbench.registry import Registry

Decision = dict[str, Any]


class Compressor:
    """Makes a network out of a trained one; one instance serves one network.

    Class attributes a compressor may set:
        data: what ``decide`` is shown: nothing, some calibration images, or the training split.
        last: True where no later step can train what ``apply`` returns, so that it ends a chain.
    """

    Parameters: ClassVar[type[Parameters]] = Parameters
    data: ClassVar[Literal["none", "calibration", "training"]] = "none"
    last: ClassVar[bool] = False

    def __init__(self, hyper: Any) -> None:
        """Keep the hyper-parameters, a ``Parameters``."""
        self.hyper = hyper

    @classmethod
    def check(cls, hyper: Any, model: Sketch) -> None:
        """Raise Refusal with the reason where the compressor cannot work on a model."""

    def decide(self, model: nn.Module, batches: Iterable[Inputs]) -> Decision:
        """Return what is to be done to a trained network, as JSON; the network stays as it is.

        ``batches`` yields what ``data`` asks for: inputs (B, ...) as the network takes them.
        """
        raise TypeError(f"{type(self).__name__} does not define decide()")

    def apply(self, model: nn.Module, decision: Decision) -> nn.Module:
        """Return the network that a decision makes of a model, which may be changed in place.

        It needs no data, and what it does to structure depends on the decision alone, so that weights which
        were trained later fit the network that is rebuilt.
        """
        raise TypeError(f"{type(self).__name__} does not define apply()")

    @classmethod
    def structure(cls, hyper: Any, decision: Decision) -> Any:
        """Return what of a decision, as JSON, makes the cost of the network: equal values cost the same."""
        return decision

    def hold(self, model: nn.Module) -> None:
        """Restore what a later training step must not undo, such as zeros; called after each of them.

        It works on the network that ``apply`` of this instance returned.
        """

    def finish(self, model: nn.Module) -> nn.Module:
        """Return what is deployed of a network whose training is over."""
        return model


COMPRESSORS: Registry[Method] = Registry(
    "compressor", home="kdbench.methods.compressors", check=lambda member: _fault(member)
)


def compressor(name: str, *, title: str, source: str, year: int) -> Callable[[type[S]], type[S]]:
    """Register a ``Compressor`` under ``name``."""
    return registering(COMPRESSORS, name, title, source, year)


def find_step(name: str) -> Method:
    """Return a method or a compressor by name, or that of a class in a user's own code.

    Raises UserError with the nearest right name of either kind.
    """
    if ":" not in name:
        if name in COMPRESSORS.all():
            return COMPRESSORS.find(name)
        if name in METHODS.all():
            return METHODS.find(name)
        raise unknown("method", name, [*METHODS.all(), *COMPRESSORS.all()])
    member = load_factory(name)
    if isinstance(member, type) and issubclass(member, Compressor):
        own = COMPRESSORS.find(name)
        return replace(own, fingerprint=factory_fingerprint(name), reference=name)
    return find_method(name)


def _fault(member: Any) -> str | None:
    if not isinstance(member, type) or not issubclass(member, Compressor):
        return "is no Compressor: derive the class from it"
    for method in ("decide", "apply"):
        if getattr(member, method) is getattr(Compressor, method):
            return f"lacks the method {method}()"
    return None
