"""What makes the accuracy of loaded weights doubtful, and what a user can do about it.

Weights from elsewhere were trained with a normalisation and an order of classes that their file does not
tell. Both are guessed, and a wrong guess looks like a bad model.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from scipy.stats import binomtest
from torch import Tensor

from kdbench.data import Dataset
from kdbench.heads import PRIMARY
from kdbench.suite.schema import DatasetEntry

# A model that is right less than this many times as often as chance knows nothing.
NEAR_CHANCE = 1.5
# An order of classes is told where the examples of the classes that it moves are so much more often right.
FAR = 0.2
TIMES = 5
SIGNIFICANCE = 1e-3
# With fewer examples a class than this, the training split tells more than the validation split.
EXAMPLES_A_CLASS = 20
# Longer lists of names do not fit into a line.
LISTED = 30


@dataclass(frozen=True)
class ClassOrder:
    """An order of classes that explains a model's mistakes: ``classes`` by the number of the output.

    ``before`` and ``after`` are the shares of examples that are right in the order of the dataset and in this
    one, of examples that had no part in finding it.
    """

    classes: tuple[str, ...]
    before: float
    after: float

    @property
    def text(self) -> str:
        """What was found and what to do, in one line."""
        listed = json.dumps(self.classes[:LISTED], ensure_ascii=False)
        if len(self.classes) > LISTED:
            listed = f"{listed[:-1]}, ...] (all of them: kdbench evaluate --json, class_order)"
        natural = tuple(sorted(self.classes, key=_natural)) == self.classes
        return (
            f"its outputs fit the classes in another order: with it {self.after:.1%} instead of "
            f"{self.before:.1%} of the images that were looked at are right. If that is how it was trained"
            f"{' (it is the natural order of the names)' if natural else ''}, add to the suite's dataset: "
            f"classes: {listed}"
        )


def class_order(logits: Tensor, labels: Tensor, classes: Sequence[str]) -> ClassOrder | None:
    """Return the order of classes in which a model's outputs are far more often right, None if there is none.

    The order is the assignment of outputs to classes that makes most predictions right (Kuhn 1955, on the
    confusion matrix) on one half of the examples, drawn at random. It is judged on the other half, by the
    examples of the classes that it moves: of those at least ``FAR`` more, and ``TIMES`` as many, must be
    right, with p < ``SIGNIFICANCE`` (the exact test of McNemar 1947).

    Args:
        logits: (N, K), of examples that nothing is reported on.
        labels: (N,).
        classes: the K names, in the order of the labels.
    """
    if not bool(logits.isfinite().all()):
        return None
    shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    guess, truth = (values.cpu()[shuffled].numpy() for values in (logits.argmax(1), labels))
    half, count = len(truth) // 2, len(classes)
    confusion = np.bincount(truth[:half] * count + guess[:half], minlength=count * count)
    # An output that no example speaks for stays where it is.
    scores = confusion.reshape(count, count) + np.eye(count) / (2 * count)
    label, output = linear_sum_assignment(scores, maximize=True)
    place = np.empty(count, dtype=np.int64)
    place[output] = label
    guess, truth = guess[half:], truth[half:]
    before, after = guess == truth, place[guess] == truth
    moved = (place != np.arange(count))[truth]
    gained, lost = int((after & ~before).sum()), int((before & ~after).sum())
    if not moved.any() or binomtest(gained, max(1, gained + lost)).pvalue >= SIGNIFICANCE:
        return None
    was, would_be = before[moved].mean(), after[moved].mean()
    if would_be - was < FAR or would_be < TIMES * was:
        return None
    return ClassOrder(tuple(classes[k] for k in place.tolist()), float(before.mean()), float(after.mean()))


def telling_split(data: Dataset) -> str:
    """Return the split by which the order of classes is looked for: validation, or else train."""
    enough = len(data.validation) >= EXAMPLES_A_CLASS * data.outputs[PRIMARY]
    return "validation" if enough else "train"


def near_chance(top1: float, classes: int) -> str | None:
    """Return that an accuracy is near chance, in one line, or None where it is not."""
    chance = 1 / classes
    if top1 >= NEAR_CHANCE * chance:
        return None
    figures = f"{top1:.1%}, chance is {chance:.1%}"
    return f"is near chance ({figures}): wrong checkpoint, class order or normalisation?"


def guessed_normalisation(entry: DatasetEntry, data: Dataset) -> str | None:
    """Return by what images are normalised, where there are any and a suite does not say it."""
    absent = [name for name in ("mean", "std") if entry.args.get(name) is None]
    if not absent or not data.mean:
        return None
    values = {"mean": data.mean, "std": data.std}
    shown = " and ".join(
        f"{name} [{', '.join(f'{value:.4g}' for value in values[name])}]" for name in values if name in absent
    )
    limited = f" (limit: {entry.args['limit']})" if entry.args.get("limit") else ""
    return (
        f"dataset.args gives no {' and no '.join(absent)}: images are normalised by {shown}, estimated from "
        f"the {len(data.train):,} training images{limited}; give those that the checkpoint was trained with."
    )


def _natural(name: str) -> list[tuple[int, int, str]]:
    parts = re.split(r"(\d+)", name.lower())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part]
