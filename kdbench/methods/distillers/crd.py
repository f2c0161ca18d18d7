"""``crd``: student and teacher embed the same image alike, and images of other classes apart.

L = CE(z_s, y) + w·(NCE_s + NCE_t), with w = 0.8

E_s and E_t map the pooled features linearly to 128 numbers of L2 norm 1. Two memories hold, for each of the
N training images, what E_s and E_t last gave. With the student's embedding e as the anchor and the
teacher's memory m,

NCE_s = −mean [log h(i) + Σ_{j of K negatives} log(1 − h(j))], h(j) = P_j/(P_j + K/N), P_j = exp(e·m_j/τ)/Z,

where i is the image itself and the negatives are images of other classes. NCE_t has the teacher's embedding
as the anchor and the student's memory; its gradient reaches E_t, but not the student. After a step, the
batch's places in both memories become μ·m + (1 − μ)·e, normalised. K = 16384, τ = 0.07, μ = 0.5 and the
weight are those of the CIFAR-100 tables.

1/N is the density of the noise. The paper's h has no Z; as in the authors' code, Z is N times the mean of
exp(e·m_j/τ) over the first batch, one for each of the two sums, and stays.

Negatives are drawn uniformly and with replacement, where the authors' code draws each image once at most.
Where there are no more images than negatives, none are drawn: each image of another class counts
K/(number of those images) times, which is the mean over all such draws.

The memories lie in the order of the classes, so that a draw needs no table of other classes' images. They
are written after the optimiser's step and not with the loss, whose backward pass still reads them.

Tian, Krishnan, Isola, "Contrastive Representation Distillation", ICLR 2020, arXiv 1910.10699.
"""

from __future__ import annotations

import math

from pydantic import Field

from kdbench.deferred import F, Tensor, nn, torch
from kdbench.errors import UserError
from kdbench.methods.base import Batch, Networks, Pair, method
from kdbench.methods.combined import Combined
from kdbench.methods.quantities import Part, Temperature, Weight, Width
from kdbench.models.shapes import Outputs

# Scores of anchors and memory that are held at once: 128 MiB in float32.
LARGEST = 2**25


def noise_contrastive_loss(log_p: Tensor, weights: Tensor, ratio: float) -> Tensor:
    """Return −[log h(positive) + Σ_j weights_j·log(1 − h(j))], the mean over the anchors, in nats.

    Args:
        log_p: log P of the positive, in the first column, and of M negatives (B, 1 + M).
        weights: how often each negative counts (B, M).
        ratio: K/N, the expected number of noise samples that hit one image.
    """
    odds = log_p - math.log(ratio)
    negatives = (weights * F.softplus(odds[:, 1:])).sum(1)
    return (F.softplus(-odds[:, 0]) + negatives).mean()


