"""What every node goes through once its step is done: it is predicted, checked, scored and recorded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from kdbench.errors import in_words
from kdbench.methods import Method
from kdbench.plan import Loading, Node, Plan, Training
from kdbench.runner.amendments.own_metrics import OwnMetrics, own_metrics_key
from kdbench.runner.finiteness import broken_logits, broken_weight
from kdbench.runner.networks import Network, taps_of
from kdbench.runner.predictions import ByHead, write_files
from kdbench.runner.records import Scored, diagnosed, now, parameter_counts, training_time
from kdbench.runner.scores import Scores, SoftTargets, score_predictions, soft_targets_of
from kdbench.runner.session import Session
from kdbench.shared_state import kept_settings
from kdbench.store import TRACEBACK, Fingerprints, Record, RunDirectory, write_recorded
from kdbench.store.record import Status
from kdbench.training.seeds import reseed
from kdbench.training.trainee import DIVERGED, Trainee


class NodeFailed(Exception):
    """Raised where a node cannot be made: the reason in one line, and the traceback if there is one."""

    def __init__(self, reason: str, traceback: str | None = None) -> None:
        """Keep both."""
        super().__init__(reason)
        self.reason = reason
        self.traceback = traceback


class NotFinite(NodeFailed):
    """Raised where a network holds or gives something that is no number; ``broken`` names it."""

    def __init__(self, broken: str, epochs: int) -> None:
        """Take what is broken, and after how many epochs it was found."""
        super().__init__(f"{DIVERGED} {broken} after epoch {epochs}" if epochs else broken)
        self.broken = broken


@dataclass
class Product:
    """A node whose step is done: its network, and how it came to it.

    ``files`` lie beside the record already; ``share`` is the node's part of its cohort's training time.
    """

    node: Node
    network: Network
    started: str
    trainee: Trainee | None = None
    files: Fingerprints = field(default_factory=dict)
    share: float = 1.0


class Finishing:
    """Finishes nodes of a plan; what a node is compared with, and what came before it, is asked for."""

    def __init__(
        self,
        plan: Plan,
        session: Session,
        predictions_of: Callable[[Node], ByHead],
        seconds_of: Callable[[Node], float | None],
    ) -> None:
        """Take the ways to a teacher's predictions and to the training time of a finished node."""
        self._session = session
        self._predictions_of = predictions_of
        self._seconds_of = seconds_of
        self._methods = methods_of(plan)
        self._cohorts = {cell.id: cell.cohort for cell in plan.cells}
        self._labels = plan.labels
        self._recipe = plan.suite.recipe
        self._own_metrics = plan.own_metrics
        key = own_metrics_key(plan)
        self._amendments = {OwnMetrics.name: key} if key else {}

    def passes(self, product: Product) -> int:
        """Return how many passes over splits `finish` makes, and the scoring as one more."""
        best = product.trainee.best if product.trainee else None
        return self._session.passes(best is not None) + 1

    def finish(
        self, product: Product, run: RunDirectory, memory: Scores, on_pass: Callable[[], None]
    ) -> Record:
        """Predict, check and score a node, write its files and its record, and return it.

        Raises NodeFailed, with nothing recorded, where its training failed or it is not made of numbers.
        """
        node, trainee, session = product.node, product.trainee, self._session
        if trainee and trainee.failure is not None:
            raise NodeFailed(trainee.failure, trainee.traceback)
        best = trainee.best if trainee else None
        deployed = product.network.deployed()
        at_best = product.network.deployed(best.weights) if best else None
        predictions = session.predict_all(deployed, taps_of(node, deployed, session), at_best, on_pass)
        weights = product.network.model.state_dict()
        broken = broken_weight(weights) or broken_logits(predictions)
        if broken:
            raise NotFinite(broken, len(trainee.history) if trainee else 0)
        origin = self._predictions_of(node.origin) if node.origin else None
        scores = score_predictions(
            predictions,
            session.labels,
            origin,
            soft_targets=_soft_targets(node) if origin else None,
            without_best=self._without_best(node),
            target=session.target,
            own=self._own_metrics,
        )
        scores.add(*self._diagnostics(node, trainee))
        scores.add(*parameter_counts(deployed, trainee, absent=_untrained(node)))
        scores.add(*self._training_time(product))
        scores.add(memory.metrics, memory.reasons)
        files = product.files | write_files(
            run.folder(node.id),
            last=weights,
            best=best.weights if best else None,
            predictions=predictions,
            labels=session.labels,
            history=trainee.history if trainee else (),
            target=session.target,
        )
        record = self._record(product, "ok", scores=scores, files=files)
        run.write(record)
        on_pass()
        return record

    def fail(
        self,
        product: Product | Node,
        run: RunDirectory,
        failure: NodeFailed,
        started: str | None = None,
        status: Status = "failed",
    ) -> None:
        """Record a node that failed, with the traceback of the exception if one was the reason."""
        if isinstance(product, Node):
            product = Product(product, None, started or now())  # type: ignore[arg-type]
        files = {}
        if failure.traceback:
            files = write_recorded(run.folder(product.node.id) / TRACEBACK, failure.traceback)
        run.write(self._record(product, status, reason=failure.reason, files=files))

    def _record(
        self,
        product: Product,
        status: Status,
        *,
        reason: str | None = None,
        scores: Scores | None = None,
        files: Fingerprints | None = None,
    ) -> Record:
        node, trainee, scores = product.node, product.trainee, scores or Scores()
        recipe = node.recipe or self._recipe
        return Record(
            id=node.id,
            status=status,
            reason=reason,
            dataset=self._session.dataset_label,
            **(self._labels.get(node.id) or node.labels),
            method_name=None if node.role == "teacher" else _step_name(node),
            cohort=self._cohorts.get(node.id),
            config=node.config,
            origin=node.origin.id if node.origin else None,
            taught_by=node.teacher.id if node.teacher else None,
            start=node.start.id if node.start else None,
            metrics=scores.metrics,
            reasons=scores.reasons,
            tables=scores.tables,
            amendments=self._amendments if status == "ok" else {},
            best_epoch=trainee.best.epoch if trainee and trainee.best else None,
            epochs=node.recipe.epochs if node.recipe else None,
            durations={"train_seconds": trainee.train_seconds if trainee else None},
            provenance=self._session.provenance(recipe, product.started, node.entry),
            files=files or {},
        )

    def _diagnostics(self, node: Node, trainee: Trainee | None) -> Scored:
        """Return the numbers that only some methods have; for the others they are null with the reason."""
        own: dict[str, float] = {}
        if trainee and node.origin:
            reseed("diagnose", node.id)
            with kept_settings():
                own = trainee.distiller.diagnose(trainee.model, trainee.teacher, self._session.held_out_loss)
        return diagnosed(self._methods, own, _step_name(node) if node.origin else "a teacher")

    def _without_best(self, node: Node) -> str:
        if isinstance(node.step, Training):
            headline = self._session.target.headline
            validated = len(self._session.validation) > 0
            return f"{headline} has no value on validation" if validated else "there is no validation split"
        if isinstance(node.step, Loading):
            return f"the {node.role} was loaded from a checkpoint"
        return "a compressor has no epochs"

    def _training_time(self, product: Product) -> Scored:
        """Return how long the node trained, with all that it was made from but its teacher's own making."""
        node, trainee = product.node, product.trainee
        before = [self._seconds_of(other) for other in node.own_trainings if other is not node]
        own = [trainee.train_seconds] if trainee else []
        known = [seconds for seconds in (*before, *own) if seconds is not None]
        return training_time(
            sum(known) if known else None,
            product.share if trainee else None,
            self._session.device,
            absent=_untrained(node),
        )


def methods_of(plan: Plan) -> Sequence[Method]:
    """Return the methods that a plan's cells train by, each once."""
    steps = [cell.node.step for cell in plan.cells]
    trained = [step.method for step in steps if isinstance(step, Training)]
    return tuple({method.name: method for method in trained}.values())


def _step_name(node: Node) -> str:
    return "loading" if isinstance(node.step, Loading) else node.step.method.name


def _soft_targets(node: Node) -> SoftTargets:
    if isinstance(node.step, Training):
        assisted = node.teacher is not node.origin
        return soft_targets_of(node.step.method, node.step.hyper, assisted=assisted)
    return SoftTargets(None, f"{_step_name(node)} has no targets that soften the teacher's logits")


def _untrained(node: Node) -> str:
    return "its weights were loaded" if isinstance(node.step, Loading) else "it was not trained"


def one_line(error: Exception) -> str:
    """Return the type and the text of an exception on one line."""
    return f"{type(error).__name__}: {in_words(error)}"
