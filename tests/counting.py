"""Count models where the test runs: a process of its own takes seconds to import torch at each run."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import torch

from kdbench.efficiency.protocol import Protocol
from kdbench.efficiency.worker import measure_job
from kdbench.progress import Progress

# the package of the same name has a function `measure`, which hides the module
measuring = importlib.import_module("kdbench.efficiency.measure")
in_process_of_its_own = measuring._run_worker


def without_process(
    job: dict[str, Any], folder: Path, protocol: Protocol, progress: Progress
) -> tuple[str | None, tuple[str, str] | None]:
    """Stand in for `_run_worker` of the module: what is timed still gets its process."""
    if protocol.devices:
        return in_process_of_its_own(job, folder, protocol, progress)
    threads = torch.get_num_threads()
    try:
        measure_job(job, folder, lambda event: None)
    finally:
        torch.set_num_threads(threads)
    return None, None
