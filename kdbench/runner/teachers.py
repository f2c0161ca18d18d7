"""Teachers: each is trained once, or loaded from its checkpoint, and shared by every suite that names it.

A teacher lives in the *teacher store*, by default the folder ``teachers`` beside the run directory, under the
id that is a hash of its dataset, model, recipe and seed. A run copies its files, so that
it can be read alone. Assistants, which a teacher teaches before they teach, live there too.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import filelock
import torch
from torch import nn

from kdbench.errors import UserError
from kdbench.methods import Distiller, Pair
from kdbench.methods.scratch import Scratch
from kdbench.models import load_checkpoint
from kdbench.plan import TeacherPlan
from kdbench.progress import Progress, Steps
from kdbench.runner.predictions import ByTask, read_predictions, write_files
from kdbench.runner.records import COHORT_MEMORY, nonzero, now, parameter_counts, training_time
from kdbench.runner.scores import score_predictions
from kdbench.runner.session import Fitted, Session
from kdbench.store import RunDirectory
from kdbench.training.cohort import train
from kdbench.training.precision import resolve
from kdbench.training.seeds import derive
from kdbench.training.trainee import Trainee, Tutor

# A teacher that is right less than this many times as often as chance teaches nothing.
NEAR_CHANCE = 1.5


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
        UserError: where its training diverged, or its checkpoint does not fit.
    """
    shelf = RunDirectory(store)
    folder = shelf.folder("teachers", plan.id)
    weights = folder / "teacher.safetensors"
    folder.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(folder / ".lock"):
        record = shelf.record("teachers", plan.id)
        if record is None or not weights.is_file():
            tutor = obtain(plan.lesson.tutor, session, run, store, progress) if plan.lesson else None
            _make(plan, tutor, session, shelf, progress)
            record = shelf.record("teachers", plan.id)
    assert record is not None
    if record["provenance"]["data_checksum"] != session.data.checksum:
        raise UserError(
            f"teacher '{plan.label}' was trained on other data under the name "
            f"'{session.dataset_label}': delete {folder} to train it again."
        )
    model = session.build(plan.entry)
    load_checkpoint(model, weights)
    if run.record("teachers", plan.id) is None:
        _copy(folder, run.folder("teachers", plan.id))
        _report(plan, record["metrics"], session, progress)
    seconds = record["durations"]["train_seconds"] or 0.0
    return Teacher(plan, model.eval(), read_predictions(folder, session.data.outputs), seconds)


def _first_weights(plan: TeacherPlan) -> int:
    """Return the seed of a teacher's first weights; generations of one model start from different ones."""
    return (
        derive("assistant", plan.id) if plan.lesson else derive("teacher", plan.entry.name, plan.entry.seed)
    )


def _make(
    plan: TeacherPlan, tutor: Teacher | None, session: Session, shelf: RunDirectory, progress: Progress
) -> None:
    started = now()
    torch.manual_seed(_first_weights(plan))
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
        scores = score_predictions(predictions, session.labels, None, without_best=without_best)
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
    write_files(
        folder,
        stem="teacher",
        last=model.state_dict(),
        best=best.weights if best else None,
        predictions=predictions,
        labels=session.labels,
        history=trainee.history if trainee else (),
    )
    # The record lists the files beside it.
    (folder / "checkpoint.pt").unlink(missing_ok=True)
    shelf.write_record(
        "teachers",
        {
            "id": plan.id,
            "role": "assistant" if tutor else "teacher",
            "status": "ok",
            "reason": None,
            "dataset": session.dataset_label,
            "teacher": plan.label,
            "student": None,
            "method": None,
            "method_name": None,
            "seed": plan.entry.seed,
            "cohort": None,
            "config": plan.config,
            "metrics": scores.metrics,
            "reasons": scores.reasons,
            "tables": scores.tables,
            "best_epoch": best.epoch if best else None,
            "epochs": plan.recipe.epochs if trainee else None,
            "durations": {"train_seconds": trainee.train_seconds if trainee else None},
            "provenance": session.provenance(plan.recipe, started),
        },
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
        distiller: Distiller = plan.lesson.registered.distiller(plan.lesson.hyper, plan.lesson.pair)
        distiller.prepare(session.networks(Fitted(plan.entry, model, plan.taps), tutor.fitted()))
    else:
        shapes = plan.shapes
        alone = Pair(plan.label, plan.label, shapes, shapes, session.data.num_classes, same_architecture=True)
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
        raise UserError(f"teacher '{plan.label}' {trainee.failure}. Lower its lr, or set clip_norm.")
    return trainee


def _copy(source: Path, target: Path) -> None:
    """Copy a teacher's files into a run, the record last."""
    target.mkdir(parents=True, exist_ok=True)
    for file in sorted(source.glob("*"), key=lambda file: file.name == "record.json"):
        if file.name.startswith(".") or (target / file.name).exists():
            continue
        shutil.copyfile(file, target / f".{file.name}.partial")
        (target / f".{file.name}.partial").replace(target / file.name)


def _report(plan: TeacherPlan, metrics: dict[str, float], session: Session, progress: Progress) -> None:
    top1 = metrics["top1"]
    progress.note(f"teacher {plan.label}: top-1 {top1:.2%} on {len(session.data.test.labels):,} test images")
    chance = 1 / session.data.num_classes
    if top1 < NEAR_CHANCE * chance:
        progress.warn(
            f"teacher {plan.label} is near chance ({top1:.1%}, chance is {chance:.1%}): wrong checkpoint, "
            "class order or normalisation? Students cannot learn from it."
        )
