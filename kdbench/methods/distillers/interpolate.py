"""``interpolate``: the student's weights are pulled towards the teacher's.

θ_s ← λ·θ_t + (1 − λ)·θ_s after every optimiser step (``every: step``), at the end of every epoch
(``epoch``) or after the last step (``once``); the loss is CE(z_s, y). Both models must have the same
architecture. Batch-norm statistics do not interpolate, so they are computed anew from training data
before the student is evaluated.

``teacher: frozen`` pulls towards the trained teacher. ``teacher: alongside`` pulls towards a second
network that starts from its own random weights and trains beside the student with cross-entropy.

The loss barrier max_λ [L(θ_λ) − λ·L_t − (1 − λ)·L_s] on the line between the teacher and the trained
student says whether weights could be averaged at all (Frankle et al., ICML 2020, arXiv 1912.05671).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Literal

from kdbench.column import Column
from kdbench.deferred import Tensor, nn, torch
from kdbench.methods import base
from kdbench.methods.base import Batch, Distiller, Networks, Pair, Refusal, method
from kdbench.methods.quantities import Share
from kdbench.models.shapes import Outputs

POINTS = 11


@method(
    "interpolate",
    title="pull the weights towards the teacher's",
    source="after Frankle et al., ICML 2020 (linear mode connectivity)",
    year=2020,
)
class Interpolate(Distiller):
    """The hard loss, with the student's weights mixed with the teacher's."""

    class Parameters(base.Parameters):
        """The teacher's share λ, how often it is mixed in, and which teacher it is."""

        lam: Share = 0.5
        every: Literal["step", "epoch", "once"] = "step"
        teacher: Literal["frozen", "alongside"] = "frozen"

    needs = frozenset()
    targets = None
    moves_weights = True
    columns = (
        Column(
            "interpolation_barrier",
            "loss barrier between teacher and student",
            family="fidelity",
            direction="lower",
            unit="nats",
            range="[0, ∞)",
            source="Frankle et al. 2020, arXiv 1912.05671",
        ),
    )

    def __init__(self, hyper: Parameters, pair: Pair) -> None:
        """Prepare; the network that trains alongside is made by ``prepare``."""
        super().__init__(hyper, pair)
        self.peer: nn.Module | None = None

    @classmethod
    def check(cls, hyper: Parameters, pair: Pair) -> None:
        """Refuse models whose weights do not correspond."""
        if not pair.same_architecture:
            raise Refusal(f"weights of '{pair.teacher}' and '{pair.student}' have different names or shapes")

    def prepare(self, networks: Networks) -> None:
        """Make the second network, with fresh random weights, where one trains alongside."""
        if self.hyper.teacher == "alongside":
            self.peer = networks.fresh("student")

    def _towards(self, teacher: nn.Module) -> nn.Module:
        return teacher if self.peer is None else self.peer

    def losses(self, student: Outputs, teacher: Outputs | None, batch: Batch) -> dict[str, Tensor]:
        """Return the mean loss, and that of the network that trains alongside, if there is one."""
        losses = {"ce": self.target.loss(student.logits, batch.target)}
        if self.peer is not None:
            losses["teacher_ce"] = self.target.loss(batch.run(self.peer), batch.target)
        return losses

    def after_step(self, student: nn.Module, teacher: nn.Module, epoch_ended: bool, ended: bool) -> None:
        """Mix the teacher's weights in, when it is time."""
        due = {"step": True, "epoch": epoch_ended, "once": ended}[self.hyper.every]
        if due:
            mix(student, self._towards(teacher), self.hyper.lam)

    def diagnose(
        self, student: nn.Module, teacher: nn.Module, loss: Callable[[nn.Module], float]
    ) -> dict[str, float]:
        """Return the loss barrier between the trained student and the teacher, over 11 points."""
        other = self._towards(teacher)
        shares = torch.linspace(0, 1, POINTS).tolist()
        losses = []
        for share in shares:
            between = copy.deepcopy(student)
            mix(between, other, share)
            losses.append(loss(between))
        ends = [share * losses[-1] + (1 - share) * losses[0] for share in shares]
        return {"interpolation_barrier": max(height - end for height, end in zip(losses, ends, strict=True))}


def mix(student: nn.Module, teacher: nn.Module, share: float) -> None:
    """Set θ_s ← share·θ_t + (1 − share)·θ_s for every parameter; buffers are left alone."""
    sources = dict(teacher.named_parameters())
    with torch.no_grad():
        for name, parameter in student.named_parameters():
            parameter.lerp_(sources[name].to(parameter.dtype), share)
