"""The loop as the field writes it: one student, images one by one, the teacher again every step."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from kdbench.data.dataset import Split
from kdbench.methods import Batch
from kdbench.models import FeatureReader
from loops.task import CROP_PADDING, MEAN, OPTIMISER, SHAPE, STD, Task, now


class Images(Dataset[tuple[torch.Tensor, int]]):
    """Images in memory that become PIL images, are augmented and become tensors when asked for.

    So do torchvision's own CIFAR datasets.
    """

    def __init__(self, split: Split) -> None:
        """Take the pixels as arrays and set the usual transforms of CIFAR-100."""
        self._pixels = split.images.numpy()
        self._labels = split.labels.tolist()
        self._transform = transforms.Compose(
            [
                transforms.RandomCrop(SHAPE[1], padding=CROP_PADDING),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(MEAN, STD),
            ]
        )

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        """Return an image (C, H, W), normalised, and its class."""
        return self._transform(Image.fromarray(self._pixels[index])), self._labels[index]


def take_turn(task: Task, method: str, workers: int) -> float:
    """Train one student for an epoch; return the seconds of a step, of all but the first.

    The first step pays for starting the workers and for what other loops left in the caches. What the
    workers decode ahead meanwhile is not counted, which flatters this loop.
    """
    teacher, student = task.copies(torch.contiguous_format)
    distiller = task.distiller(method)
    adapters = distiller.adapters().to(task.device)
    teacher_reader = FeatureReader(teacher, task.teacher_taps, distiller.needs)
    student_reader = FeatureReader(student, task.student_taps, distiller.needs)
    optimizer = torch.optim.SGD([*student.parameters(), *adapters.parameters()], **OPTIMISER)
    loader = DataLoader(
        Images(task.images),
        batch_size=task.batch_size,
        shuffle=True,
        num_workers=workers,
        pin_memory=task.device.type == "cuda",
    )
    total = 0.0
    with cudnn_benchmark():
        for number, (x, y) in enumerate(loader):
            x, y = x.to(task.device), y.to(task.device)
            with torch.no_grad():
                given = teacher_reader(x)
            batch = Batch(target=y, index=torch.arange(len(y)), progress=0.0, run=student)
            loss = sum(distiller.losses(student_reader(x), given, batch).values())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
            if number == 0:
                started = now(task.device)
        seconds = now(task.device) - started
    if not math.isfinite(total):
        raise RuntimeError(f"{task.name}, {method}: the loss is not finite")
    return seconds / (task.steps - 1)


@contextmanager
def cudnn_benchmark() -> Iterator[None]:
    """Let cuDNN choose the fastest algorithms, as these loops do, and give the setting back afterwards."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
