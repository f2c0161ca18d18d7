"""Whether what a network holds and gives is made of numbers: the first tensor that is not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import safetensors.torch
from torch import Tensor

from kdbench.errors import UserError
from kdbench.heads import name_in
from kdbench.models.finite import nonfinite
from kdbench.plan import Compression, Loading, Node
from kdbench.runner.predictions import FILED, ByHead, read_predictions
from kdbench.store import PREDICTIONS, RunDirectory

SPLITS = ("test", "validation", "train")


def broken_weight(weights: Mapping[str, Tensor]) -> str | None:
    """Name the first weight that is not finite, and how much of it is not; None where all are."""
    return next(
        (f"weight '{name}' is {text}" for name, value in weights.items() if (text := nonfinite(value))), None
    )


def broken_logits(predictions: ByHead, splits: Sequence[str] = SPLITS) -> str | None:
    """Name the first logits of the last epoch that are not finite, by head and split; None where all are."""
    for head, of_head in predictions.items():
        for split in splits:
            tensor = getattr(of_head, split)
            if tensor is not None and (text := nonfinite(tensor)):
                return f"{name_in(head, FILED[split])} are {text}"
    return None


def refuse_broken(node: Node, run: RunDirectory, heads: Iterable[str]) -> None:
    """Raise UserError where the weights or logits that a run holds of a teacher are not finite.

    What is not there, as in a published run, is not looked at. Raises SharedFault where a file is not what
    was recorded.
    """
    record = run.record(node.id)
    if record is None or record.status != "ok":
        return
    weights = record.weights()
    tensors: Mapping[str, Tensor] = {}
    if weights and run.holds(record, weights):
        tensors = safetensors.torch.load_file(run.recorded_file(record, weights))
    held = [head for head in heads if run.holds(record, name_in(head, PREDICTIONS))]
    refuse_not_finite(node, tensors, read_predictions(run, record, held), run.folder(node.id))


def refuse_not_finite(
    node: Node, weights: Mapping[str, Tensor], predictions: ByHead, folder: Path | None = None
) -> None:
    """Raise UserError that names a teacher's first tensor that is not finite: none could learn from it."""
    broken = broken_weight(weights) or broken_logits(predictions)
    if broken:
        raise not_finite(node, broken, folder)


def not_finite(node: Node, broken: str, folder: Path | None = None) -> UserError:
    """Return the error that names what is not finite of a network that others need."""
    mends: dict[type, str] = {Loading: "mend the checkpoint", Compression: "give its compressor other values"}
    mend = mends.get(type(node.step), "lower its lr, or set clip_norm")
    where = f" (in {folder})" if folder else ""
    what = "network" if node.role == "student" else "teacher"
    return UserError(f"{what} '{node.label}'{where}: {broken}; {mend}.")
