"""``prune_channels``: whole channels go, with all that reads them, and the network is smaller and faster.

A channel is one output of a convolution or a linear layer. What depends on it (the normalisation after it,
the inputs of the next layers, its partners across residual connections) forms a group, which is followed
through the network's graph and goes together. Of a layer of n channels ⌊(1 - r)·n⌋ are kept, r = ``ratio``:
those of the greatest importance, the 2-norm of a channel's weights, averaged over its group. With
``scope: global`` the importances of all layers are compared, each over its own mean, and the share r of all
channels goes.

The channels that are the logits stay. Whatever fails to become smaller is an error, never a silent success.

Li et al., "Pruning Filters for Efficient ConvNets", ICLR 2017, arXiv 1608.08710. The graph and the groups are
those of the library Torch-Pruning (extra ``prune``): Fang et al., "DepGraph", CVPR 2023, arXiv 2301.12900.
"""

from __future__ import annotations

import copy
import importlib.util
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

from kdbench.deferred import Tensor, nn, torch
from kdbench.errors import UserError, in_words
from kdbench.inputs import Inputs
from kdbench.methods import base
from kdbench.methods.base import Refusal
from kdbench.methods.compressor import Compressor, Decision, compressor
from kdbench.methods.quantities import ProperShare
from kdbench.models.index import Sketch

MISSING = "torch-pruning is not installed: pip install 'kdbench[prune]'"
LAYERS = frozenset({"Linear", "_ConvNd"})
NOTHING = "it has no linear or convolutional layer whose channels could go"
# What the library would leave as it is, or cut where it must not be cut.
UNFOLLOWED = {"RNNBase": "recurrent", "MultiheadAttention": "attention"}
# By these a network multiplies activations with one another: cut alike, they are not the same channels.
PRODUCTS = frozenset({"scaled_dot_product_attention", "matmul", "bmm", "baddbmm", "einsum"})


@compressor(
    "prune_channels",
    title="least channels removed",
    source="Li et al., ICLR 2017, arXiv 1608.08710; DepGraph, CVPR 2023, arXiv 2301.12900",
    year=2017,
)
class PruneChannels(Compressor):
    """Structured pruning: channels of the smallest norm are removed, with what depends on them."""

    class Parameters(base.Parameters):
        """The share of channels that goes, and what is compared with what."""

        ratio: ProperShare = 0.5
        scope: Literal["layer", "global"] = "layer"

    data = "calibration"

    @classmethod
    def check(cls, hyper: Any, model: Sketch) -> None:
        """Refuse a network that cannot be followed; raises UserError where the library is not there."""
        if importlib.util.find_spec("torch_pruning") is None:
            raise UserError(f"prune_channels: {MISSING}.")
        if model.kinds is not None:
            for kind, word in UNFOLLOWED.items():
                if kind in model.kinds:
                    raise Refusal(f"channels of its {word} layers cannot be removed")
            if not model.kinds & LAYERS:
                raise Refusal(NOTHING)
        for stage in model.shapes.stages:
            if int(stage[0] * (1 - hyper.ratio)) < 1:
                raise Refusal(f"ratio {hyper.ratio:g} would empty a stage of {stage[0]} channels")

    def decide(self, model: nn.Module, batches: Iterable[Inputs]) -> Decision:
        """Return which channels of which layers go, in order, and the shape of the example that led there.

        Raises UserError, with the layer, for what cannot be pruned and where nothing becomes smaller.
        """
        _refuse(model)
        x = next(iter(batches), None)
        if not isinstance(x, torch.Tensor):
            raise UserError(
                "prune_channels follows one tensor through a network, and this one takes several."
            )
        x = x[:2]
        # It is pruned to see what goes.
        model = copy.deepcopy(model).eval()
        with _products() as products:
            before = model(x)
        if products:
            raise UserError(
                f"it multiplies activations with one another ({', '.join(sorted(products))}), as attention "
                "does: channels of such a network cannot be removed; use prune_magnitude or low_rank."
            )
        kept = _ends(model, x)
        _refuse_emptied(model, kept, self.hyper.ratio)
        with _library() as library:
            pruner = library.pruner.BasePruner(
                model,
                x,
                importance=library.importance.GroupMagnitudeImportance(p=2),
                pruning_ratio=self.hyper.ratio,
                # No layer is emptied in favour of others.
                max_pruning_ratio=max(self.hyper.ratio, 0.9),
                global_pruning=self.hyper.scope == "global",
                ignored_layers=kept,
            )
            count = _count(model)
            pruner.step()
            history = [
                [name, bool(out), sorted(map(int, index))] for name, out, index in pruner.pruning_history()
            ]
        if _count(model) >= count:
            raise UserError(f"with ratio {self.hyper.ratio:g} no channel went: raise it.")
        _refuse_broken(model, x, before)
        return {"channels": history, "example": list(x.shape[1:])}

    def apply(self, model: nn.Module, decision: Decision) -> nn.Module:
        """Remove the channels that were decided upon, and what depends on them."""
        tensor = next(model.parameters())
        x = torch.zeros(2, *decision["example"], device=tensor.device)
        training = model.training
        with _library() as library:
            graph = library.DependencyGraph().build_dependency(model.eval(), x)
            graph.load_pruning_history(decision["channels"])
        return model.train(training)

    @classmethod
    def structure(cls, hyper: Any, decision: Decision) -> Any:
        """Return how many channels go from which layers: which ones they are costs the same."""
        return [[name, out, len(index)] for name, out, index in decision["channels"]]