def scores_at(anchors: Tensor, memory: Tensor, rows: Tensor) -> Tensor:
    """Return e·m for anchors (B, D) and those rows (B, M) of a memory (N, D) that each is compared with.

    All scores are computed and some taken: to gather the rows themselves would move far more memory.
    """
    step = max(1, LARGEST // len(memory))
    parts = zip(anchors.split(step), rows.split(step), strict=True)
    return torch.cat([(part @ memory.T).gather(1, chosen) for part, chosen in parts])


def draw_outside(starts: Tensor, counts: Tensor, number: int, draws: int) -> Tensor:
    """Draw from 0 … number − 1, uniformly and with replacement, outside of one block for each row.

    Args:
        starts: where each block begins (B,).
        counts: how long it is (B,), less than ``number``.
        number: at most 2²⁴, beyond which float32 would leave some out.
        draws: how many for each row.
    """
    outside = (number - counts)[:, None]
    drawn = (torch.rand(len(starts), draws, device=starts.device) * outside).long()
    return drawn + counts[:, None] * (drawn >= starts[:, None])


def remember(memory: Tensor, rows: Tensor, embedded: Tensor, momentum: float) -> None:
    """Set those rows (B,) of a memory (N, D) to μ·m + (1 − μ)·e, normalised, for embeddings e (B, D)."""
    with torch.no_grad():
        memory[rows] = F.normalize(torch.lerp(embedded, memory[rows], momentum), dim=1)


@method("crd", title="contrast images in an embedding", source="Tian et al., ICLR 2020", year=2020)
class CRD(Combined):
    """Noise-contrastive estimation against memories of all training images, on pooled features."""

    class Parameters(Combined.Parameters):
        """Weight w; K negatives; temperature τ; momentum μ of the memories; width of the embeddings."""

        weight: Weight = 0.8
        negatives: int = Field(16384, ge=1, le=10_000_000)
        temperature: Temperature = 0.07
        momentum: Part = 0.5
        width: Width = Field(128, ge=2)

    needs = frozenset({"logits", "pooled"})

    def __init__(self, hyper: Parameters, pair: Pair) -> None:
        """Build the embeddings; the memories are made by ``prepare``, which knows the images."""
        super().__init__(hyper, pair)
        source, target = pair.student_shapes.pooled, pair.teacher_shapes.pooled
        assert source is not None and target is not None
        self.student_embedding = nn.Linear(source[0], hyper.width)
        self.teacher_embedding = nn.Linear(target[0], hyper.width)
        # NaN until the first batch; buffers, so that a training that goes on keeps them.
        self.constants = nn.Module()
        self.constants.register_buffer("log_z_student", torch.tensor(math.nan))
        self.constants.register_buffer("log_z_teacher", torch.tensor(math.nan))
        self._latest: tuple[Tensor, Tensor, Tensor] | None = None

    def prepare(self, networks: Networks) -> None:
        """Make both memories, of random directions, and the order that their rows have."""
        labels, hyper = networks.labels, self.hyper
        self._labels, order = labels.sort(stable=True)
        self._rows = order.argsort()
        self._counts = labels.bincount()
        self._starts = self._counts.cumsum(0) - self._counts
        if int(self._counts.max()) == len(labels):
            raise UserError("crd: all training images are of one class, so there are no negatives.")
        self.student_memory, self.teacher_memory = (
            nn.Embedding.from_pretrained(F.normalize(torch.randn(len(labels), hyper.width), dim=1))
            for _ in range(2)
        )

    def negatives(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return rows (B, M) of the memories, and how often each counts, for anchors in the rows (B,)."""
        number, draws = len(self._labels), self.hyper.negatives
        if number > draws:
            label = self._labels[rows]
            drawn = draw_outside(self._starts[label], self._counts[label], number, draws)
            return drawn, torch.ones_like(drawn[:1], dtype=torch.float32)
        other = self._labels[rows][:, None] != self._labels
        return torch.arange(number, device=rows.device).expand_as(other), draws * other / other.sum(1, True)

    def terms(self, student: Outputs, teacher: Outputs, batch: Batch) -> dict[str, Tensor]:
        """Return both weighted sums, and note what the memories will be told after the step."""
        assert student.pooled is not None and teacher.pooled is not None
        e_s = F.normalize(self.student_embedding(student.pooled), dim=1)
        e_t = F.normalize(self.teacher_embedding(teacher.pooled), dim=1)
        rows = self._rows[batch.index]
        negatives, weights = self.negatives(rows)
        compared = torch.cat([rows[:, None], negatives], dim=1)
        terms = {}
        for side, anchors, memory in (
            ("student", e_s, self.teacher_memory),
            ("teacher", e_t, self.student_memory),
        ):
            scores = scores_at(anchors, memory.weight, compared) / self.hyper.temperature
            log_p = scores - self._log_z(side, scores.detach(), weights)
            loss = noise_contrastive_loss(log_p, weights, self.hyper.negatives / len(self._labels))
            terms[f"nce_{side}"] = self.hyper.weight * loss
        self._latest = (rows, e_s.detach(), e_t.detach())
        return terms

    def _log_z(self, side: str, scores: Tensor, weights: Tensor) -> Tensor:
        """Return log Z of one side, which the first scores (B, 1 + M) decide."""
        constant = self.constants.get_buffer(f"log_z_{side}")
        if self._latest is None and constant.isnan():
            log_weights = F.pad(weights.log().expand_as(scores[:, 1:]), (1, 0))
            counted = math.log(len(scores) * (1 + self.hyper.negatives))
            total = (scores + log_weights).logsumexp((0, 1))
            constant.copy_(total - counted + math.log(len(self._labels)))
        return constant

    def after_step(self, student: nn.Module, teacher: nn.Module, epoch_ended: bool, ended: bool) -> None:
        """Tell the memories what the batch's images were embedded as."""
        if self._latest is not None:
            rows, e_s, e_t = self._latest
            remember(self.student_memory.weight, rows, e_s, self.hyper.momentum)
            remember(self.teacher_memory.weight, rows, e_t, self.hyper.momentum)
