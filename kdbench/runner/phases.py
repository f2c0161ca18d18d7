"""The phases of a run and how long each takes: the time of one piece of the work, and how often it comes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch

from kdbench.data.corruptions import Corruption, corrupt, selected
from kdbench.efficiency.duration import least_further_seconds, least_timing_seconds
from kdbench.efficiency.places import DEVICES
from kdbench.inputs import IMAGE
from kdbench.metrics import score
from kdbench.plan import Node, Plan
from kdbench.runner.amendments.deployment import Deployments
from kdbench.runner.amendments.independent import MEASURES
from kdbench.runner.amendments.measurement import protocol_of
from kdbench.runner.clock import REPEATS, Clock
from kdbench.runner.predictions import ByHead, Predictions
from kdbench.runner.scores import score_predictions
from kdbench.runner.session import Session
from kdbench.suite.schema import ModelEntry

# As many images are corrupted for the estimate.
CORRUPTED = 64


@dataclass(frozen=True)
class Phase:
    """One phase of a run: about how long it takes, or ``least`` at least, and what that rests on."""

    name: str
    seconds: float
    basis: str
    least: bool = False

    def line(self) -> str:
        """Return what is said of it."""
        bound = "at least" if self.least else "about"
        return f"{self.name} takes {bound} {self.seconds / 60:.1f} minutes ({self.basis})."


def phases(plan: Plan, session: Session, clock: Clock) -> Iterator[Phase]:
    """Yield the phases that a suite asks for, in the order of the run.

    Training: for every step a forward pass of the teacher and a plain training step of every student, the
    teachers' and assistants' own training, and the validation after each epoch. Left out is what methods add
    (adapters, terms of features).
    """
    work = _Work(plan, session, clock)
    yield Phase(
        "Training", work.training(), f"{REPEATS} timed steps of every model; what methods add is left out"
    )
    yield Phase("Scoring", work.scoring(), "timed passes of every model, and random logits scored once")
    if plan.suite.measure.latency:
        protocol = protocol_of(plan.suite.measure)
        yield Phase("Measuring", work.measuring(), _measuring_basis(plan, protocol.min_seconds), least=True)
    else:
        yield Phase("Measuring", work.measuring(), "models are counted, nothing is timed", least=True)
    if plan.suite.controls.independent_teacher:
        trained = (
            f"{len(plan.idle_teachers)} further trainings" if plan.idle_teachers else "no further training"
        )
        yield Phase(
            "Independent teachers", work.independent(), f"{trained}, and logits compared for every model"
        )
    if plan.suite.robustness:
        yield Phase("Corruptions", work.corruptions(), f"{CORRUPTED} images corrupted, passes as in scoring")


def _measuring_basis(plan: Plan, seconds: float) -> str:
    protocol = protocol_of(plan.suite.measure)
    models, calls = (
        sum(len(Deployments(plan, teacher).by_label) for teacher in plan.teachers),
        protocol.min_samples,
    )
    places = len(protocol.dimensions.places(protocol.batch_sizes, _devices(protocol.devices)))
    return (
        f"the protocol: {models} models in {places} places, in each {calls} calls, {seconds:g} s and "
        "the warm-up at least; more where the machine is busy"
    )


def _devices(devices: Iterable[str]) -> list[str]:
    return [
        device for device in DEVICES if device in devices and (device == "cpu" or torch.cuda.is_available())
    ]


class _Work:
    """The work of a plan in seconds."""

    def __init__(self, plan: Plan, session: Session, clock: Clock) -> None:
        self._plan = plan
        self._session = session
        self._clock = clock
        self._cells = [cell for cell in plan.cells if not cell.refusal]
        self._sizes = {name: len(split) for name, split in self._splits().items()}

    def _splits(self) -> dict[str, torch.Tensor]:
        data = self._session.data
        return {"train": data.train.labels, "validation": data.validation.labels, "test": data.test.labels}

    def training(self) -> float:
        alone = (node for node in self._plan.nodes.values() if node.role != "student")
        idle = {node.id for node in self._plan.idle_teachers}
        total = sum(self._training_of(node) for node in alone if node.id not in idle)
        for cohort in self._plan.cohorts:
            batch, epochs = cohort.recipe.batch_size, cohort.recipe.epochs
            steps = self._sizes["train"] / batch * epochs
            trained = [node.entry for node in cohort.nodes if node.recipe]
            if trained:
                total += steps * self._clock.teach(cohort.teacher.entry, batch)
            for entry in trained:
                total += steps * self._clock.step(entry, batch)
                total += epochs * self._passes(entry, "validation")
        return total

    def _training_of(self, node: Node) -> float:
        recipe = node.recipe
        if recipe is None:
            return 0.0
        step = self._clock.step(node.entry, recipe.batch_size)
        if node.teacher:
            step += self._clock.teach(node.teacher.entry, recipe.batch_size)
        steps = self._sizes["train"] / recipe.batch_size * recipe.epochs
        return steps * step + recipe.epochs * self._passes(node.entry, "validation")

    def _passes(self, entry: ModelEntry, *splits: str) -> float:
        """Return how long a model takes to go over splits in evaluation mode."""
        batch = self._plan.suite.recipe.batch_size
        return sum(self._sizes[split] for split in splits) / batch * self._clock.predict(entry, batch)

    def _evaluation(self, node: Node) -> float:
        # The epoch that was best on validation goes over both held-out splits as well.
        best = ("test", "validation") if self._sizes["validation"] and node.recipe else ()
        return self._passes(node.entry, "test", "train", "validation", *best)

    def scoring(self) -> float:
        idle = {node.id for node in self._plan.idle_teachers}
        scored = [node for node in self._plan.nodes.values() if node.id not in idle]
        passes = sum(map(self._evaluation, scored))
        labels, mine, theirs = self._session.labels, self._random(), self._random()
        once = self._clock.of(
            lambda: score_predictions(
                mine,
                labels,
                theirs,
                without_best="there is no validation split",
                target=self._session.target,
            ),
            1,
        )
        return passes + len(scored) * once

    def _random(self) -> ByHead:
        outputs = sum(self._plan.outputs.values())
        logits = {name: torch.randn(size, outputs) for name, size in self._sizes.items() if size}
        best = {f"{name}_best": logits[name] for name in ("test", "validation") if "validation" in logits}
        features = self._cells[0].node.sketch.shapes.pooled
        pooled = torch.randn(min(self._sizes["test"], 10_000), features[0]) if features else None
        return Predictions(**logits, **best, pooled=pooled).by_head(self._session.data.outputs)

    def measuring(self) -> float:
        protocol = protocol_of(self._plan.suite.measure)
        devices = _devices(protocol.devices)
        start = self._clock.process_start()
        total = 0.0
        for models in (Deployments(self._plan, teacher).by_label for teacher in self._plan.teachers):
            latencies = [
                1000 * self._latency(deployed.entry, place.batch)
                for deployed in models.values()
                for place in protocol.dimensions.places(protocol.batch_sizes, devices)
            ]
            total += least_timing_seconds(protocol, latencies)
            total += least_further_seconds(protocol, len(models), len(devices), start)
        return total

    def _latency(self, entry: ModelEntry, batch: int) -> float:
        """Return how long a batch takes; a larger one than that of training so many times as long."""
        most = self._plan.suite.recipe.batch_size
        return self._clock.predict(entry, min(batch, most)) * max(1.0, batch / most)

    def independent(self) -> float:
        total = 0.0
        for teacher in self._plan.idle_teachers:
            total += self._training_of(teacher) + self._evaluation(teacher)
        test, labels = self._random()[""], self._session.data.test.labels
        tensors = {"logits": test.test, "teacher_logits": test.test, "labels": labels}
        once = self._clock.of(lambda: score(tensors, only=MEASURES), 1)
        return total + len(self._plan.compared) * once

    def corruptions(self) -> float:
        entry = self._plan.suite.robustness
        assert entry is not None
        examples = min(entry.examples or self._sizes["test"], self._sizes["test"])
        chosen = selected(entry.references)
        shifts = 1 + len(chosen) * len(entry.severities)
        entries = [node.entry for node in self._plan.compared.values()]
        shown = sum(self._passes(model, "test") for model in entries) / self._sizes["test"] * examples
        channels, height, width = self._session.data.inputs.fields[IMAGE].shape
        images = torch.randint(256, (CORRUPTED, height, width, channels), dtype=torch.uint8)
        one = self._corrupting(images.to(self._session.device), chosen, max(entry.severities))
        # Once for a teacher and once for each of its cohorts.
        groups = len(self._plan.teachers) + len(self._plan.cohorts)
        return shifts * shown + groups * len(entry.severities) * one / CORRUPTED * examples

    def _corrupting(self, images: torch.Tensor, kinds: Sequence[Corruption], severity: int) -> float:
        """Return how long it takes to corrupt images once in each way."""

        def call() -> None:
            for kind in kinds:
                corrupt(images, kind, severity)

        return self._clock.of(call, 1)