@contextmanager
def _library() -> Iterator[Any]:
    """Give the library without its remarks on parameters that it finds by itself; its faults are one line."""
    try:
        import torch_pruning
    except ImportError as error:
        raise UserError(f"prune_channels: {MISSING}.") from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield torch_pruning
        except Exception as error:  # what it cannot follow ends in whatever its graph meets first
            text = in_words(error)[:200] or "no message"
            raise UserError(
                f"Torch-Pruning cannot follow the channels of this network ({type(error).__name__}: {text}): "
                "use prune_magnitude or low_rank."
            ) from error


def _refuse(model: nn.Module) -> None:
    """Raise UserError for layers that would stay as they are, or whose sharing would end, in silence."""
    owners: dict[int, str] = {}
    for name, module in model.named_modules():
        kinds = {kind.__name__ for kind in type(module).__mro__}
        for kind, word in UNFOLLOWED.items():
            if kind in kinds:
                raise UserError(
                    f"'{name}': channels of {word} layers cannot be removed; use prune_magnitude."
                )
        for parameter in module.parameters(recurse=False):
            if owners.setdefault(id(parameter), name) != name:
                raise UserError(
                    f"'{name}' and '{owners[id(parameter)]}' share weights, which pruning would untie."
                )
    if not any(True for _ in _layers(model)):
        raise UserError(f"{NOTHING}.")


def _layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, module in model.named_modules():
        if LAYERS & {kind.__name__ for kind in type(module).__mro__}:
            yield name, module


@contextmanager
def _products() -> Iterator[set[str]]:
    """Give the names of products of activations that a network computes meanwhile."""
    from torch.overrides import TorchFunctionMode

    seen: set[str] = set()

    class Watching(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            name = getattr(func, "__name__", "").strip("_")
            tensors = [value for value in args if isinstance(value, torch.Tensor)]
            weights = any(isinstance(value, torch.nn.Parameter) for value in tensors)
            if name in PRODUCTS and not weights:
                seen.add(name)
            return func(*args, **(kwargs or {}))

    with Watching():
        yield seen


def _refuse_emptied(model: nn.Module, kept: list[nn.Module], ratio: float) -> None:
    for name, layer in _layers(model):
        channels = int(layer.get_parameter("weight").shape[0])
        if all(layer is not other for other in kept) and int(channels * (1 - ratio)) < 1:
            raise UserError(f"ratio {ratio:g} would empty '{name}' of {channels} channels: lower it.")


def _ends(model: nn.Module, x: Tensor) -> list[nn.Module]:
    """Return the layers whose channels are the logits: those that return them, else all of their width."""
    returned: dict[int, nn.Module] = {}
    hooks = [
        layer.register_forward_hook(lambda layer, _, out: returned.__setitem__(out.data_ptr(), layer))
        for _, layer in _layers(model)
    ]
    try:
        outputs = _tensors(model(x))
    finally:
        for hook in hooks:
            hook.remove()
    ends = [returned[tensor.data_ptr()] for tensor in outputs if tensor.data_ptr() in returned]
    if len(ends) == len(outputs):
        return ends
    widths = {int(tensor.shape[-1]) for tensor in outputs}
    return [layer for _, layer in _layers(model) if layer.get_parameter("weight").shape[0] in widths]


def _tensors(output: Any) -> list[Tensor]:
    if isinstance(output, torch.Tensor):
        return [output]
    values = output.values() if hasattr(output, "values") else output
    return [tensor for value in values for tensor in _tensors(value)]


def _count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _refuse_broken(model: nn.Module, x: Tensor, before: Any) -> None:
    """Raise UserError where a pruned network has other outputs, or cannot train."""
    shapes = [tensor.shape for tensor in _tensors(before)]
    model = copy.deepcopy(model).train()
    with _library(), torch.enable_grad():
        outputs = _tensors(model(x))
        torch.stack([tensor.float().sum() for tensor in outputs]).sum().backward()
    if [tensor.shape for tensor in outputs] != shapes:
        raise UserError(
            f"pruning changed the outputs from {shapes} to {[tensor.shape for tensor in outputs]}: "
            "return the logits of a layer as they are."
        )
