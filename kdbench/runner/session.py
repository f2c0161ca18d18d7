"""What all cohorts of a run share: the data for the device, and what results are stamped with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from kdbench import machine
from kdbench.data import Augment, Batches, Dataset
from kdbench.errors import UserError
from kdbench.heads import PRIMARY
from kdbench.methods import Distiller, Networks, Pair
from kdbench.methods.base import Role
from kdbench.methods.heads import Head, PerHead
from kdbench.models import Taps, build_model, load_checkpoint
from kdbench.models.foreign import give_own_input
from kdbench.models.registry import is_foreign
from kdbench.models.trial import FORMAT_NAMES, try_out
from kdbench.runner.predictions import ByHead, Labels, Predictions
from kdbench.runner.records import now
from kdbench.suite.schema import DatasetEntry, ModelEntry, Recipe
from kdbench.targets import find_target
from kdbench.training.evaluation import (
    headline_and_loss,
    predict,
    predict_with_features,
    recompute_batch_norm,
)
from kdbench.training.precision import resolve

Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True)
class Fitted:
    """A model of a run: its entry in the suite, its weights, and where it is tapped."""

    entry: ModelEntry
    model: nn.Module
    taps: Taps

    def head(self) -> nn.Linear | None:
        """Return the linear layer whose input is the pooled feature."""
        head = dict(self.model.named_modules()).get(self.taps.pooled or "")
        return head if isinstance(head, nn.Linear) else None


def resolve_device(device: Device) -> torch.device:
    """Return the device to use; raises UserError where CUDA is asked for and there is none."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: no CUDA device on this machine; use --device cpu or auto.")
    return torch.device(device)


class Session:
    """A dataset for a device, ready to be trained on and predicted."""

    def __init__(self, entry: DatasetEntry, data: Dataset, device: torch.device) -> None:
        """Move splits in memory to the device; the training split carries the entry's augmentation."""
        self.data = data
        self.target = find_target(data.target)
        self.device = device
        self.dataset_label = entry.shown
        self._weights = entry.heads
        self._outputs = sum(data.outputs.values())
        self._formats: dict[str, torch.memory_format] = {}
        augment = Augment(**entry.augment.model_dump())
        self.train = Batches(data.train, data.mean, data.std, device=device, augment=augment)
        self.validation = Batches(data.validation, data.mean, data.std, device=device)
        self.test = Batches(data.test, data.mean, data.std, device=device)
        self._stamp = {
            "kdbench": machine.versions()["kdbench"],
            "git": machine.git_commit(),
            "machine": machine.fingerprint(),
            "versions": machine.versions(),
            "data_checksum": data.checksum,
            "data": data.way,
            "device": device.type,
            "threads": torch.get_num_threads(),
        }

    @property
    def labels(self) -> Labels:
        """The labels by head and split; splits without examples are left out."""
        splits = {"test": self.data.test, "validation": self.data.validation, "train": self.data.train}
        return {
            head: {
                name: split.further[head] if head else split.labels
                for name, split in splits.items()
                if len(split)
            }
            for head in self.data.outputs
        }

    def distiller(self, make: Callable[[Pair], Distiller], pair: Pair) -> Distiller:
        """Return the distiller of a pair, or where there are further heads those of all heads as one."""
        if not self.data.heads:
            return make(pair)
        train = {PRIMARY: self.data.train.labels, **self.data.train.further}
        heads = {
            head: Head(classes, train[head].to(self.device), self._weights.get(head, 1.0))
            for head, classes in self.data.outputs.items()
        }
        return PerHead(make, pair, heads)

    def provenance(self, recipe: Recipe, started: str, entry: ModelEntry) -> dict[str, Any]:
        """Return what a result is stamped with: versions, machine, data, precision, memory format, times."""
        precision = resolve(recipe.precision, self.device)
        memory_format = self._formats.get(_key(entry))
        layout = {} if memory_format is None else {"memory_format": FORMAT_NAMES[memory_format]}
        return {**self._stamp, "precision": precision, **layout, "started": started, "finished": now()}

    def build(self, entry: ModelEntry) -> nn.Module:
        """Return a model on the device, with fresh weights or those of its checkpoint.

        It is in channels_last, or in contiguous memory where it fails in channels_last only. One that is not
        of the zoo is given copies of its inputs, for others would see what it writes there.
        """
        model = build_model(
            entry.reference, inputs=self.data.inputs, num_classes=self._outputs, args=entry.args
        )
        memory_format = self._memory_format(entry, model)
        if entry.checkpoint:
            load_checkpoint(model, entry.checkpoint)
        if is_foreign(entry.name):
            # What it is shown is channels_last already.
            usual = memory_format == torch.channels_last
            give_own_input(model, torch.preserve_format if usual else memory_format)
        return model.to(self.device).to(memory_format=memory_format)

    def _memory_format(self, entry: ModelEntry, model: nn.Module) -> torch.memory_format:
        key = _key(entry)
        if key not in self._formats:
            tried = is_foreign(entry.name)
            self._formats[key] = (
                try_out(model, self.data.inputs).memory_format if tried else torch.channels_last
            )
        return self._formats[key]

    def networks(self, student: Fitted, teacher: Fitted) -> Networks:
        """Return what a method may look at before the first step."""
        pair: dict[Role, Fitted] = {"student": student, "teacher": teacher}
        return Networks(
            student=student.model,
            teacher=teacher.model,
            taps={"student": student.taps, "teacher": teacher.taps},
            heads={role: head for role, fitted in pair.items() if (head := fitted.head()) is not None},
            labels=self.data.train.labels.to(self.device, copy=True),
            fresh=lambda role: self.build(pair[role].entry.model_copy(update={"checkpoint": None})),
        )

    def passes(self, best: bool) -> int:
        """Return over how many splits ``predict_all`` goes, with the best epoch's weights or without."""
        held_out = 1 + (len(self.validation) > 0)
        return 1 + held_out * (1 + best)

    def predict_all(
        self,
        model: nn.Module,
        taps: Taps,
        at_best: nn.Module | None,
        on_pass: Callable[[], None] = lambda: None,
    ) -> ByHead:
        """Return the logits of every split and the pooled features of test, of the model as it is, by head.

        Of the model at its best epoch, where there is one, the logits of test and validation are added.
        ``on_pass`` is called after every pass over a split.
        """

        def logits_on(model: nn.Module, split: Batches) -> Tensor:
            logits = predict(model, split)
            on_pass()
            return logits

        has_validation = len(self.validation) > 0
        test, pooled = predict_with_features(model, taps, self.test)
        on_pass()
        predictions = Predictions(
            test=test,
            pooled=pooled,
            train=logits_on(model, self.train),
            validation=logits_on(model, self.validation) if has_validation else None,
        )
        if at_best is not None:
            predictions.test_best = logits_on(at_best, self.test)
            predictions.validation_best = logits_on(at_best, self.validation) if has_validation else None
        return predictions.by_head(self.data.outputs)

    def held_out_loss(self, model: nn.Module) -> float:
        """Return the mean loss of a model whose weights were put together, on validation (or else train).

        Its batch-norm statistics are computed anew first, for they do not mix.
        """
        recompute_batch_norm(model, self.train)
        split = self.validation if len(self.validation) else self.train
        return headline_and_loss(model, split, self.target, self.data.num_classes)[1]


def _key(entry: ModelEntry) -> str:
    """Return what decides the architecture of a model."""
    return entry.model_dump_json(include={"name", "args"})
