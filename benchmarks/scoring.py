"""How long it takes to score a model with every metric, and in how much memory.

    python benchmarks/scoring.py            # 100,000 examples of 1,000 classes, two threads
    python benchmarks/scoring.py --json

The logits are random: a teacher that is mostly right and a student that follows it, with a train split as
large as the measured one, a validation split of a tenth, and pooled features of 10,000 examples, as runs
keep them. The limits that kdbench sets itself are 60 s and 8 GiB on two cores, inputs included.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from kdbench.metrics import score

LIMIT_S, LIMIT_GIB = 60.0, 8.0
FEATURE_ROWS, STUDENT_WIDTH, TEACHER_WIDTH = 10_000, 512, 1024


@dataclass(frozen=True)
class Scoring:
    """What one call of ``score`` took; ``peak_gib`` is the largest resident size of the process so far."""

    examples: int
    classes: int
    threads: int
    metrics: int
    without_value: dict[str, str]
    wall_s: float
    cpu_s: float
    inputs_gib: float
    peak_gib: float


def made_up(examples: int, classes: int) -> dict[str, Tensor]:
    """Return every input that metrics take, as float32, from a fixed seed."""
    random = torch.Generator().manual_seed(0)

    # A long tail, for metrics that look at how often a class was trained on.
    tail = 1e4 ** -torch.linspace(0, 1, classes)

    def split(count: int, shares: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if shares is None:
            labels = torch.randint(classes, (count,), generator=random)
        else:
            labels = torch.multinomial(shares, count, replacement=True, generator=random)
        logits = torch.randn(count, classes, generator=random)
        logits[torch.arange(count), labels] += 4
        return logits, labels

    teacher, labels = split(examples)
    student = torch.randn(examples, classes, generator=random).mul_(0.7).add_(teacher, alpha=0.7)
    train, train_labels = split(examples, tail)
    validation, validation_labels = split(max(1, examples // 10))
    rows = min(examples, FEATURE_ROWS)
    features = torch.randn(rows, TEACHER_WIDTH, generator=random)
    return {
        "logits": student,
        "labels": labels,
        "teacher_logits": teacher,
        "train_logits": train,
        "train_labels": train_labels,
        "validation_logits": validation,
        "validation_labels": validation_labels,
        "features": features[:, :STUDENT_WIDTH] + torch.randn(rows, STUDENT_WIDTH, generator=random),
        "teacher_features": features,
        "temperature": torch.tensor(4.0),
    }


def measure(examples: int, classes: int, threads: int) -> Scoring:
    """Score made-up predictions once with every metric."""
    torch.set_num_threads(threads)
    tensors = made_up(examples, classes)
    wall, cpu = time.perf_counter(), time.process_time()
    values, reasons = score(tensors)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    # Bytes on macOS, KiB elsewhere.
    unit = 2**30 if sys.platform == "darwin" else 2**20
    return Scoring(
        examples=examples,
        classes=classes,
        threads=threads,
        metrics=len(values),
        without_value=reasons,
        wall_s=round(wall, 2),
        cpu_s=round(cpu, 2),
        inputs_gib=round(sum(tensor.nbytes for tensor in tensors.values()) / 2**30, 2),
        peak_gib=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 2),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--examples", type=int, default=100_000)
    parser.add_argument("--classes", type=int, default=1_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    found = measure(arguments.examples, arguments.classes, arguments.threads)
    if arguments.json:
        print(json.dumps(asdict(found), indent=1))
        return
    print(
        f"{found.metrics} metrics of {found.examples:,} x {found.classes:,} logits, {found.threads} threads"
    )
    for name, reason in found.without_value.items():
        print(f"no value for {name}: {reason}")
    print(f"{found.wall_s:.1f} s wall, {found.cpu_s:.1f} s of CPU time (limit {LIMIT_S:.0f} s wall)")
    memory = f"{found.peak_gib:.2f} GiB at the peak, {found.inputs_gib:.2f} of them inputs"
    print(f"{memory} (limit {LIMIT_GIB:.0f} GiB)")


if __name__ == "__main__":
    main()
