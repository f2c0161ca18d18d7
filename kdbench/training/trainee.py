"""One model in training: its weights, method, optimiser, history and best epoch."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import torch
from pydantic import AllowInfNan, BaseModel, NonNegativeFloat
from torch import Tensor, nn

from kdbench.data import Batches
from kdbench.inputs import Inputs, copied
from kdbench.methods import Batch, Distiller
from kdbench.methods.compressor import Compressor
from kdbench.models import FeatureReader, Outputs, Taps
from kdbench.shared_state import kept_settings
from kdbench.store.sealed import CLOSED
from kdbench.suite.schema import Recipe
from kdbench.targets import find_target
from kdbench.training.evaluation import headline_and_loss, recompute_batch_norm
from kdbench.training.precision import Precision, autocast
from kdbench.training.schedule import factor, make_optimizer
from kdbench.training.seeds import reseed
from kdbench.training.shuffled import shuffled

State = dict[str, Any]


class StateShape(BaseModel):
    """What training needs to go on after an epoch, as tensors and plain values.

    The settings of the optimiser are the recipe's: ``optimizer`` is what it keeps of each parameter alone.
    """

    model_config = CLOSED

    model: dict[str, Any]
    adapters: dict[str, Any]
    optimizer: dict[int, dict[str, Any]]
    history: list[dict[str, Annotated[float, AllowInfNan()] | int | None]]
    best: tuple[int, float, float, dict[str, Any]] | None
    failure: str | None
    traceback: str | None
    train_seconds: NonNegativeFloat
    tutor_seconds: NonNegativeFloat


# How the reason begins where a loss or logits stopped being numbers.
DIVERGED = "diverged:"


@dataclass
class Best:
    """The epoch that was best on validation: highest headline, then lowest loss, then earliest."""

    epoch: int
    headline: float
    loss: float
    weights: dict[str, Tensor]


@dataclass
class Step:
    """Where a step stands in the training, from 0 to 1, and whether it is the last of something."""

    epoch: int
    index: int
    progress: float
    epoch_ended: bool
    ended: bool


@dataclass(eq=False)
class Tutor:
    """A trained teacher in a cohort: its weights never change. ``seconds`` is what its passes took."""

    model: nn.Module
    taps: Taps
    seconds: float = 0.0


@dataclass
class Trainee:
    """A model that trains in a cohort, with or without a tutor. ``failure`` says why it left, once it has,
    and ``traceback`` where in the code, if an exception was the reason.

    Where there is a ``shuffle_seed``, it is shown its tutor's logits only, shuffled by this seed. A method of
    a user's own (``own_copies``) is shown copies of what other students read too, and looks at
    ``own_teacher`` instead of the tutor's network, so that nobody else sees what it writes there. The
    ``compressors`` that made its structure hold it after every step.
    """

    id: str
    model: nn.Module
    taps: Taps
    distiller: Distiller
    recipe: Recipe
    device: torch.device
    precision: Precision
    tutor: Tutor | None = None
    shuffle_seed: int | None = None
    own_copies: bool = False
    own_teacher: nn.Module | None = None
    compressors: tuple[Compressor, ...] = ()
    history: list[dict[str, float | int | None]] = field(default_factory=list)
    best: Best | None = None
    failure: str | None = None
    traceback: str | None = None
    train_seconds: float = 0.0

    def __post_init__(self) -> None:
        """Set the hooks and the optimiser; the method's own parameters train with the student's."""
        with kept_settings():
            self.reader = FeatureReader(self.model, self.taps, self.distiller.needs)
            self.adapters = self.distiller.adapters().to(self.device)
            parameters = (*self.model.parameters(), *self.adapters.parameters())
            self.trained = [parameter for parameter in parameters if parameter.requires_grad]
        self.target = find_target(self.distiller.pair.target)
        self.optimizer = make_optimizer(self.recipe, self.trained)
        self._sums: dict[str, Tensor] = {}
        self._tally = self.target.tally(self.device)
        self._seen = 0

    @property
    def code(self) -> str:
        """The code that trains it: its method and its network."""
        kinds = (type(part).__name__ for part in (self.distiller, self.model))
        return f"{' training '.join(kinds)} (student {self.id})"

    @property
    def teacher(self) -> nn.Module:
        """The network that the method may look at as its teacher; without a tutor the student itself."""
        return self.own_teacher or (self.tutor.model if self.tutor else self.model)

    def begin_epoch(self) -> None:
        """Clear the sums of the epoch and switch to training mode."""
        self.model.train()
        self.adapters.train()
        self._sums = {}
        self._tally = self.target.tally(self.device)
        self._seen = 0

    def step(self, x: Inputs, y: Tensor, index: Tensor, teacher: Outputs | None, step: Step) -> None:
        """Take one optimiser step on a batch; nothing is read back from the device."""
        started = time.perf_counter()
        # Dropout and the like depend on this student and this step only, not on who else is in the cohort.
        reseed(self.id, step.epoch, step.index)
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.lr * factor(self.recipe, step.progress)

        def run(network: nn.Module) -> Tensor:
            with autocast(self.precision, self.device):
                return network(copied(x) if self.own_copies else x).float()

        if teacher is not None and self.shuffle_seed is not None:
            parts = teacher.logits.split(self.distiller.widths, dim=1)
            teacher = Outputs(torch.cat([shuffled(part, index, self.shuffle_seed) for part in parts], dim=1))
        with autocast(self.precision, self.device):
            outputs = self.reader(x)
        target = y
        if self.own_copies:
            target, index, teacher = y.clone(), index.clone(), teacher and teacher.copied()
        terms = self.distiller.losses(outputs, teacher, Batch(target, index, step.progress, run))
        loss = torch.stack(list(terms.values())).sum()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if self.recipe.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.trained, self.recipe.clip_norm)
        self.optimizer.step()
        self.distiller.after_step(self.model, self.teacher, step.epoch_ended, step.ended)
        for compressor in self.compressors:
            compressor.hold(self.model)
        self._note(terms, outputs.logits, y)
        self.train_seconds += time.perf_counter() - started

    def _note(self, terms: dict[str, Tensor], logits: Tensor, y: Tensor) -> None:
        for name, term in terms.items():
            weighted = term.detach() * len(y)
            self._sums[name] = self._sums[name] + weighted if name in self._sums else weighted
        self._tally.add(logits.detach()[:, : self.distiller.widths[0]], y)
        self._seen += len(y)

    def end_epoch(self, epoch: int, train: Batches, validation: Batches) -> None:
        """Read the sums of the epoch back, look for divergence, evaluate on validation, keep the best."""
        terms = {name: value.item() / self._seen for name, value in self._sums.items()}
        broken = [name for name, value in terms.items() if not math.isfinite(value)]
        if broken:
            kind = "NaN" if math.isnan(terms[broken[0]]) else "infinite"
            self.failure = f"{DIVERGED} the loss term '{broken[0]}' became {kind} in epoch {epoch}"
            return
        headline, loss_name = self.target.headline, self.target.loss_name
        row: dict[str, float | int | None] = {
            "epoch": epoch,
            "lr": self.optimizer.param_groups[0]["lr"],
            "loss": sum(terms.values()),
            **{f"loss_{name}": value for name, value in terms.items()},
            f"train_{headline}": self._tally.value(),
            f"validation_{headline}": None,
            f"validation_{loss_name}": None,
            "seconds": self.train_seconds - sum(float(old["seconds"] or 0) for old in self.history),
        }
        if self.distiller.moves_weights:
            recompute_batch_norm(self.model, train)
        if len(validation):
            classes = self.distiller.widths[0]
            score, loss = headline_and_loss(self.model, validation, self.target, classes)
            row[f"validation_{headline}"] = score if math.isfinite(score) else None
            row[f"validation_{loss_name}"] = loss if math.isfinite(loss) else None
            if math.isfinite(score) and (
                self.best is None or (score, -loss) > (self.best.headline, -self.best.loss)
            ):
                self.best = Best(epoch, score, loss, copy.deepcopy(self.model.state_dict()))
        self.history.append(row)

    def state(self) -> State:
        """Return what training needs to go on."""
        best = self.best
        return {
            "model": self.model.state_dict(),
            "adapters": self.adapters.state_dict(),
            "optimizer": self.optimizer.state_dict()["state"],
            "history": self.history,
            "best": None if best is None else (best.epoch, best.headline, best.loss, best.weights),
            "failure": self.failure,
            "traceback": self.traceback,
            "train_seconds": self.train_seconds,
            "tutor_seconds": self.tutor.seconds if self.tutor else 0.0,
        }

    def restore(self, state: State, epoch: int) -> None:
        """Go on from the state after an epoch.

        Raises ValueError, or what modules raise, where it is not that of this model after that epoch.
        """
        best = None if state["best"] is None else Best(*state["best"])
        if state["failure"] is None and len(state["history"]) != epoch:
            raise ValueError(f"its history has {len(state['history']):,} epochs, not {epoch:,}")
        if best and (best.epoch > epoch or _shapes(best.weights) != _shapes(self.model.state_dict())):
            raise ValueError("its best epoch is that of another model")
        for number, kept in state["optimizer"].items():
            shapes = {tuple(value.shape) for value in kept.values() if isinstance(value, Tensor)}
            if not 0 <= number < len(self.trained) or shapes - {(), tuple(self.trained[number].shape)}:
                raise ValueError("its optimiser is that of another model")
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": state["optimizer"], "param_groups": groups})
        self.model.load_state_dict(state["model"])
        self.adapters.load_state_dict(state["adapters"])
        self.history = state["history"]
        self.best = best
        self.failure = state["failure"]
        self.traceback = state["traceback"]
        self.train_seconds = state["train_seconds"]
        if self.tutor:
            self.tutor.seconds = state["tutor_seconds"]


def _shapes(weights: Mapping[str, Any]) -> dict[str, tuple[int, ...] | None]:
    return {
        name: tuple(value.shape) if isinstance(value, Tensor) else None for name, value in weights.items()
    }
