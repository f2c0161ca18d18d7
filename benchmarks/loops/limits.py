"""What the engine is held against: the machine's matrix-multiply peak, and a loop that only trains."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from statistics import median

import torch
from torch import nn

from kdbench.methods import Batch
from kdbench.models import Outputs
from kdbench.training.precision import Precision, autocast
from kdbench.training.schedule import make_optimizer
from loops import cohort
from loops.task import CLASSES, METHODS, SHAPE, Task, now, random_images

_SIZES = {"cpu": (1024, 2048, 4096), "cuda": (4096, 8192, 16384)}
_PRODUCTS = 5
_NULL_STEPS = 50
_NULL_ROUNDS = 5


def matrix_peak(precision: Precision, device: torch.device) -> float:
    """Return the most FLOP/s that a product of two large square matrices reaches, the best of several.

    A product of n × n matrices counts 2n³. fp32 on CUDA is computed as convolutions compute it (TF32 by
    torch's default).
    """
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32
    best = 0.0
    try:
        for size in _SIZES[device.type]:
            dtype = torch.bfloat16 if precision == "bf16" else torch.float32
            left, right = torch.randn(2, size, size, device=device).to(dtype)
            out = torch.mm(left, right)
            for _ in range(_PRODUCTS):
                started = now(device)
                torch.mm(left, right, out=out)
                best = max(best, 2 * size**3 / (now(device) - started))
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
    return best


class Pixel(nn.Module):
    """The first pixel of an image."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (B, C, H, W) to (B, C)."""
        return x[:, :, 0, 0]


def engine_overhead(precision: Precision, batch_size: int, device: torch.device) -> float:
    """Return the seconds that the engine adds to each step of each student, beyond what any loop must do.

    A null model (a linear layer on one pixel) has next to nothing to compute, so the engine's own work
    shows: (engine − bare loop) / students, of a step of six students by KD that share a null teacher. The
    bare loop takes the same batches, runs the teacher once, and for each student forward, loss, backward
    and the same optimiser in the same precision. It has no hooks, seeds, schedule, history, failure handling
    or clocks. Median of rounds in which both have a turn; noise may make it negative.
    """
    null = nn.Sequential(Pixel(), nn.Linear(SHAPE[0], CLASSES))
    images = random_images(_NULL_STEPS * batch_size)
    task = Task(("null model", "null model"), null, copy.deepcopy(null), images, batch_size, device)
    methods = ["kd"] * len(METHODS)
    rounds = [
        cohort.take_turn(task, methods, precision).step - _bare_step(task, methods, precision)
        for _ in range(_NULL_ROUNDS)
    ]
    return median(rounds) / len(methods)


def _bare_step(task: Task, methods: Sequence[str], precision: Precision) -> float:
    """Train students on logits for two epochs in a bare loop; return the seconds of a step of the second."""
    batches = cohort.batches_of(task)
    teacher, student = task.copies(torch.channels_last)
    students = [copy.deepcopy(student) for _ in methods]
    optimizers = [make_optimizer(task.recipe(epochs=2), model.parameters()) for model in students]
    distillers = [task.distiller(method) for method in methods]
    for epoch in range(2):
        for x, y, index in batches.epoch(task.batch_size, torch.Generator().manual_seed(epoch)):
            with torch.no_grad(), autocast(precision, task.device):
                given = Outputs(teacher(x).float())
            for model, optimizer, distiller in zip(students, optimizers, distillers, strict=True):
                with autocast(precision, task.device):
                    outputs = Outputs(model(x).float())
                loss = sum(distiller.losses(outputs, given, Batch(y, index, 0.0, model)).values())
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
    return (batches.ended - batches.began) / task.steps
