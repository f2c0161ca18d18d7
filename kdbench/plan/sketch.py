"""Models before training: looked at once, to know their shapes and to find what is wrong with them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from kdbench.code.foreign import ProcessEnded, foreign
from kdbench.errors import UserError
from kdbench.inputs import InputSpec
from kdbench.models.index import CLASSES, INPUTS, Sketch, indexed, sketch_of
from kdbench.models.registry import is_foreign
from kdbench.models.shapes import FeatureShapes, Taps
from kdbench.store import content_id
from kdbench.suite.schema import ModelEntry

if TYPE_CHECKING:
    from torch import nn


class Sketches:
    """The models of a suite, for its inputs and its number of classes."""

    def __init__(
        self, inputs: InputSpec, classes: int, precision: Literal["auto", "fp32", "bf16"] = "fp32"
    ) -> None:
        """Start with none; ``precision`` is that of the recipe that they are trained by."""
        self._precision = precision
        self._inputs = inputs
        self._classes = classes
        self._known: dict[str, Sketch] = {}
        self._remarks: dict[str, list[str]] = {}

    def of(self, role: str, entry: ModelEntry, shapes: FeatureShapes | None = None) -> Sketch:
        """Return the sketch of a model; raises UserError, naming its role, where it cannot be used.

        One whose ``shapes`` are known, and whose taps its entry names, is not built.
        """
        if shapes and entry.taps:
            taps = Taps(entry.taps.stages or (), entry.taps.pooled)
            return Sketch(taps, shapes, content_id([entry.name, entry.args]))
        # A teacher that comes with its weights need not be one that can be trained.
        key = entry.model_dump_json(include={"name", "args", "checkpoint", "taps"})
        key += role if entry.checkpoint else ""
        if key not in self._known:
            try:
                with foreign(f"{role} '{entry.shown}'", limited=True):
                    self._known[key] = self._from_index(entry) or self._built(role, entry)
            except (UserError, ProcessEnded) as error:
                raise UserError(f"{role} '{entry.shown}': {error}") from None
        return self._known[key]

    def remarks(self) -> list[str]:
        """Return what a person should know of the models, a line each."""
        return [f"{model}: {remark}" for model, remarks in self._remarks.items() for remark in remarks]

    def _from_index(self, entry: ModelEntry) -> Sketch | None:
        """Return what is known of a plain model of the zoo: neither torch nor the model is needed then."""
        if entry.args or entry.checkpoint or entry.taps:
            return None
        if (self._inputs, self._classes) != (INPUTS, CLASSES):
            return None
        known = indexed(entry.name)
        return known.sketch if known else None

    def _built(self, role: str, entry: ModelEntry) -> Sketch:
        from kdbench.models import feature_shapes, load_checkpoint
        from kdbench.models.features import overwritten_taps, run_example

        model = self._model(entry)
        logits = run_example(model, self._inputs)
        if logits.shape[1] != self._classes:
            raise UserError(f"it gives {logits.shape[1]} classes, the dataset has {self._classes}.")
        taps = _resolve_taps(model, entry, self._inputs)
        shapes = feature_shapes(model, taps, self._inputs)
        remarks: list[str] = []
        if entry.checkpoint:
            remarks += load_checkpoint(model, entry.checkpoint)
        remarks += [
            f"stage '{name}' is changed in place by a later module and is read so: tap that module, or build "
            "the model without inplace=True"
            for name in overwritten_taps(model, taps, self._inputs)
        ]
        if is_foreign(entry.name):
            remarks += self._tried(role, entry, model)
        self._remarks[f"{role} '{entry.shown}'"] = remarks
        kinds = frozenset(kind.__name__ for module in model.modules() for kind in type(module).__mro__)
        return replace(sketch_of(model, taps, shapes), kinds=kinds)

    def _tried(self, role: str, entry: ModelEntry, model: nn.Module) -> Iterator[str]:
        """Refuse a network that could not be trained, and yield what is worth knowing of it."""
        from kdbench.models.trial import try_out

        trained = not (role == "teacher" and entry.checkpoint)
        trial = try_out(model, self._inputs, bf16=self._in_bf16(), trained=trained)
        if trained and trial.failure is not None:
            raise UserError(f"it cannot be trained on inputs of {self._inputs}: {trial.failure}.")
        if trial.in_bf16 is not None:
            raise UserError(
                f"it works in float32 but not in bf16, in which the recipe trains here ({trial.in_bf16}): "
                "write recipe: {precision: fp32}, or mend it."
            )
        if trained and not any(parameter.requires_grad for parameter in model.parameters()):
            raise UserError("it has no parameter that can be trained.")
        if _shares_weights(model, self._model(entry)):
            raise UserError(
                "its factory returns the same weights twice: it must make a new network each time."
            )
        yield from trial.remarks()

    def _in_bf16(self) -> bool:
        """Return whether a run would train in bf16 on the CPU, where trials are made.

        Which operators there are in bf16 depends on the device: a trial here says nothing of a GPU.
        """
        import torch

        from kdbench.training.precision import resolve

        on_cpu = not torch.cuda.is_available()
        return on_cpu and resolve(self._precision, torch.device("cpu")) == "bf16"

    def _model(self, entry: ModelEntry) -> nn.Module:
        from kdbench.models import build_model

        return build_model(entry.reference, inputs=self._inputs, num_classes=self._classes, args=entry.args)


def _shares_weights(first: nn.Module, second: nn.Module) -> bool:
    mine = {tensor.data_ptr() for tensor in first.state_dict().values() if tensor.numel()}
    return any(tensor.data_ptr() in mine for tensor in second.state_dict().values() if tensor.numel())


def _resolve_taps(model: nn.Module, entry: ModelEntry, inputs: InputSpec) -> Taps:
    """Return the taps that a suite names, completed by those that are found."""
    from kdbench.models import find_taps

    taps = find_taps(model, inputs)
    if entry.taps is None:
        return taps
    return Taps(
        stages=taps.stages if entry.taps.stages is None else entry.taps.stages,
        pooled=taps.pooled if entry.taps.pooled is None else entry.taps.pooled,
    )
