"""The process that takes one model's memory: ``python -m kdbench.efficiency.memory JOB.json OUT_FOLDER``.

It builds the model, runs it at one batch size, and writes ``memory.json``. The process is a fresh one for
each model and batch size, because allocators keep what an earlier model needed.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kdbench.efficiency.columns import memory_names
from kdbench.efficiency.jobs import build, example
from kdbench.efficiency.places import Place
from kdbench.efficiency.runtimes import Call, prepare
from kdbench.errors import UserError
from kdbench.store import read_json, write_json

_CALLS = 3
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def peak_memory(model: nn.Module, inputs: Tensor) -> dict[str, int]:
    """Return the peak memory in bytes while a model runs, by column.

    On the CPU it is how far resident memory rose over that of the loaded model and its inputs; on CUDA what
    was allocated, and what the allocator had reserved for it, both with the weights.
    """
    batch = len(inputs)
    call = prepare(model, inputs, Place(inputs.device.type, batch))
    if inputs.is_cuda:
        torch.cuda.reset_peak_memory_stats()
        _run(call)
        torch.cuda.synchronize()
        found = (torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved())
        return dict(zip(memory_names("cuda", batch), found, strict=True))
    return dict(zip(memory_names("cpu", batch), (resident_growth(lambda: _run(call)),), strict=True))


def resident_growth(work: Call) -> int:
    """Return by how many bytes resident memory rose at most during a piece of work.

    Linux keeps the highest value and can be told to forget it, so nothing between two samples is missed.
    Raises UserError on other systems.
    """
    if not _CLEAR.is_file():
        raise UserError("the peak of resident memory is only told by Linux (/proc/self/clear_refs)")
    # The first operation starts the threads, which every model has in common.
    torch.nn.functional.conv2d(torch.zeros(1, 8, 32, 32), torch.zeros(8, 8, 3, 3))
    # Free memory that the process still holds would hide growth.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    _CLEAR.write_text("5")
    before = _resident("VmRSS")
    work()
    return max(0, _resident("VmHWM") - before)


def _run(call: Call) -> None:
    with torch.inference_mode():
        for _ in range(_CALLS):
            call()


def _resident(field: str) -> int:
    found = re.search(rf"{field}:\s+(\d+) kB", _STATUS.read_text())
    if found is None:
        raise UserError(f"/proc/self/status does not tell {field}")
    return int(found[1]) * 1024


def main() -> None:
    """Read the job that the command line names, take the model's memory, and write it."""
    # Whatever a model prints must not fill the pipe that nobody reads.
    os.dup2(2, 1)
    job = read_json(Path(sys.argv[1]))
    if job["threads"] is not None:
        torch.set_num_threads(job["threads"])
    try:
        inputs = example(job["batch"], job["input_shape"], job["device"])
        content: dict[str, Any] = {"memory": peak_memory(build(job, job["model"]), inputs)}
    except UserError as error:
        content = {"reason": str(error)}
    write_json(Path(sys.argv[2]) / "memory.json", content)


if __name__ == "__main__":
    main()
