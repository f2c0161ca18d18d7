"""Running a trained model over a split, in evaluation mode and float32."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from kdbench.data import Batches
from kdbench.models.features import FeatureReader
from kdbench.models.shapes import Taps
from kdbench.shared_state import kept_settings
from kdbench.targets import Target
from kdbench.training.seeds import reseed

BATCH = 512


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Switch a model to evaluation without gradients, and back to the mode it was in.

    Should it draw random numbers nevertheless, they are the same in every evaluation.
    """
    training = model.training
    model.eval()
    reseed("evaluation")
    try:
        with kept_settings(), torch.no_grad():
            yield
    finally:
        model.train(training)


# Of a split with more examples than this, the pooled features of evenly spaced ones are kept.
MAX_POOLED = 10_000


def predict(
    model: nn.Module, batches: Batches, on_batch: Callable[[int], None] = lambda done: None
) -> Tensor:
    """Return the logits (N, K) of a split in its own order, float32, on the CPU."""
    parts = []
    with evaluating(model):
        for done, (x, _, _) in enumerate(batches.ordered(BATCH), start=1):
            parts.append(model(x).float())
            on_batch(done)
    return torch.cat(parts).cpu()


def predict_with_features(model: nn.Module, taps: Taps, batches: Batches) -> tuple[Tensor, Tensor | None]:
    """Return the logits (N, K) of a split as `predict` does, and pooled features (R, D), float32, on the CPU.

    R = ⌈N/s⌉ with s = ⌈N/10,000⌉: features of every s-th example, of all where N ≤ 10,000. Which examples
    they are depends on N only, so that two models' features are of the same ones, and a split that is sorted
    by class is covered evenly. They are None for a model without a pooled tap, and for one whose tap has not
    a row an example.
    """
    if taps.pooled is None:
        return predict(model, batches), None
    step = -(-len(batches) // MAX_POOLED)
    logits, pooled = [], []
    reader = FeatureReader(model, taps, frozenset({"logits", "pooled"}))
    seen = 0
    whole = True
    try:
        with evaluating(model):
            for x, y, _ in batches.ordered(BATCH):
                outputs = reader(x)
                assert outputs.pooled is not None
                logits.append(outputs.logits)
                whole = whole and len(outputs.pooled) == len(y)
                pooled.append(outputs.pooled[-seen % step :: step].flatten(1).cpu())
                seen += len(y)
    finally:
        reader.close()
    return torch.cat(logits).cpu(), torch.cat(pooled) if whole else None


def headline_and_loss(
    model: nn.Module, batches: Batches, target: Target, classes: int
) -> tuple[float, float]:
    """Return the headline of a target and its mean loss (nats) of a model on a split.

    They are those of the dataset's own head, whose logits are the first ``classes``.
    """
    tally = target.tally(batches.device)
    loss = torch.zeros((), device=batches.device, dtype=torch.float64)
    with evaluating(model):
        for x, y, _ in batches.ordered(BATCH):
            logits = model(x).float()[:, :classes]
            tally.add(logits, y)
            loss += target.loss(logits, y, reduction="sum")
    return tally.value(), loss.item() / len(batches)


def recompute_batch_norm(model: nn.Module, batches: Batches) -> None:
    """Set every batch-norm's running statistics to the average over one pass of the training images.

    Needed after weights were changed other than by training: the old statistics belong to other weights.
    """
    reseed("batch-norm")
    with kept_settings():
        update_bn((x for x, y, _ in batches.ordered(BATCH) if len(y) > 1), model)
