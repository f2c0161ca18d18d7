"""Where features are tapped, on any model, with forward hooks: the model itself stays untouched.

By default the taps are found by one forward pass over an example:

- *stages*: the last module at each spatial size, in the order of execution, without what is inside a block
  that leaves that size (a bottleneck block widens or narrows its input before its stride); for a
  transformer, blocks at even distances;
- *pooled*: the input of the last linear layer.

A suite may name them instead: ``taps: {stages: [layer1, layer2], pooled: fc}``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from kdbench.errors import UserError, in_words, nearest
from kdbench.inputs import Inputs, InputSpec
from kdbench.models.outputs import NoLogits, first_tensor
from kdbench.models.shapes import FeatureShapes, Outputs, Taps
from kdbench.models.trial import passing
from kdbench.shared_state import kept_settings

MAX_BLOCKS = 4
# How many examples a model is shown.
SHOWN = 2


class FeatureReader:
    """Runs a model and collects the features that are needed, and no others.

    ``needs`` is a subset of ``{"logits", "pooled", "stages"}``. ``close`` removes the hooks.
    """

    def __init__(self, model: nn.Module, taps: Taps, needs: frozenset[str]) -> None:
        """Set the hooks; raises UserError where a tap names no module of the model."""
        self.model = model
        self._taps = taps
        self._needs = needs
        self._caught: dict[str, Tensor] = {}
        self._handles: list[RemovableHandle] = []
        modules = dict(model.named_modules())
        for name in (*taps.stages, *([taps.pooled] if taps.pooled else [])):
            if name not in modules:
                raise UserError(f"taps: the model has no module '{name}'.{nearest(name, modules)}")
        if "stages" in needs:
            for name in taps.stages:
                self._handles.append(modules[name].register_forward_hook(self._catch_output(name)))
        if "pooled" in needs and taps.pooled is not None:
            self._handles.append(modules[taps.pooled].register_forward_pre_hook(self._catch_input))

    def _catch_output(self, name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            self._caught[name] = first_tensor(output)

        return hook

    def _catch_input(self, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        self._caught["pooled input"] = inputs[0]

    def __call__(self, inputs: Inputs) -> Outputs:
        """Run the model on a batch and return its outputs."""
        self._caught.clear()
        logits = self.model(inputs)
        outputs = Outputs(logits.float())
        if "pooled" in self._needs and self._taps.pooled is not None:
            outputs.pooled = self._caught["pooled input"].float()
        if "stages" in self._needs:
            outputs.stages = tuple(self._caught[name].float() for name in self._taps.stages)
        self._caught.clear()
        return outputs

    def close(self) -> None:
        """Remove the hooks from the model."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with passing(model), kept_settings(), torch.no_grad():
            yield
    finally:
        for module, training in modes.items():
            module.training = training


@dataclass(frozen=True)
class _Visit:
    name: str
    module: nn.Module
    entered: tuple[int, ...]
    shape: tuple[int, ...]


def find_taps(model: nn.Module, inputs: InputSpec) -> Taps:
    """Find the taps of a model by one forward pass over two examples."""
    visits: list[_Visit] = []
    linears: list[tuple[str, tuple[int, ...]]] = []
    handles = []
    for name, module in model.named_modules():
        if not name:
            continue

        def after(module: nn.Module, inputs: Any, output: Any, name: str = name) -> None:
            tensor = first_tensor(output)
            if isinstance(tensor, Tensor):
                entered = tuple(inputs[0].shape) if inputs and isinstance(inputs[0], Tensor) else ()
                visits.append(_Visit(name, module, entered, tuple(tensor.shape)))
            if isinstance(module, nn.Linear):
                linears.append((name, tuple(inputs[0].shape)))

        handles.append(module.register_forward_hook(after))
    try:
        run_example(model, inputs)
    finally:
        for handle in handles:
            handle.remove()
    name, entered = linears[-1] if linears else ("", ())
    # What has not a row an example (a model may take them one by one) is no feature of the batch.
    visits = [visit for visit in visits if visit.shape[:1] == (SHOWN,)]
    pooled = name if len(entered) == 2 and entered[0] == SHOWN else None
    return Taps(stages=_stages(model, visits), pooled=pooled)


