"""Teachers: each is trained once, or loaded from its checkpoint, and shared by every suite that names it.

A teacher lives in the *teacher store*, a folder ``teachers``, under the id that is a hash of its dataset,
model, recipe and seed. The runs of the folder ``runs`` share ``runs/teachers``; any other run keeps its
teachers in itself, unless it is given a store. A run copies what it takes from a store, so that
it can be read alone. Assistants, which a teacher teaches before they teach, live there too.
"""

from __future__ import annotations

import shutil
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import filelock
from torch import nn

from kdbench.errors import SharedFault, UserError
from kdbench.heads import PRIMARY, name_in
from kdbench.methods import Distiller, Pair
from kdbench.methods.distillers.scratch import Scratch
from kdbench.metrics import catalogue
from kdbench.models import load_checkpoint
from kdbench.plan import TeacherPlan
from kdbench.progress import Progress, Steps
from kdbench.runner.assembly import own_teacher
from kdbench.runner.doubts import class_order, near_chance, telling_split
from kdbench.runner.finiteness import broken_logits, broken_weight, refuse_not_finite
from kdbench.runner.predictions import ByTask, Predictions, read_predictions, write_files
from kdbench.runner.records import COHORT_MEMORY, label, nonzero, now, parameter_counts, training_time
from kdbench.runner.scores import score_predictions
from kdbench.runner.session import Fitted, Session
from kdbench.shared_state import kept_settings, seed_streams
from kdbench.store import PREDICTIONS, RUNS, TRACEBACK, RunDirectory, write_atomic
from kdbench.training.cohort import train
from kdbench.training.precision import resolve
from kdbench.training.seeds import derive
from kdbench.training.trainee import Trainee, Tutor


@dataclass
class Teacher:
    """A teacher that is ready: its model in evaluation mode on the device, and its logits by task."""

    plan: TeacherPlan
    model: nn.Module
    predictions: ByTask
    train_seconds: float

    def fitted(self) -> Fitted:
        """Return its model and taps as methods see them."""
        return Fitted(self.plan.entry, self.model, self.plan.taps)

    def tutor(self) -> Tutor:
        """Return it as the cohort engine takes it."""
        return Tutor(self.model, self.plan.taps)


def obtain(
    plan: TeacherPlan, session: Session, run: RunDirectory, store: Path, progress: Progress
) -> Teacher:
    """Return a teacher, trained or loaded if the store does not hold it yet, and copy it into the run.

    Raises:
        SharedFault: where its files were damaged, or are of other data.
        UserError: where its training failed, or its checkpoint does not fit.
    """
    shelf = RunDirectory(store)
    new = run.record("teachers", plan.id) is None
    folder = shelf.folder("teachers", plan.id)
    weights = folder / "teacher.safetensors"
    folder.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(folder / ".lock"):
        record = shelf.record("teachers", plan.id)
        if record is None or not weights.is_file():
            tutor = obtain(plan.lesson.tutor, session, run, store, progress) if plan.lesson else None
            with _explained(plan, folder):
                _make(plan, tutor, session, shelf, progress)
            record = shelf.record("teachers", plan.id)
    assert record is not None
    if record["provenance"]["data_checksum"] != session.data.checksum:
        raise SharedFault(
            f"teacher '{plan.label}' was trained on other data under the name "
            f"'{session.dataset_label}': delete {folder} to train it again."
        )
    model = session.build(plan.entry)
    load_checkpoint(model, shelf.recorded_file(record, weights.name))
    for task in session.data.outputs:
        shelf.recorded_file(record, name_in(task, PREDICTIONS))
    predictions = read_predictions(folder, session.data.outputs)
    refuse_not_finite(plan, model.state_dict(), predictions, folder)
    if new:
        _copy(record["files"], folder, run.folder("teachers", plan.id))
        label(plan, "teachers", run)
        _report(plan, record["metrics"], predictions[PRIMARY], session, progress)
    seconds = record["durations"]["train_seconds"] or 0.0
    return Teacher(plan, model.eval(), predictions, seconds)


def default_store(run: Path) -> Path:
    """Return where a run keeps teachers if nothing else is said: in the folder ``runs``, else in itself.

    So runs in ``runs`` share their teachers, and nothing is left beside a run directory elsewhere.
    """
    return run.parent if run.parent.resolve() == RUNS.resolve() else run


@contextmanager
def _explained(plan: TeacherPlan, folder: Path) -> Iterator[None]:
    """Turn what a teacher's own code raises into one line, with the traceback kept in its folder."""
    place = folder / TRACEBACK
    place.unlink(missing_ok=True)
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        write_atomic(place, traceback.format_exc())
        text = " ".join(str(error).split()) or "no message"
        raise UserError(
            f"teacher '{plan.label}' failed: {type(error).__name__}: {text}. The traceback is in {place}."
        ) from error


def _first_weights(plan: TeacherPlan) -> int:
    """Return the seed of a teacher's first weights; generations of one model start from different ones."""
    return (
        derive("assistant", plan.id) if plan.lesson else derive("teacher", plan.entry.name, plan.entry.seed)
    )


