"""What models of a process share: set back after foreign code, and begun anew for each purpose."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch

from kdbench.code.factory import load_factory
from kdbench.inputs import InputSpec
from kdbench.models import build_model
from kdbench.shared_state import kept_settings, kept_streams, seed_streams


def settings() -> tuple[object, ...]:
    return (
        torch.get_num_threads(),
        torch.is_grad_enabled(),
        torch.get_default_dtype(),
        torch.get_float32_matmul_precision(),
        torch.are_deterministic_algorithms_enabled(),
        torch.backends.cudnn.benchmark,
    )


CHANGES = """
import torch

def change():
    torch.set_num_threads(torch.get_num_threads() + 1)
    torch.set_grad_enabled(False)
    torch.set_default_dtype(torch.float64)
    torch.set_float32_matmul_precision("medium")
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = not torch.backends.cudnn.benchmark
"""


@pytest.fixture
def changing(tmp_path: Path) -> Path:
    file = tmp_path / "changing.py"
    file.write_text(
        f"{CHANGES}\n\nchange()\n\n\ndef net():\n    change()\n    return torch.nn.Linear(1, 1)\n"
    )
    return file


def test_settings_are_set_back_also_after_an_error(changing: Path) -> None:
    before = settings()
    change = load_factory(f"{changing}:change")
    assert settings() == before, "a file that changes them when it is imported"
    with kept_settings():
        change()
        assert all(now != then for now, then in zip(settings(), before, strict=True))
    assert settings() == before
    with pytest.raises(ValueError, match="mine"), kept_settings():
        change()
        raise ValueError("mine")
    assert settings() == before
    assert (
        build_model(f"{changing}:net", inputs=InputSpec.image((1, 1, 1)), num_classes=1).weight.dtype
        == torch.float64
    )
    assert settings() == before


def drawn() -> list[float]:
    return [torch.rand(()).item(), random.random(), np.random.rand(), torch.randn(()).item()]


def test_streams_begin_anew_with_a_seed_and_are_given_back() -> None:
    seed = 2**62 + 12345
    seed_streams(seed)
    first = drawn()
    seed_streams(seed)
    with kept_streams():
        seed_streams(7)
        drawn()
    assert drawn() == first
    torch.manual_seed(seed)
    assert torch.rand(()).item() == first[0], "torch's own way gives the same numbers"