def _stages(model: nn.Module, visits: list[_Visit]) -> tuple[str, ...]:
    blocks = _transformer_blocks(model, visits)
    if blocks:
        count = min(MAX_BLOCKS, len(blocks))
        return tuple(blocks[(2 * (i + 1) * len(blocks) + count) // (2 * count) - 1] for i in range(count))
    maps = [visit for visit in visits if len(visit.shape) == 4 and min(visit.shape[2:]) > 1]
    # What linear layers and layer-norms give in four dimensions has its channels last: no map of this kind.
    channels_last = {visit.shape for visit in maps if type(visit.module) in (nn.Linear, nn.LayerNorm)}
    # A hook keeps the last of several calls, so a module that runs at several sizes is no tap.
    sizes: dict[str, set[tuple[int, ...]]] = {}
    for visit in maps:
        sizes.setdefault(visit.name, set()).add(visit.shape[2:])
    maps = [visit for visit in maps if len(sizes[visit.name]) == 1 and visit.shape not in channels_last]
    leaving = _blocks_leaving_a_size(visits)
    inner = {visit for visit in maps if _inside_one(visit, leaving)}
    outer_sizes = {visit.shape[2:] for visit in maps if visit not in inner}
    last: dict[tuple[int, ...], str] = {}
    for visit in maps:
        size = visit.shape[2:]
        if visit in inner and size in outer_sizes:
            continue
        last.pop(size, None)  # keeps the order of execution, by the last module at each size
        last[size] = visit.name
    return tuple(last.values())


def _blocks_leaving_a_size(visits: list[_Visit]) -> dict[str, tuple[int, ...]]:
    """Return the blocks that step from one spatial size to another and work on there, with the size left.

    Sequences are no blocks: a stage may open, or end, with another one's size.
    """
    blocks: dict[str, tuple[int, ...]] = {}
    for block in visits:
        before, after = block.entered[2:], block.shape[2:]
        if type(block.module) is nn.Sequential or len(block.shape) != 4 or before == after:
            continue
        inside = [visit for visit in visits if visit.name.startswith(f"{block.name}.")]
        works_on = any(visit.entered[2:] == after and isinstance(visit.module, nn.Conv2d) for visit in inside)
        sizes = {visit.shape[2:] for visit in inside if len(visit.shape) == 4 and min(visit.shape[2:]) > 1}
        if works_on and sizes == {before, after}:
            blocks[block.name] = before
    return blocks


def _inside_one(visit: _Visit, leaving: dict[str, tuple[int, ...]]) -> bool:
    parts = visit.name.split(".")
    ancestors = (".".join(parts[:count]) for count in range(1, len(parts)))
    return any(leaving.get(name) == visit.shape[2:] for name in ancestors)


def _transformer_blocks(model: nn.Module, visits: list[_Visit]) -> list[str]:
    """Return the names of repeated blocks that map tokens (B, N, D) to tokens, in order of execution."""
    parents = dict(model.named_modules())
    blocks = []
    for visit in visits:
        parent = parents[visit.name.rpartition(".")[0]]
        siblings = [child for child in parent.children() if type(child) is type(visit.module)]
        repeated = isinstance(parent, nn.Sequential | nn.ModuleList) and len(siblings) > 1
        composite = any(True for _ in visit.module.children())
        if len(visit.shape) == 3 and repeated and composite:
            blocks.append(visit.name)
    return blocks


def run_example(model: nn.Module, inputs: InputSpec) -> Tensor:
    """Run a model in evaluation mode on two examples; raises UserError where it cannot take them."""
    try:
        with _evaluating(model):
            logits = model(inputs.example_for(model, SHOWN))
    except NoLogits as error:
        raise UserError(f"{error}.") from error
    except Exception as error:  # a model may refuse inputs in any way
        reason = in_words(error)[:200]
        raise UserError(f"it cannot take inputs of {inputs}: {reason}.") from error
    if not isinstance(logits, Tensor) or logits.dim() != 2:
        found = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
        raise UserError(f"it must return logits of shape (batch, classes), but returned {found}.")
    return logits


def overwritten_taps(model: nn.Module, taps: Taps, inputs: InputSpec) -> list[str]:
    """Return the stages whose output a later module changes in place, so that they are read changed."""
    seen: dict[str, tuple[Tensor, int]] = {}
    handles = []
    for name in taps.stages:

        def catch(module: nn.Module, inputs: Any, output: Any, name: str = name) -> None:
            tensor = first_tensor(output)
            if isinstance(tensor, Tensor):
                seen[name] = (tensor, tensor._version)

        handles.append(model.get_submodule(name).register_forward_hook(catch))
    try:
        run_example(model, inputs)
    finally:
        for handle in handles:
            handle.remove()
    return [name for name, (tensor, version) in seen.items() if tensor._version != version]


def feature_shapes(model: nn.Module, taps: Taps, inputs: InputSpec) -> FeatureShapes:
    """Return the shapes of a model's logits, pooled features and stages, without the batch dimension.

    Raises UserError for a tap that gives another number of rows than there are examples.
    """
    reader = FeatureReader(model, taps, frozenset({"logits", "pooled", "stages"}))
    try:
        with _evaluating(model):
            outputs = reader(inputs.example_for(model, SHOWN))
    finally:
        reader.close()
    for name, feature in zip((taps.pooled, *taps.stages), (outputs.pooled, *outputs.stages), strict=True):
        if feature is not None and feature.shape[:1] != (SHOWN,):
            raise UserError(
                f"taps: '{name}' has features of shape {tuple(feature.shape)} for {SHOWN} examples, not a "
                "row an example: name another module."
            )
    return FeatureShapes(
        logits=tuple(outputs.logits.shape[1:]),
        pooled=None if outputs.pooled is None else tuple(outputs.pooled.shape[1:]),
        stages=tuple(tuple(stage.shape[1:]) for stage in outputs.stages),
    )
