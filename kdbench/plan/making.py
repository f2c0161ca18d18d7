"""From what a suite says of one model and one method to its node, with everything that it begins from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kdbench.methods import Pair, Refusal, check_pair, find_method
from kdbench.methods.heads import check_heads, pair_in
from kdbench.models.index import Sketch
from kdbench.plan.identity import ENGINE, dataset_config, method_config, model_config
from kdbench.plan.nodes import Node
from kdbench.plan.recipes import overridden
from kdbench.plan.refusals import fault_of_link, in_chain
from kdbench.plan.sketch import Sketches
from kdbench.plan.steps import Compression, Loading, Step, Training
from kdbench.plan.variants import Link, Variant
from kdbench.store import content_id
from kdbench.store.record import Role
from kdbench.suite import Suite
from kdbench.suite.references import opened
from kdbench.suite.schema import TEACHER, ModelEntry, OptimizerFields, Recipe, TeacherEntry

RANDOM_TEACHER = "random_teacher"


@dataclass(frozen=True)
class Made:
    """The node of one student and method, and why it cannot be made, where it cannot."""

    node: Node
    refusal: str | None


class Maker:
    """Makes the nodes of a suite; one that several chains begin from is made once."""

    def __init__(
        self, suite: Suite, sketches: Sketches, classes: int, heads: Mapping[str, int], target: str
    ) -> None:
        """Take the suite, its models, and how many classes its labels have."""
        self._suite = suite
        self._sketches = sketches
        self._classes = classes
        self._heads = heads
        self._target = target
        self._dataset = dataset_config(suite.dataset)
        self._known: dict[str, Node] = {}

    def teacher(self, entry: TeacherEntry) -> Node:
        """Return the node of a teacher: loaded from its checkpoint, or trained alone."""
        recipe = overridden(Recipe, self._suite.recipe, entry, "teacher")
        sketch = self._sketches.of("teacher", entry)
        config = self._config(
            model=model_config(entry, sketch),
            seed=entry.seed,
            recipe=None if entry.checkpoint else recipe.model_dump(mode="json"),
        )
        step: Training | Loading
        if entry.checkpoint:
            step = Loading(entry.checkpoint)
        else:
            scratch = find_method("scratch")
            pair = self._pair((entry.shown, sketch), (entry.shown, sketch))
            step = Training(scratch, scratch.parameters(), recipe, pair)
        return self._node("teacher", entry.shown, entry, sketch, step, entry.seed, config)

    def look_at(self, student: ModelEntry) -> None:
        """Raise UserError where a student cannot be built; the teacher's own network is known."""
        if student.name != TEACHER:
            self._sketches.of("student", student)

    def student(
        self, teacher: Node, entry: ModelEntry, variant: Variant, seed: int, *, shuffled: bool = False
    ) -> Made:
        """Return what a method, or a chain of them, makes of a student."""
        recipe = overridden(OptimizerFields, self._suite.recipe, entry, "student")
        node: Node | None = None
        refusal: str | None = None
        if entry.name == TEACHER:
            entry, node = _shown_as(teacher.entry, entry.shown), teacher
        elif entry.checkpoint and not variant.links[0].registered.trains:
            node = self._loaded(teacher, entry, seed)
        for place, link in enumerate(variant.links):
            refusal = refusal or in_chain(variant, place, fault_of_link(variant, place, node))
            if not link.registered.trains:
                node = self._compressed(teacher, entry, link, node, seed)
                continue
            random = shuffled and link.registered.distiller.uses_teacher
            node, fault = self._trained(teacher, entry, link, node, seed, recipe, random)
            refusal = refusal or in_chain(variant, place, fault)
        assert node is not None
        return Made(node, refusal)

    def _trained(
        self,
        teacher: Node,
        entry: ModelEntry,
        link: Link,
        start: Node | None,
        seed: int,
        recipe: Recipe,
        shuffled: bool,
    ) -> tuple[Node, str | None]:
        """Return a student that trains, its assistants before it, and what speaks against it."""
        registered = link.registered
        distiller, hyper = registered.distiller, link.hyper
        sketch = start.sketch if start else self._sketches.of("student", entry)
        config = self._config(
            teacher=teacher.id,
            student=model_config(entry, sketch),
            **method_config(registered, hyper),
            recipe=recipe.model_dump(mode="json"),
            seed=seed,
        )
        if start:
            config |= {"start": start.id, **_network_in(start)}
        if shuffled:
            config["control"] = RANDOM_TEACHER
        tutor, fault = teacher, None
        pair = self._pair((teacher.label, teacher.sketch), (entry.shown, sketch))
        try:
            check_pair(distiller, hyper, pair)
            check_heads(distiller, hyper, pair, self._heads)
            for name in distiller.assistants(hyper, entry.shown):
                own = entry if name == entry.shown else entry.beside(name)
                used = recipe if own is entry else self._suite.recipe
                tutor = self._assistant(teacher, tutor, own, used, link, seed)
                pair = self._pair((tutor.label, tutor.sketch), (entry.shown, sketch))
                check_pair(distiller, hyper, pair)
        except Refusal as reason:
            fault = str(reason)
        if tutor is not teacher:
            config["tutor"] = tutor.id
        own_network = distiller.network(hyper, entry, tutor.entry)
        kept = start.entry if start else entry
        if own_network and start and not fault:
            fault = "it builds a network around a student with fresh weights: it can only begin a chain"
        elif own_network and not fault:
            label = f"{entry.shown} by {registered.name}"
            args = opened(own_network["args"], entry.folder)
            kept = entry.beside(**own_network | {"args": args}, label=label)
            sketch = self._sketches.of("student", kept, distiller.network_shapes(hyper, pair))
            pair = self._pair((tutor.label, tutor.sketch), (entry.shown, sketch))
            config["network"] = {"name": kept.name, "args": own_network["args"]}
        node = self._node(
            "student",
            f"{entry.shown} by {registered.name}",
            kept,
            sketch,
            Training(registered, hyper, recipe, pair, shuffled),
            seed,
            config,
            start=start,
            teacher=tutor,
            origin=teacher,
        )
        return node, fault

    def _assistant(
        self, teacher: Node, tutor: Node, entry: ModelEntry, recipe: Recipe, link: Link, seed: int
    ) -> Node:
        """Return a model that is taught by the method itself, to teach in its turn."""
        registered = link.registered
        sketch = self._sketches.of("assistant", entry)
        pair = self._pair((tutor.label, tutor.sketch), (entry.shown, sketch))
        check_pair(registered.distiller, link.hyper, pair)
        config = self._config(
            teacher=tutor.id,
            model=model_config(entry, sketch),
            **method_config(registered, link.hyper),
            recipe=recipe.model_dump(mode="json"),
            seed=seed,
        )
        return self._node(
            "assistant",
            f"{entry.shown} taught by {tutor.label}",
            entry,
            sketch,
            Training(registered, link.hyper, recipe, pair),
            seed,
            config,
            teacher=tutor,
            origin=teacher,
        )

    def _loaded(self, teacher: Node, entry: ModelEntry, seed: int) -> Node:
        """Return a student with the weights of its checkpoint."""
        assert entry.checkpoint is not None
        sketch = self._sketches.of("student", entry)
        config = self._config(teacher=teacher.id, student=model_config(entry, sketch))
        return self._node(
            "student", entry.shown, entry, sketch, Loading(entry.checkpoint), seed, config, origin=teacher
        )

    def _compressed(
        self, teacher: Node, entry: ModelEntry, link: Link, start: Node | None, seed: int
    ) -> Node:
        """Return what a compressor makes of a trained network."""
        registered = link.registered
        kept = start.entry if start else entry
        sketch = start.sketch if start else self._sketches.of("student", entry)
        config = self._config(
            teacher=teacher.id,
            student=model_config(entry, sketch),
            start=start.id if start else None,
            **method_config(registered, link.hyper),
            **(_network_in(start) if start else {}),
        )
        return self._node(
            "student",
            f"{entry.shown} by {registered.name}",
            kept,
            sketch,
            Compression(registered, link.hyper),
            start.seed if start and start.role == "student" else seed,
            config,
            start=start,
            origin=teacher,
        )

    def _pair(self, teacher: tuple[str, Sketch], student: tuple[str, Sketch]) -> Pair:
        (their_name, theirs), (my_name, mine) = teacher, student
        whole = Pair(
            teacher=their_name,
            student=my_name,
            teacher_shapes=theirs.shapes,
            student_shapes=mine.shapes,
            num_classes=self._classes,
            same_architecture=theirs.weights == mine.weights,
            target=self._target,
        )
        return pair_in(whole, self._classes)

    def _config(self, **fields: Any) -> dict[str, Any]:
        return {"engine": ENGINE, "dataset": self._dataset, **fields}

    def _node(
        self,
        role: Role,
        label: str,
        entry: ModelEntry,
        sketch: Sketch,
        step: Step,
        seed: int,
        config: dict[str, Any],
        **before: Node | None,
    ) -> Node:
        """Return the node of a configuration, the one that was made of it before if there is any."""
        node = Node(content_id(config), role, label, entry, sketch, step, seed, config, **before)
        return self._known.setdefault(node.id, node)


def _shown_as(entry: ModelEntry, label: str) -> ModelEntry:
    """Return a model without its weights, under another label."""
    return entry.model_copy(update={"label": label, "checkpoint": None})


def _network_in(start: Node) -> dict[str, Any]:
    """Return what a record says of a network that a method has built in the student's place."""
    return {name: start.config[name] for name in ("network",) if name in start.config}
