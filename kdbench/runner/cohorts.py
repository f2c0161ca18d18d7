"""A cohort being made: its students trained together, its other nodes made after them, each finished."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence

from kdbench.code.foreign import foreign
from kdbench.errors import SharedFault, UserError
from kdbench.memory import as_text
from kdbench.models.trial import passing
from kdbench.plan import Cell, Cohort, Node
from kdbench.progress import Steps
from kdbench.runner.assembly import Room, first_network, trainee_of
from kdbench.runner.cohort_memory import CohortMemory
from kdbench.runner.finishing import NodeFailed, Product, one_line
from kdbench.runner.making import Bench
from kdbench.runner.networks import Network, Ready
from kdbench.runner.records import now
from kdbench.runner.scores import Scores
from kdbench.store import RunDirectory, locked
from kdbench.store.record import Status
from kdbench.training.checkpoint import saved_ids
from kdbench.training.cohort import train
from kdbench.training.footprint import held_bytes, step_bytes
from kdbench.training.seeds import derive
from kdbench.training.trainee import Trainee, Tutor


class CohortRun:
    """One cohort being made."""

    def __init__(self, cohort: Cohort, bench: Bench, run: RunDirectory, memory_budget: int | None) -> None:
        """Take the cohort, what its nodes are made with, where they are recorded, and the memory."""
        self.cohort = cohort
        self.bench = bench
        self.session = bench.session
        self.progress = bench.progress
        self.run = run
        self.memory_budget = memory_budget
        self.checkpoint = run.inside("cohorts", f"{cohort.id}.pt")
        self._steps: dict[str, int] = {}
        self._waiting = 0

    def carry_out(self, refused: Sequence[Cell], pending: Sequence[Node]) -> None:
        """Make the pending nodes; those that a checkpoint holds go on from it, together."""
        for cell in refused:
            self._record_failure(cell.node, NodeFailed(cell.refusal or ""), now(), skipped=True)
        trained = [node for node in pending if node.recipe]
        self._waiting = len(trained)
        saved = saved_ids(self.checkpoint)
        begun = [node for node in trained if node.id in saved]
        fresh = [node for node in trained if node.id not in saved]
        if begun:
            self._train(begun, Room(None))
        # Also where none of its nodes is pending any more: the next part must not go on from it.
        self.checkpoint.unlink(missing_ok=True)
        while fresh:
            fresh = self._train(fresh, Room(self.memory_budget))
            self.checkpoint.unlink(missing_ok=True)
        for node in pending:
            if not node.recipe:
                self._make(node)

    def _make(self, node: Node) -> None:
        """Make a node that does not train, if none of the others needed it before."""
        started = now()
        try:
            self.bench.obtain(node)
        except SharedFault:
            raise
        except Exception as error:  # a compressor may be a user's own
            self._record_lineage(node, error, started)

    def _train(self, nodes: Sequence[Node], room: Room) -> list[Node]:
        """Train as many students together as there is room for, from the first; return the rest."""
        started = now()
        trainees: dict[Node, tuple[Trainee, Network]] = {}
        shared: dict[str, Tutor] = {}
        rest: list[Node] = []
        # What students learn and start from is made before: its memory is not the cohort's.
        tutors = self._tutors(nodes, started)
        peak = CohortMemory(self.session.device)
        x, _, _ = next(self.session.train.ordered(self.cohort.recipe.batch_size))
        for place, (node, teacher) in enumerate(tutors.items()):
            try:
                with foreign(node.label):
                    tutor = shared.setdefault(teacher.node.id, teacher.tutor())
                    start = node.start
                    network = self.bench.network(start) if start else first_network(node, self.session)
                    trainee = trainee_of(node, self.session, network, teacher.fitted(), tutor)
                    if node.entry.shown not in self._steps:
                        with passing(trainee.model):
                            self._steps[node.entry.shown] = step_bytes(trainee.model, x)
                admitted = room.admits(held_bytes(trainee), self._steps[node.entry.shown])
            except SharedFault:
                raise
            except Exception as error:  # a method or a model of the user's own may raise anything
                self._record_failure(node, _not_built(error), started)
                continue
            if not admitted:
                trainee.reader.close()
                rest = list(tutors)[place:]
                break
            trainees[node] = trainee, network
        del x  # not held while the cohort trains
        if not trainees:
            return rest
        if rest:
            self.progress.note(
                f"{len(trainees)} of {len(nodes)} students first: more do not fit into the memory budget of "
                f"{as_text(room.budget or 0)}"
            )
        self.progress.part(len(trainees), self._waiting)
        self.progress.begin(f"{len(trainees)} students", self.cohort.recipe.epochs, "epoch")
        train(
            [trainee for trainee, _ in trainees.values()],
            self.session.train,
            self.session.validation,
            seed=derive("cohort", self.cohort.seed),
            checkpoint=self.checkpoint,
            on_epoch=lambda epoch, active: self.progress.advance(epoch, _lost(active)),
        )
        self._finish(trainees, list(shared.values()), peak.scores, started)
        return rest

    def _tutors(self, nodes: Sequence[Node], started: str) -> dict[Node, Ready]:
        """Return the teacher of each node; one whose assistant or start cannot be made fails."""
        tutors = {}
        for node in nodes:
            assert node.teacher is not None
            try:
                if node.start:
                    self.bench.obtain(node.start)
                tutors[node] = self.bench.teacher(node.teacher)
            except SharedFault:
                raise
            except Exception as error:  # an assistant's method may be a user's own
                self._record_lineage(node, error, started)
        return tutors

    def _finish(
        self,
        trainees: dict[Node, tuple[Trainee, Network]],
        tutors: Sequence[Tutor],
        peak: Callable[[], Scores],
        started: str,
    ) -> None:
        """Evaluate and record the students that were trained together."""
        seconds = sum(trainee.train_seconds for trainee, _ in trainees.values())
        self.progress.end(f"{seconds:.0f} s of training")
        seconds += sum(tutor.seconds for tutor in tutors)
        memory = peak()
        finishing = self.bench.finishing
        products = [
            Product(node, network, started, trainee, share=trainee.train_seconds / seconds)
            for node, (trainee, network) in trainees.items()
        ]
        living = [product for product in products if trainees[product.node][0].failure is None]
        models = f"{len(living)} model{'' if len(living) == 1 else 's'}"
        total = sum(map(finishing.passes, living))
        with Steps(self.progress, f"evaluating {models}", total, "pass") as steps:
            for product in products:
                try:
                    with foreign(product.node.label):
                        finishing.finish(product, self.run, memory, steps.step)
                except UserError:
                    raise
                except NodeFailed as failure:
                    self._record_failure(product, failure, started)
                except Exception as error:  # a user's own method may also raise when it diagnoses
                    reason = f"could not be evaluated: {one_line(error)}"
                    self._record_failure(product, NodeFailed(reason, traceback.format_exc()), started)

    def _record_lineage(self, node: Node, error: Exception, started: str) -> None:
        """Record a node that cannot be built, and what was to be made for it and has no record yet."""
        for one in (*node.ancestors.values(), node):
            if one.role == "teacher":
                continue
            # Other processes may make what several nodes begin from.
            with locked(self.run.folder(one.id), wait=True):
                if self.run.record(one.id) is None:
                    self._record_failure(one, _not_built(error), started)

    def _record_failure(
        self, what: Product | Node, failure: NodeFailed, started: str, *, skipped: bool = False
    ) -> None:
        status: Status = "skipped" if skipped else "failed"
        self.bench.finishing.fail(what, self.run, failure, started, status)


def _not_built(error: Exception) -> NodeFailed:
    return NodeFailed(f"could not be built: {one_line(error)}", traceback.format_exc())


def _lost(trainees: Sequence[Trainee]) -> str:
    failed = sum(trainee.failure is not None for trainee in trainees)
    return f"{failed} failed" if failed else ""
