"""One node made by itself: loaded, trained alone or by its teacher, or compressed; then finished."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from kdbench.inputs import Inputs, changed, examples
from kdbench.methods.restructuring import applied, as_decided
from kdbench.plan import Compression, Node
from kdbench.progress import Progress, Steps
from kdbench.runner.assembly import first_network, trainee_of
from kdbench.runner.finishing import Finishing, Product
from kdbench.runner.networks import Network, Ready
from kdbench.runner.records import COHORT_MEMORY, now
from kdbench.runner.scores import Scores
from kdbench.runner.session import Session
from kdbench.shared_state import kept_settings
from kdbench.store import DECISION, Record, RunDirectory, canonical_json, write_recorded
from kdbench.training.cohort import train
from kdbench.training.evaluation import BATCH
from kdbench.training.seeds import derive, reseed
from kdbench.training.trainee import Trainee

# At most so many training examples, evenly spaced, are shown to a compressor that asks for calibration.
CALIBRATION = 512


@dataclass(frozen=True)
class Bench:
    """What nodes are made with: the data, the finish, and the ways to nodes that were made before.

    ``network`` gives a network of the caller's own, to go on from; ``teacher`` one that all who learn from it
    share; ``obtain`` sees to it that a node is made.
    """

    session: Session
    finishing: Finishing
    progress: Progress
    network: Callable[[Node], Network]
    teacher: Callable[[Node], Ready]
    obtain: Callable[[Node], object]


def make(node: Node, bench: Bench, shelf: RunDirectory) -> Record:
    """Make a node and return its record.

    Raises NodeFailed where its training failed or it is not made of numbers, and what user's code raises.
    """
    product = begun(node, bench, shelf)
    alone = Scores({COHORT_MEMORY.name: None}, {COHORT_MEMORY.name: "it is taken of cohorts of students"})
    finishing = bench.finishing
    title = f"evaluating {'teacher ' if node.role != 'student' else ''}{node.label}"
    checkpoint = shelf.folder(node.id) / "checkpoint.pt"
    try:
        with Steps(bench.progress, title, finishing.passes(product), "pass") as steps:
            return finishing.finish(product, shelf, alone, steps.step)
    finally:
        checkpoint.unlink(missing_ok=True)


def begun(node: Node, bench: Bench, shelf: RunDirectory) -> Product:
    """Return a node whose step is done, but which is not evaluated yet."""
    started = now()
    if isinstance(node.step, Compression):
        return _compressed(node, bench, shelf, started)
    network = bench.network(node.start) if node.start else first_network(node, bench.session)
    trainee, share = None, 1.0
    if node.recipe:
        trainee = _trained(node, network, bench, shelf)
        seconds = trainee.train_seconds + (trainee.tutor.seconds if trainee.tutor else 0.0)
        share = trainee.train_seconds / seconds if seconds else 1.0
    return Product(node, network, started, trainee, share=share)


def _trained(node: Node, network: Network, bench: Bench, shelf: RunDirectory) -> Trainee:
    session, progress, recipe = bench.session, bench.progress, node.recipe
    assert recipe is not None
    teacher = bench.teacher(node.teacher) if node.teacher else None
    trainee = trainee_of(
        node, session, network, teacher.fitted() if teacher else None, teacher.tutor() if teacher else None
    )
    progress.begin(f"{'teacher ' if node.role != 'student' else ''}{node.label}", recipe.epochs, "epoch")
    train(
        [trainee],
        session.train,
        session.validation,
        seed=derive(*node.batches),
        checkpoint=shelf.folder(node.id) / "checkpoint.pt",
        on_epoch=lambda epoch, _: progress.advance(epoch),
    )
    progress.end(f"{trainee.train_seconds:.0f} s")
    return trainee


def _compressed(node: Node, bench: Bench, shelf: RunDirectory, started: str) -> Product:
    """Decide about the network that a node starts from, keep the decision, and apply it."""
    step, start = node.step, node.start
    assert isinstance(step, Compression) and start is not None
    network = bench.network(start)
    compressor = step.compressor(step.hyper)
    network.model.eval()
    reseed("compressor", node.id)
    with kept_settings():
        # It looks at a copy, and what it decides is what will be read back.
        looked_at = copy.deepcopy(network.model)
        shown = _shown(compressor.data, node, bench.session)
        decision = as_decided(compressor, compressor.decide(looked_at, shown))
        files = write_recorded(shelf.folder(node.id) / DECISION, canonical_json(decision))
        model = applied(compressor, network.model, decision)
    model = model.to(bench.session.device)
    return Product(node, Network(model, (*network.compressors, compressor)), started, files=files)


def _shown(data: str, node: Node, session: Session) -> Iterator[Inputs]:
    """Yield the training images that a compressor asks for."""
    if data == "training":
        yield from (x for x, _, _ in session.train.ordered(BATCH))
    elif data == "calibration":
        step, seen = -(-len(session.train) // CALIBRATION), 0
        for x, _, _ in session.train.ordered(BATCH):
            count, first = examples(x), -seen % step
            seen += count
            if first < count:
                yield changed(x, lambda tensor, first=first: tensor[first::step])  # type: ignore[misc]
