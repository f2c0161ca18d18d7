"""What all models of a process share: torch's settings and the random streams.

A model or a method may change either while it works, and what comes after it would be computed differently.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

# How each setting is read, and how it is set again.
_SETTINGS: tuple[tuple[Callable[[], Any], Callable[[Any], object]], ...] = (
    (torch.get_num_threads, torch.set_num_threads),
    (torch.is_grad_enabled, torch.set_grad_enabled),
    (torch.get_default_dtype, torch.set_default_dtype),
    (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    (torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly),
    (torch.are_deterministic_algorithms_enabled, torch.use_deterministic_algorithms),
    (
        lambda: torch.backends.cudnn.benchmark,
        lambda value: setattr(torch.backends.cudnn, "benchmark", value),
    ),
)


@contextmanager
def kept_settings() -> Iterator[None]:
    """Set back, at the end, the settings that foreign code changed.

    They are the number of threads, whether gradients are taken, the default type, the precision of matrix
    products, the search for anomalies, deterministic algorithms and cuDNN's benchmarks.
    """
    before = [read() for read, _ in _SETTINGS]
    try:
        yield
    finally:
        for (read, write), value in zip(_SETTINGS, before, strict=True):
            if read() != value:
                write(value)


@contextmanager
def kept_streams() -> Iterator[None]:
    """Give back, at the end, the states of the random streams of torch, NumPy and Python."""
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    python, numpy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def seed_streams(seed: int) -> None:
    """Begin the random streams of torch, NumPy and Python anew with a seed."""
    # As torch.manual_seed does, which besides writes down the stack for a CUDA that may never be used.
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)
