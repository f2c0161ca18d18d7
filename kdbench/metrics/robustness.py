"""What corrupted images do to a model: scores under one corruption at one severity, and their means.

These are no metrics of one split, so `score` does not compute them; a run whose suite asks for robustness
has their columns besides. Shapes as in `kdbench.metrics.tensors`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from statistics import fmean

from torch import Tensor

from kdbench.column import Column
from kdbench.metrics.calibration import ece
from kdbench.metrics.fidelity import agreement
from kdbench.metrics.quality import nll, top1
from kdbench.metrics.tensors import log_probabilities

MEAN = "mean over corruptions and severities"
corrupted_share = partial(
    Column,
    family="robustness",
    range="[0, 1]",
    source="Hendrycks & Dietterich 2019, arXiv 1903.12261, not normalised by AlexNet",
    scale="percent",
)
calibration_under_shift = partial(
    Column, family="robustness", direction="lower", source="Ovadia et al. 2019, arXiv 1906.02530"
)

ACCURACY = corrupted_share(
    "corruption_accuracy_mean", f"Top-1 accuracy on corrupted images, {MEAN}", direction="higher"
)
DROP = corrupted_share(
    "corruption_accuracy_drop",
    "Top-1 accuracy lost to corruption: on the same images clean, less the corrupted mean",
    direction="lower",
    range="[-1, 1]",
)
ECE = calibration_under_shift(
    "corruption_ece_mean", f"Expected calibration error on corrupted images, {MEAN}", range="[0, 1]"
)
NLL = calibration_under_shift(
    "corruption_nll_mean",
    f"Negative log-likelihood on corrupted images, {MEAN}",
    range="[0, ∞)",
    unit="nats",
)
AGREEMENT = corrupted_share(
    "agreement_corrupted",
    f"Agreement with the teacher on the same corrupted images, {MEAN}",
    direction="higher",
    source="Stanton et al. 2021, arXiv 2106.05945, under shift",
)
COLUMNS = (ACCURACY, DROP, ECE, NLL, AGREEMENT)
QUANTITIES = {"accuracy": ACCURACY, "ece": ECE, "nll": NLL, "agreement": AGREEMENT}

Point = Mapping[str, float | None]


def shift_scores(logits: Tensor, labels: Tensor, teacher_predictions: Tensor | None) -> Point:
    """Return accuracy, ECE, NLL and agreement of a model on one set of images.

    Shapes: (N, K), (N,), (N,) or None. Everything is None where a logit is not finite, agreement also where
    nothing is known of the teacher.

    >>> from torch import tensor
    >>> shift_scores(tensor([[9.0, 0.0], [0.0, 9.0]]), tensor([0, 0]), tensor([0, 1]))["agreement"]
    1.0
    """
    if not bool(logits.isfinite().all()):
        return dict.fromkeys(QUANTITIES)
    log_probs, predictions = log_probabilities(logits), logits.argmax(dim=1)
    return {
        "accuracy": top1(predictions, labels),
        "ece": ece(log_probs, predictions, labels),
        "nll": nll(log_probs, labels),
        "agreement": None if teacher_predictions is None else agreement(predictions, teacher_predictions),
    }


def corruption_means(
    clean: Point, corrupted: Sequence[Point], *, no_agreement: str | None = None
) -> tuple[dict[str, float | None], dict[str, str]]:
    """Return the value of each column of ``COLUMNS`` and the reason of each None.

    ``clean`` are the scores on the uncorrupted images, ``corrupted`` those under every corruption at every
    severity, which all weigh the same. ``no_agreement`` says why there is no agreement, where there is none.
    """
    values: dict[str, float | None] = {}
    reasons: dict[str, str] = {}
    for quantity, column in QUANTITIES.items():
        scores = [value for point in corrupted if (value := point[quantity]) is not None]
        values[column.name] = fmean(scores) if len(scores) == len(corrupted) else None
    before, after = clean["accuracy"], values[ACCURACY.name]
    values[DROP.name] = before - after if before is not None and after is not None else None
    for column in COLUMNS:
        if values[column.name] is None:
            only_clean = column is DROP and after is not None
            reasons[column.name] = f"logits are not finite on {'clean' if only_clean else 'corrupted'} images"
    if no_agreement is not None:
        reasons[AGREEMENT.name] = no_agreement
    return values, reasons
