"""The process that takes one model's memory: ``main()`` with JOB.json and OUT_FOLDER as arguments.

It builds the model, runs it at one batch size, and writes ``memory.json``. The process is a fresh one for
each model and batch size, because allocators keep what an earlier model needed.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import torch

from kdbench.efficiency.columns import memory_names
from kdbench.efficiency.jobs import Built, build, example
from kdbench.efficiency.peak import watch
from kdbench.efficiency.runtimes import Call, prepare, restore
from kdbench.errors import UserError
from kdbench.inputs import Inputs, examples, tensors
from kdbench.place import Place
from kdbench.store import read_json, write_json

_CALLS = 3


def peak_memory(built: Built, inputs: Inputs) -> dict[str, int]:
    """Return the peak memory in bytes while a model runs, by column.

    On the CPU it is how far resident memory rose over that of the loaded model and its inputs; on CUDA what
    was allocated, and what the allocator had reserved for it, both with the weights.
    """
    batch, device = examples(inputs), tensors(inputs)[0].device
    call = prepare(built.model, inputs, Place(device.type, batch), built.trial)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        _run(call)
        torch.cuda.synchronize()
        peaks = (torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved())
        return dict(zip(memory_names("cuda", batch), peaks, strict=True))
    return dict(zip(memory_names("cpu", batch), (resident_growth(lambda: _run(call)),), strict=True))


def resident_growth(work: Call) -> int:
    """Return by how many bytes resident memory rose at most during a piece of work; see ``watch``."""
    peak = watch(torch.device("cpu"))
    work()
    return peak()


def _run(call: Call) -> None:
    with torch.inference_mode():
        for _ in range(_CALLS):
            restore(call)
            call()


def main() -> None:
    """Read the job that the command line names, take the model's memory, and write it."""
    # Whatever a model prints must not fill the pipe that nobody reads.
    os.dup2(2, 1)
    job = read_json(Path(sys.argv[1]))
    if job["threads"] is not None:
        torch.set_num_threads(job["threads"])
    try:
        inputs = example(job, job["batch"], job["device"])
        content: dict[str, Any] = {"memory": peak_memory(build(job, job["model"]), inputs)}
    except UserError as error:
        content = {"reason": str(error)}
    write_json(Path(sys.argv[2]) / "memory.json", content)