def _make(
    plan: TeacherPlan, tutor: Teacher | None, session: Session, shelf: RunDirectory, progress: Progress
) -> None:
    started = now()
    seed_streams(_first_weights(plan))
    model = session.build(plan.entry)
    folder = shelf.folder("teachers", plan.id)
    trainee = None
    if plan.entry.checkpoint and not plan.lesson:
        load_checkpoint(model, plan.entry.checkpoint)
        without_best = "the teacher was loaded from a checkpoint"
    else:
        without_best = "there is no validation split"
        trainee = _train(plan, tutor, model, session, folder, progress)
    best = trainee.best if trainee else None
    passes = session.passes(best is not None)
    with Steps(progress, f"evaluating teacher {plan.label}", passes + 1, "pass") as steps:
        predictions = session.predict_all(model, plan.taps, best.weights if best else None, steps.step)
        if broken_weight(model.state_dict()) or broken_logits(predictions):
            (folder / "checkpoint.pt").unlink(missing_ok=True)
            refuse_not_finite(plan, model.state_dict(), predictions)
        scores = score_predictions(
            predictions, session.labels, None, without_best=without_best, target=session.target
        )
        steps.step()
    training = training_time(
        trainee.train_seconds if trainee else None, 1.0, session.device, absent="its weights were loaded"
    )
    if trainee:
        # The networks of an assistant's lesson are counted with it.
        scores.add(parameter_counts(trainee), {})
    else:
        unknown = ("params_trainable", "params_training")
        kept = {"params_nonzero": nonzero(model.parameters()), "params_adapter": 0}
        scores.add({**kept, **dict.fromkeys(unknown)}, dict.fromkeys(unknown, "its weights were loaded"))
    scores.add(*training)
    scores.add({COHORT_MEMORY.name: None}, {COHORT_MEMORY.name: "it is taken of cohorts of students"})
    files = write_files(
        folder,
        stem="teacher",
        last=model.state_dict(),
        best=best.weights if best else None,
        predictions=predictions,
        labels=session.labels,
        target=session.target,
        history=trainee.history if trainee else (),
    )
    (folder / "checkpoint.pt").unlink(missing_ok=True)
    shelf.write_record(
        "teachers",
        {
            "id": plan.id,
            "role": "assistant" if tutor else "teacher",
            "status": "ok",
            "reason": None,
            "dataset": session.dataset_label,
            **plan.labels,
            "method_name": None,
            "cohort": None,
            "config": plan.config,
            "metrics": scores.metrics,
            "reasons": scores.reasons,
            "tables": scores.tables,
            "best_epoch": best.epoch if best else None,
            "epochs": plan.recipe.epochs if trainee else None,
            "durations": {"train_seconds": trainee.train_seconds if trainee else None},
            "provenance": session.provenance(plan.recipe, started, plan.entry),
        },
        files,
    )


def _train(
    plan: TeacherPlan,
    tutor: Teacher | None,
    model: nn.Module,
    session: Session,
    folder: Path,
    progress: Progress,
) -> Trainee:
    if plan.lesson and tutor:
        with kept_settings():
            distiller: Distiller = plan.lesson.registered.distiller(plan.lesson.hyper, plan.lesson.pair)
            looked_at = own_teacher(plan.lesson.registered, tutor.fitted())
            distiller.prepare(session.networks(Fitted(plan.entry, model, plan.taps), looked_at))
    else:
        looked_at = None
        shapes = plan.shapes
        alone = Pair(
            plan.label, plan.label, shapes, shapes, session.data.num_classes, True, session.data.target
        )
        distiller = session.distiller(lambda pair: Scratch(Scratch.Parameters(), pair), alone)
    trainee = Trainee(
        id=plan.id,
        model=model,
        taps=plan.taps,
        distiller=distiller,
        recipe=plan.recipe,
        device=session.device,
        precision=resolve(plan.recipe.precision, session.device),
        tutor=tutor.tutor() if tutor else None,
        own_teacher=looked_at.model if looked_at else None,
    )
    progress.begin(f"teacher {plan.label}", plan.recipe.epochs, "epoch")
    train(
        [trainee],
        session.train,
        session.validation,
        seed=derive("teacher", plan.entry.seed),
        checkpoint=folder / "checkpoint.pt",
        on_epoch=lambda epoch, _: progress.advance(epoch),
    )
    progress.end(f"{trainee.train_seconds:.0f} s")
    if trainee.failure:
        (folder / "checkpoint.pt").unlink(missing_ok=True)
        if trainee.traceback:
            write_atomic(folder / TRACEBACK, trainee.traceback)
            raise UserError(
                f"teacher '{plan.label}' failed: {trainee.failure}. The traceback is in {folder / TRACEBACK}."
            )
        raise UserError(f"teacher '{plan.label}' {trainee.failure}. Lower its lr, or set clip_norm.")
    return trainee


def _copy(names: Iterable[str], source: Path, target: Path) -> None:
    """Copy a teacher's files into a run, the record last; a run that is its own store has them."""
    target.mkdir(parents=True, exist_ok=True)
    if source.samefile(target):
        return
    for name in (*names, "record.json"):
        # What is not there any more stays listed, so that a check of the run tells of it.
        if (source / name).is_file():
            shutil.copyfile(source / name, target / f".{name}.partial")
            (target / f".{name}.partial").replace(target / name)


def _report(
    plan: TeacherPlan,
    metrics: dict[str, float],
    predictions: Predictions,
    session: Session,
    progress: Progress,
) -> None:
    data, target = session.data, session.target
    value, title = metrics[target.headline] or 0.0, catalogue(target)[target.headline].title
    progress.note(f"teacher {plan.label}: {title} {value:.2%} on {len(data.test.labels):,} test images")
    if plan.entry.checkpoint and not plan.lesson and target.exclusive:
        split = telling_split(data)
        logits, labels = vars(predictions)[split], session.labels[PRIMARY][split]
        order = class_order(logits, labels, data.classes)
        if order:
            progress.warn(f"teacher {plan.label}: {order.text}")
            return
    if doubt := near_chance(value, target.chance(data.test.labels, data.num_classes)):
        progress.warn(f"teacher {plan.label} {doubt} Students cannot learn from it.")
