"""torchdistill (Matsubara 2021, arXiv 2011.12913) as its own example for image classification drives it."""

from __future__ import annotations

from typing import Any

import torch

from loops.conventional import Images, cudnn_benchmark
from loops.task import OPTIMISER, Task, now

# torchdistill's names for: cross-entropy weight alpha, soft weight beta, both on the models' own outputs.
KD = {
    "key": "KDLoss",
    "kwargs": {
        "student_module_path": ".",
        "student_module_io": "output",
        "teacher_module_path": ".",
        "teacher_module_io": "output",
        "temperature": 4.0,
        "alpha": 0.1,
        "beta": 0.9,
    },
}


def missing() -> str | None:
    """Return why torchdistill cannot be timed; None where it can."""
    try:
        import torchdistill.core.distillation
        import torchdistill.misc.log  # noqa: F401
    except ImportError as error:
        return f"torchdistill cannot be imported ({error}): pip install 'kdbench[speed]'"
    return None


def take_turn(task: Task, workers: int) -> float:
    """Distil one student by KD for an epoch; return the seconds of a step, of all but the first.

    What the first step pays for, and what is not counted, is as in the conventional loop.
    """
    from torchdistill.core.distillation import get_distillation_box
    from torchdistill.misc.log import MetricLogger

    teacher, student = task.copies(torch.contiguous_format)
    box = get_distillation_box(
        teacher,
        student,
        {"train": Images(task.images)},
        _config(task, workers),
        device=task.device,
        device_ids=[0] if task.device.type == "cuda" else None,
        distributed=False,
        lr_factor=1,
    )
    meters = MetricLogger()
    box.pre_epoch_process(epoch=0)
    with cudnn_benchmark():
        for number, (x, y, more) in enumerate(meters.log_every(box.train_data_loader, log_freq=100)):
            x, y = x.to(task.device), y.to(task.device)
            loss = box.forward_process(x, y, more)
            box.post_forward_process(loss=loss)
            meters.update(loss=loss.item(), lr=box.optimizer.param_groups[0]["lr"])
            if not torch.isfinite(loss):
                raise RuntimeError(f"{task.name}, torchdistill: the loss is not finite")
            if number == 0:
                started = now(task.device)
        seconds = now(task.device) - started
    box.clean_modules()
    return seconds / (task.steps - 1)


def _config(task: Task, workers: int) -> dict[str, Any]:
    return {
        "num_epochs": 1,
        "train_data_loader": {
            "dataset_id": "train",
            "sampler": {"class_or_func": torch.utils.data.RandomSampler, "kwargs": {}},
            "kwargs": {
                "batch_size": task.batch_size,
                "num_workers": workers,
                "pin_memory": task.device.type == "cuda",
            },
        },
        "teacher": {"forward_proc": "forward_batch_only", "requires_grad": False},
        "student": {"forward_proc": "forward_batch_only"},
        "optimizer": {"key": "SGD", "kwargs": dict(OPTIMISER)},
        "criterion": {
            "key": "WeightedSumLoss",
            "kwargs": {"sub_terms": {"kd": {"criterion": KD, "weight": 1.0}}},
        },
    }
