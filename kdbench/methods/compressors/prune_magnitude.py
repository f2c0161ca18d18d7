"""``prune_magnitude``: the weights of smallest magnitude become zero, at once.

Of n prunable weights the k = ⌊s·n + ½⌋ with the smallest |w| are set to zero, s = ``sparsity``; of equal
magnitudes the later ones go first, so k is exact. ``scope: global`` compares all layers' weights with one
another, ``layer`` takes the share s from each layer. Prunable are the weight matrices and kernels of linear,
convolutional and recurrent layers; biases, normalisation and embeddings are kept.

The zeros are held while a later step trains. Dense kernels run as long as before and the file has its size:
unstructured sparsity pays only once the weights are packed.

Han et al., "Learning both Weights and Connections for Efficient Neural Networks", NeurIPS 2015,
arXiv 1506.02626. Global one-shot form: Blalock et al., "What is the State of Neural Network Pruning?",
MLSys 2020, arXiv 2003.03033.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import numpy as np

from kdbench.deferred import Tensor, nn, torch
from kdbench.errors import UserError
from kdbench.inputs import Inputs
from kdbench.methods import base
from kdbench.methods.base import Refusal
from kdbench.methods.compressor import Compressor, Decision, compressor
from kdbench.methods.quantities import ProperShare
from kdbench.models.index import Sketch

PRUNABLE = frozenset({"Linear", "_ConvNd", "RNNBase", "MultiheadAttention", "Bilinear"})
NOTHING = "it has no linear, convolutional or recurrent layer whose weights could be pruned"


@compressor(
    "prune_magnitude",
    title="smallest weights to zero",
    source="Han et al., NeurIPS 2015, arXiv 1506.02626",
    year=2015,
)
class PruneMagnitude(Compressor):
    """Unstructured one-shot magnitude pruning, with masks that later steps keep."""

    class Parameters(base.Parameters):
        """The share of zeros, and what is compared with what."""

        sparsity: ProperShare = 0.5
        scope: Literal["global", "layer"] = "global"

    def __init__(self, hyper: Any) -> None:
        """Start without masks."""
        super().__init__(hyper)
        self._kept: dict[str, Tensor] = {}

    @classmethod
    def check(cls, hyper: Any, model: Sketch) -> None:
        """Refuse a network that has nothing to prune."""
        if model.kinds is not None and not model.kinds & PRUNABLE:
            raise Refusal(NOTHING)

    def decide(self, model: nn.Module, batches: Iterable[Inputs]) -> Decision:
        """Return which weights of every prunable layer are kept: shape, and packed bits in base64."""
        weights = dict(prunable(model))
        if not weights:
            raise UserError(f"{NOTHING}.")
        for name, weight in weights.items():
            if not weight.isfinite().all():
                raise UserError(f"'{name}' is not finite: there is no order of magnitudes.")
        groups = [list(weights)] if self.hyper.scope == "global" else [[name] for name in weights]
        kept: dict[str, Tensor] = {}
        for group in groups:
            kept |= _largest({name: weights[name].detach() for name in group}, self.hyper.sparsity)
        return {"kept": {name: _packed(mask) for name, mask in kept.items()}}

    def apply(self, model: nn.Module, decision: Decision) -> nn.Module:
        """Set to zero what the decision does not keep, and remember it."""
        own = dict(model.named_parameters())
        self._kept = {name: _unpacked(entry).to(own[name].device) for name, entry in decision["kept"].items()}
        self.hold(model)
        return model

    @classmethod
    def structure(cls, hyper: Any, decision: Decision) -> Any:
        """Return the share of zeros: dense kernels take their time wherever these are."""
        return {"sparsity": hyper.sparsity, "scope": hyper.scope}

    def hold(self, model: nn.Module) -> None:
        """Set to zero again what a training step has moved."""
        own = dict(model.named_parameters())
        with torch.no_grad():
            for name, kept in self._kept.items():
                # Not a product: it would leave -0.0, and NaN where a weight is not finite.
                own[name].masked_fill_(~kept, 0.0)


def prunable(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield name and weights of every matrix and kernel of a linear, convolutional or recurrent layer."""
    of_layers = {
        id(weight)
        for module in model.modules()
        if PRUNABLE & {kind.__name__ for kind in type(module).__mro__}
        for weight in module.parameters(recurse=False)
        if weight.dim() > 1
    }
    yield from ((name, weight) for name, weight in model.named_parameters() if id(weight) in of_layers)


def _largest(weights: dict[str, Tensor], sparsity: float) -> dict[str, Tensor]:
    """Return, by name, which weights are kept when the share ``sparsity`` of all of them is not."""
    magnitudes = torch.cat([weight.abs().flatten().cpu() for weight in weights.values()])
    zeros = int(sparsity * len(magnitudes) + 0.5)
    kept = torch.zeros(len(magnitudes), dtype=torch.bool)
    kept[magnitudes.argsort(descending=True, stable=True)[: len(magnitudes) - zeros]] = True
    parts = kept.split([weight.numel() for weight in weights.values()])
    return {name: part.view_as(weight) for (name, weight), part in zip(weights.items(), parts, strict=True)}


def _packed(mask: Tensor) -> dict[str, Any]:
    bits = zlib.compress(np.packbits(mask.flatten().numpy()).tobytes(), level=9)
    return {"shape": list(mask.shape), "bits": base64.b64encode(bits).decode()}


def _unpacked(entry: dict[str, Any]) -> Tensor:
    bits = np.frombuffer(zlib.decompress(base64.b64decode(entry["bits"])), dtype=np.uint8)
    count = int(np.prod(entry["shape"]))
    return torch.from_numpy(np.unpackbits(bits, count=count).astype(bool)).view(entry["shape"])
