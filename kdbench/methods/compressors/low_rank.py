"""``low_rank``: every linear and convolutional layer as two thinner ones, by singular values.

W ≈ U_r Σ_r V_rᵀ, the best approximation of rank r in the Frobenius norm. A linear layer m → n becomes
m → r → n; a convolution k_h × k_w of m channels becomes k_h × 1 to r channels and 1 × k_w, so its weights
fall from m·n·k_h·k_w to r·(m·k_h + n·k_w). The energy of rank r is Σ_{i≤r} σ_i² / Σ σ_i².

``of: energy`` keeps of every layer the smallest rank whose energy is at least ``keep``. ``of: weights`` keeps
the largest such energy, the same of every layer, with which all these layers together have at most the share
``keep`` of their weights. A layer whose factors would be no smaller stays as it is, as do grouped
convolutions, whose groups are small matrices already, and the projections within attention modules.

Two-factor form of convolutions: Jaderberg et al., "Speeding up Convolutional Neural Networks with Low Rank
Expansions", BMVC 2014, arXiv 1405.3866. Linear layers: Denton et al., NeurIPS 2014, arXiv 1404.0736.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from kdbench.deferred import Tensor, nn, torch
from kdbench.errors import UserError
from kdbench.inputs import Inputs
from kdbench.methods import base
from kdbench.methods.base import Refusal
from kdbench.methods.compressor import Compressor, Decision, compressor
from kdbench.methods.quantities import ProperShare
from kdbench.models.index import Sketch

LAYERS = frozenset({"Linear", "Conv2d"})
RECURRENT = "its recurrent layers hold matrices that are not factorised"
NOTHING = "it has no linear or two-dimensional convolutional layer to factorise"


@compressor(
    "low_rank",
    title="thin factors of layers",
    source="Jaderberg et al., BMVC 2014, arXiv 1405.3866",
    year=2014,
)
class LowRank(Compressor):
    """Factorisation of linear and convolutional layers, with ranks by energy."""

    class Parameters(base.Parameters):
        """The share that is kept, and of what."""

        keep: ProperShare = 0.5
        of: Literal["weights", "energy"] = "weights"

    @classmethod
    def check(cls, hyper: Any, model: Sketch) -> None:
        """Refuse a network of recurrent layers, or of none that could be factorised."""
        if model.kinds is None:
            return
        if "RNNBase" in model.kinds:
            raise Refusal(RECURRENT)
        if not model.kinds & LAYERS:
            raise Refusal(NOTHING)

    def decide(self, model: nn.Module, batches: Iterable[Inputs]) -> Decision:
        """Return the rank of every layer that is factorised.

        Raises UserError where a layer cannot be, by name, and where no layer would become smaller.
        """
        spectra = {name: _spectrum(name, layer) for name, layer in _layers(model).items()}
        if self.hyper.of == "energy":
            ranks = _ranks(spectra, self.hyper.keep)
        else:
            ranks = _ranks_within(spectra, self.hyper.keep)
        if not ranks:
            raise UserError(
                f"with {self.hyper.keep:g} of the {self.hyper.of} kept no layer becomes smaller: keep less."
            )
        return {"ranks": ranks}

    def apply(self, model: nn.Module, decision: Decision) -> nn.Module:
        """Put two layers in the place of each that has a rank."""
        # The classes need torch at their definition, which the plan does without.
        from kdbench.models.factorised import factorised

        for name, rank in decision["ranks"].items():
            model.set_submodule(name, factorised(model.get_submodule(name), rank))
        return model


@dataclass(frozen=True)
class _Spectrum:
    """The share of the energy that each rank keeps, and the weights of one rank and of the layer."""

    energies: Tensor
    per_rank: int
    whole: int

    def rank(self, energy: float) -> int | None:
        """Return the smallest rank of an energy, None where its factors are not smaller than the layer."""
        rank = int((self.energies < energy * (1 - 1e-12)).sum()) + 1
        return rank if rank * self.per_rank < self.whole else None

    def size(self, energy: float) -> int:
        rank = self.rank(energy)
        return self.whole if rank is None else rank * self.per_rank


def _layers(model: nn.Module) -> dict[str, nn.Module]:
    """Return the layers that can be factorised, by name; raises UserError for recurrent or shared ones."""
    from torch import nn

    owners: dict[int, str] = {}
    layers: dict[str, nn.Module] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.RNNBase):
            raise UserError(f"'{name}' is recurrent: {RECURRENT}.")
        for parameter in module.parameters(recurse=False):
            if owners.setdefault(id(parameter), name) != name:
                raise UserError(
                    f"'{name}' and '{owners[id(parameter)]}' share weights, which factors would untie."
                )
        # No subclass: what it does with its weights is its own.
        if type(module) is nn.Linear or (type(module) is nn.Conv2d and module.groups == 1):
            if not name:
                raise UserError("the network is one layer: put it into a module.")
            layers[name] = module
    if not layers:
        raise UserError(f"{NOTHING}.")
    return layers


def _spectrum(name: str, layer: Any) -> _Spectrum:
    from kdbench.models.factorised import decomposed

    if not layer.weight.isfinite().all():
        raise UserError(f"'{name}.weight' is not finite: it has no singular values.")
    left, values, right = decomposed(layer)
    energies = values.square().cumsum(0)
    # A layer of zeros is of rank 1 at any energy.
    energies = energies / energies[-1] if energies[-1] > 0 else torch.ones_like(energies)
    return _Spectrum(energies.cpu(), left.shape[0] + right.shape[1], layer.weight.numel())


def _ranks(spectra: Mapping[str, _Spectrum], energy: float) -> dict[str, int]:
    ranks = {name: spectrum.rank(energy) for name, spectrum in spectra.items()}
    return {name: rank for name, rank in ranks.items() if rank is not None}


def _ranks_within(spectra: Mapping[str, _Spectrum], share: float) -> dict[str, int]:
    """Return the ranks of the largest common energy with which the layers keep at most a share of weights."""
    allowed = share * sum(spectrum.whole for spectrum in spectra.values())
    # A size changes only where an energy passes that of a rank.
    steps = torch.cat([spectrum.energies for spectrum in spectra.values()]).unique()
    low, high = 0, len(steps)
    while low < high:
        middle = (low + high) // 2
        energy = float(steps[middle])
        if sum(spectrum.size(energy) for spectrum in spectra.values()) <= allowed:
            low = middle + 1
        else:
            high = middle
    if low == 0:
        least = sum(min(spectrum.per_rank, spectrum.whole) for spectrum in spectra.values())
        whole = sum(spectrum.whole for spectrum in spectra.values())
        raise UserError(
            f"with rank 1 these layers have {least / whole:.1%} of their weights, more than keep: {share:g}."
        )
    return _ranks(spectra, float(steps[low - 1]))
