"""The process that measures: ``main()`` with JOB.json and OUT_FOLDER as arguments.

It builds the models by name, counts and times them, and writes ``latency.parquet`` and, last and
atomically, ``result.json``. What it is doing goes to standard output, one JSON object a line; whatever the
models print goes to standard error. A model that raises is reported for that step and the others go on.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from kdbench.code.foreign import foreign
from kdbench.efficiency.columns import energy_name
from kdbench.efficiency.counts import count
from kdbench.efficiency.energy import Rapl, joules_per_example
from kdbench.efficiency.jobs import Built, build, example, outputs
from kdbench.efficiency.latency import Timing, cpu_timer, cuda_timer, failure, time_calls
from kdbench.efficiency.nvml import Gpu
from kdbench.efficiency.process import TurnFile
from kdbench.efficiency.protocol import Protocol
from kdbench.efficiency.quiet import wait_for_quiet
from kdbench.efficiency.runtimes import Call, prepare, restore
from kdbench.efficiency.samples import SAMPLE_COLUMNS
from kdbench.efficiency.steps import BUILD, COUNT, energy_step
from kdbench.errors import UserError
from kdbench.inputs import InputSpec
from kdbench.models.trial import FORMAT_NAMES
from kdbench.place import Place
from kdbench.store import read_json, write_atomic, write_json

Emit = Callable[[dict[str, Any]], None]
Subject = tuple[str, Place]

# A report while models are being timed wakes the parent; more often than this it would be felt.
_SECONDS_BETWEEN_REPORTS = 1.0


def measure_job(job: Mapping[str, Any], out: Path, emit: Emit) -> None:
    """Measure the models of a job and write the result into ``out``.

    ``job["failures"]`` holds the steps, by model, that ended an earlier process; they are not tried again.
    """
    session = _Session(job, out, emit)
    models = session.build_models()
    counts = session.count(models)
    frames = [pd.DataFrame(columns=list(SAMPLE_COLUMNS))]
    protocol = session.protocol
    devices = [device for device in protocol.devices if device == "cpu" or torch.cuda.is_available()]
    if devices:
        session.quiet["before"] = [probe.as_json() for probe in wait_for_quiet(protocol.probe_seconds)]
    for device in devices:
        for batch in protocol.batch_sizes:
            for threads in protocol.dimensions.thread_counts(device):
                frames.append(session.time(models, device, batch, threads))
            if protocol.dimensions.energy:
                session.take_energy(models, device, batch)
    samples = pd.concat([frame for frame in frames if len(frame)] or frames[:1]).astype(SAMPLE_COLUMNS)
    write_atomic(out / "latency.parquet", samples.to_parquet(index=False))
    write_json(
        out / "result.json",
        {
            "threads": session.threads,
            "counts": counts,
            "failures": session.failures,
            "measured": session.measured,
            "quiet": session.quiet,
            "gpu": session.gpu,
            "memory_formats": {label: FORMAT_NAMES[built.memory_format] for label, built in models.items()},
        },
    )


class _Session:
    """One job: what it found so far, and who is to blame should the process end."""

    def __init__(self, job: Mapping[str, Any], out: Path, emit: Emit) -> None:
        self.job, self.emit = job, emit
        self.protocol = Protocol.from_json(job["protocol"])
        if self.protocol.threads is not None:
            torch.set_num_threads(self.protocol.threads)
        self.threads = torch.get_num_threads()
        self.failures: dict[str, dict[str, str]] = {
            model["label"]: dict(job["failures"].get(model["label"], {})) for model in job["models"]
        }
        self.measured: dict[str, dict[str, float]] = {}
        self.quiet: dict[str, Any] = {"before": [], "during": {}}
        self.gpu: dict[str, Any] = {}
        self._turn = TurnFile(out)
        self._reported = float("-inf")

    def build_models(self) -> dict[str, Built]:
        """Return the models that can be built, by label."""
        models: dict[str, Built] = {}
        for entry in self.job["models"]:
            with self._step(entry["label"], BUILD) as wanted:
                if wanted:
                    models[entry["label"]] = build(self.job, entry)
        return models

    def count(self, models: Mapping[str, Built]) -> dict[str, dict[str, Any]]:
        """Return the counts of the models that can be counted, by label."""
        counts: dict[str, dict[str, Any]] = {}
        inputs = InputSpec.from_json(self.job["inputs"])
        for label, built in models.items():
            with self._step(label, COUNT) as wanted:
                if wanted:
                    counted = asdict(count(built.model, inputs))
                    counts[label] = counted | {"outputs": outputs(built.model, inputs)}
        return counts

    def time(self, models: Mapping[str, Built], device: str, batch: int, threads: int | None) -> pd.DataFrame:
        """Time every model in every precision and runtime, interleaved, and return the samples."""
        protocol, reference = self.protocol, self.job["reference"]
        torch.set_num_threads(threads or self.threads)
        places = protocol.dimensions.variants(device, batch, threads)
        name = places[0].name
        subjects = [
            (label, place) for place in places for label in models if place.name not in self.failures[label]
        ]
        timing: Timing[Subject]
        try:
            inputs = example(self.job, batch, device)
        except (RuntimeError, MemoryError) as error:
            timing = Timing(failures=dict.fromkeys(subjects, failure(error)))
        else:
            before = self._gpu_state(device)
            timing = time_calls(
                {
                    (label, place): partial(prepare, models[label].model, inputs, place, models[label].trial)
                    for label, place in subjects
                },
                timer=cuda_timer() if device == "cuda" else cpu_timer,
                protocol=protocol,
                references=[subject for subject in subjects if subject[0] == reference],
                on_warm_up=self._on_warm_up,
                on_turn=self._on_turn,
            )
            self._turn.clear()
            if before is not None:
                self.gpu[name] = {"before": before, "after": self._gpu_state(device)}
        if timing.quietness is not None:
            self.quiet["during"][name] = timing.quietness.as_json()
        self.emit({"event": "passed", "step": name})
        for (label, place), reason in timing.failures.items():
            self.failures[label][place.name] = reason
        return _frame(timing)

    def take_energy(self, models: Mapping[str, Built], device: str, batch: int) -> None:
        """Take the energy of every model, one after the other, in eager mode and fp32."""
        torch.set_num_threads(self.threads)
        for label, built in models.items():
            with self._step(label, energy_step(device, batch)) as wanted:
                if not wanted:
                    continue
                # Whether there is a counter comes first: without one nothing is run.
                counter = Gpu().joules if device == "cuda" else Rapl()
                finish: Callable[[], None] = torch.cuda.synchronize if device == "cuda" else lambda: None
                inputs = example(self.job, batch, device)
                call = prepare(built.model, inputs, Place(device, batch), built.trial)

                def run(call: Call = call) -> None:
                    restore(call)
                    call()

                with torch.inference_mode():
                    used = joules_per_example(run, batch, counter, finish=finish)
                self.measured.setdefault(label, {})[energy_name(device, batch)] = used

    @contextmanager
    def _step(self, label: str, step: str) -> Iterator[bool]:
        """Report a step and record why it failed; yield whether it is to be tried."""
        wanted = step not in self.failures[label]
        if wanted:
            self.emit({"event": "step", "label": label, "step": step})
        try:
            with foreign(label):
                yield wanted
        except Exception as error:
            self.failures[label][step] = failure(error)

    def _on_warm_up(self, subject: Subject) -> None:
        label, place = subject
        self.emit({"event": "step", "label": label, "step": place.name})

    def _on_turn(self, subject: Subject, round_: int, rounds: int) -> None:
        label, place = subject
        self._turn.write(label, place.name)
        now = time.monotonic()
        if now - self._reported >= _SECONDS_BETWEEN_REPORTS:
            self._reported = now
            self.emit({"event": "round", "step": place.name, "round": round_ + 1, "rounds": rounds})

    def _gpu_state(self, device: str) -> dict[str, Any] | None:
        if device != "cuda":
            return None
        try:
            return Gpu().state()
        except UserError as error:
            return {"unknown": str(error)}


def _frame(timing: Timing[Subject]) -> pd.DataFrame:
    rows = [
        {
            "model": turn.subject[0],
            "place": turn.subject[1].name,
            "device": turn.subject[1].device,
            "batch": turn.subject[1].batch,
            "threads": torch.get_num_threads(),
            "precision": turn.subject[1].precision,
            "runtime": turn.subject[1].runtime,
            "round": turn.round,
            "ms": ms,
        }
        for turn in timing.turns
        for ms in turn.ms
    ]
    return pd.DataFrame(rows, columns=list(SAMPLE_COLUMNS))


def main() -> None:
    """Read the job that the command line names, measure it, and report on the original standard output."""
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    # Whatever a model prints, from Python or from C, must not mix with the reports.
    os.dup2(2, 1)

    def emit(event: dict[str, Any]) -> None:
        channel.write(json.dumps(event) + "\n")
        channel.flush()

    emit({"event": "ready"})
    measure_job(read_json(Path(sys.argv[1])), Path(sys.argv[2]), emit)
