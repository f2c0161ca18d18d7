"""The quality of one model on a dataset's test split, without a suite, with the data and metrics of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from kdbench.code.foreign import foreign
from kdbench.data import check_classes, describe_dataset, describe_heads, load_entry
from kdbench.errors import UserError
from kdbench.heads import PRIMARY, name_in
from kdbench.memory import checked_budget, default_budget
from kdbench.metrics import score
from kdbench.models import build_model, load_checkpoint
from kdbench.models.features import run_example
from kdbench.models.registry import source_of
from kdbench.plan import Plan
from kdbench.progress import Progress
from kdbench.runner.doubts import class_order, guessed_normalisation, near_chance, telling_split
from kdbench.runner.finiteness import broken_logits, broken_weight
from kdbench.runner.predictions import Predictions
from kdbench.runner.session import Device, Session, resolve_device
from kdbench.suite import describe_mistake
from kdbench.suite.schema import DatasetEntry, ModelEntry, Strict
from kdbench.suite.yaml_source import YamlSource
from kdbench.targets import find_target
from kdbench.temporary import temporary_folder
from kdbench.training.evaluation import BATCH, predict

# Below this headline another order of the classes is looked for, which takes a pass over more images.
LOW = 0.5


class Evaluation(Strict):
    """What is evaluated on what, in the words of a suite."""

    model: ModelEntry
    dataset: DatasetEntry

    @classmethod
    def parse(
        cls,
        model: str | Mapping[str, Any],
        dataset: str | Mapping[str, Any],
        checkpoint: str | Path | None = None,
        overrides: Sequence[str] = (),
    ) -> Evaluation:
        """Check a request; raises UserError that names the field and what is allowed."""
        parts = {"model": model, "dataset": dataset}
        value: dict[str, Any] = {
            key: {"name": part} if isinstance(part, str) else dict(part) for key, part in parts.items()
        }
        if checkpoint is not None:
            value["model"]["checkpoint"] = str(checkpoint)
        source = YamlSource(Path("evaluate"), value, None)
        for override in overrides:
            source.override(override)
        try:
            return cls.model_validate(source.value)
        except ValidationError as error:
            raise UserError(describe_mistake(error, source)) from None


def evaluate(
    model: str | Mapping[str, Any],
    dataset: str | Mapping[str, Any],
    *,
    checkpoint: str | Path | None = None,
    overrides: Sequence[str] = (),
    data_root: Path | None = None,
    device: Device = "auto",
    memory_budget: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Return how good a model with given weights is on the test split of a dataset, in one pass over it.

    >>> import kdbench
    >>> found = kdbench.evaluate("resnet20", "cifar10", checkpoint="resnet20.pth")  # doctest: +SKIP
    >>> found["top1"], found["nll"], found["ece"]  # doctest: +SKIP

    Args:
        model: any name that a suite accepts, or its fields: ``{"name": "my.py:net", "args": {"width": 16}}``.
        dataset: likewise: ``{"name": "folder:pets", "args": {"size": 32, "mean": [0.5, 0.5, 0.5]}}``.
        checkpoint: the file of the weights; may be left out only where the model is a user's own function,
            which may bring its weights.
        overrides: ``key=value`` pairs such as ``dataset.args.limit_test=1000``; values are YAML.
        data_root: the folder that holds datasets.
        device: where to compute.
        memory_budget: bytes that the images may take, half of the free memory by default.
        progress: is told what happens.

    The result holds ``top1``, ``top5`` (None for up to five classes), ``nll`` (nats) and ``ece`` as
    `kdbench.metrics` defines them, or of another target its ``figures``, those of further heads under names
    that begin with theirs; ``target`` and ``headline``, the metric that leads; ``params``;
    the number of ``examples`` and ``classes``; ``normalisation``; ``class_order``, the order of classes that
    explains a low accuracy, where there is one; ``reasons`` for what is None; and ``remarks``, what a person
    should know. The training split is read too: mean and deviation are its where the dataset's ``args``
    give none.

    Raises:
        UserError: for a request that cannot be carried out, weights that do not fit, and weights or logits
            that are not finite.
    """
    asked = Evaluation.parse(model, dataset, checkpoint, overrides)
    target = resolve_device(device)
    progress = progress or Progress()
    budget = default_budget(target.type) if memory_budget is None else checked_budget(memory_budget)
    remarks = []
    if asked.model.checkpoint is None:
        if source_of(asked.model.reference) is None:
            raise UserError(
                f"model '{asked.model.shown}' has fresh weights without a checkpoint, and their quality says "
                "nothing: name their file with --checkpoint."
            )
        remarks.append("no checkpoint was given: the weights are those that the model's own function gave it")
    remarks += _fitting(asked, data_root)
    with temporary_folder("kdbench-evaluate-") as scratch:
        data = load_entry(
            asked.dataset, root=data_root, memory_budget=budget, scratch=scratch, progress=progress
        )
        session = Session(asked.dataset, data, target)
        with foreign(f"model '{asked.model.shown}'"):
            return evaluated(asked.model, asked.dataset, session, progress, remarks)


def _fitting(asked: Evaluation, data_root: Path | None) -> tuple[str, ...]:
    """Return what is to tell of a checkpoint; raises UserError unless model, weights and data fit."""
    entry, dataset = asked.model, asked.dataset
    inputs, classes, target = describe_dataset(
        dataset.name, root=data_root, folder=dataset.folder, args=dataset.args
    )
    check_classes(dataset, classes, target=target, root=data_root)
    heads = describe_heads(
        dataset.name, tuple(dataset.heads), root=data_root, folder=dataset.folder, args=dataset.args
    )
    outputs = classes + sum(map(len, heads.values()))
    try:
        model = build_model(entry.reference, inputs=inputs, num_classes=outputs, args=entry.args)
        logits = run_example(model, inputs).shape[1]
        if logits != outputs:
            raise UserError(f"it gives {logits} classes, the dataset has {outputs}.")
        return load_checkpoint(model, entry.checkpoint) if entry.checkpoint else ()
    except UserError as error:
        raise UserError(f"model '{entry.shown}': {error}") from None


def evaluated(
    entry: ModelEntry,
    dataset: DatasetEntry,
    session: Session,
    progress: Progress,
    remarks: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the result of `evaluate` for a model of which is known that it fits the data of a session.

    Raises UserError that names its first tensor that is not finite, which a run would refuse too.
    """
    model, data, target = session.build(entry), session.data, session.target
    _refuse(entry, broken_weight(model.state_dict()))
    progress.begin(f"evaluating {entry.shown}", -(-len(session.test) // BATCH), "batch")
    predictions = Predictions(predict(model, session.test, progress.advance)).by_head(data.outputs)
    progress.end()
    _refuse(entry, broken_logits(predictions, ("test",)))
    values: dict[str, float | None] = {}
    reasons: dict[str, str] = {}
    for head, predicted in predictions.items():
        named = target.tensors
        tensors = {named["logits"]: predicted.test, named["labels"]: session.labels[head]["test"]}
        of_head, why = score(tensors, only=target.figures, target=target)
        values |= {name_in(head, name): value for name, value in of_head.items()}
        reasons |= {name_in(head, name): text for name, text in why.items()}
    guess = guessed_normalisation(dataset, data) if entry.checkpoint else None
    said = [*remarks, guess] if guess else [*remarks]
    headline, order = values[target.headline], None
    if target.exclusive and headline is not None and headline < LOW:
        split = telling_split(data)
        logits = predict(model, session.validation if split == "validation" else session.train)
        order = class_order(logits[:, : data.num_classes], session.labels[PRIMARY][split], data.classes)
        said += [order.text] if order else []
    chance = target.chance(data.test.labels, data.num_classes)
    if order is None and headline is not None and (doubt := near_chance(headline, chance)):
        said.append(f"it {doubt}")
    return {
        "model": entry.shown,
        "checkpoint": None if entry.checkpoint is None else str(entry.checkpoint),
        "dataset": session.dataset_label,
        "split": "test",
        "examples": len(session.test),
        "classes": data.num_classes,
        "params": sum(parameter.numel() for parameter in model.parameters()),
        "target": target.name,
        "headline": target.headline,
        **values,
        "normalisation": {"mean": list(data.mean), "std": list(data.std)},
        "class_order": list(order.classes) if order else None,
        "device": session.device.type,
        "data_checksum": data.checksum,
        "reasons": reasons,
        "remarks": said,
    }


def _refuse(entry: ModelEntry, broken: str | None) -> None:
    if broken:
        where, mend = f" (checkpoint {entry.checkpoint})", "mend the checkpoint"
        if entry.checkpoint is None:
            where, mend = "", "mend the weights that its function gives it"
        raise UserError(f"model '{entry.shown}'{where}: {broken}; {mend}.")


def teacher_accuracies(
    plan: Plan, data_root: Path | None = None, device: Device = "auto", progress: Progress | None = None
) -> list[dict[str, Any]]:
    """Return the result of `evaluate` for each teacher of a plan that comes from a checkpoint.

    For one that a run will train the headline is None, with the reason.
    """
    progress = progress or Progress()
    rows: list[dict[str, Any]] = []
    session: Session | None = None
    on, headline = resolve_device(device), find_target(plan.target).headline
    entries = [(teacher.label, teacher.entry) for teacher in plan.teachers]
    entries += (
        (f"{other.label} (independent)", other.entry)
        for other in plan.idle_teachers
        if other.entry.checkpoint
    )
    with temporary_folder("kdbench-evaluate-") as scratch:
        for label, entry in entries:
            if entry.checkpoint is None:
                rows.append(
                    {
                        "model": label,
                        "headline": headline,
                        headline: None,
                        "reasons": {headline: "a run will train it"},
                        "remarks": [],
                    }
                )
                continue
            if session is None:
                dataset = plan.suite.dataset
                data = load_entry(
                    dataset,
                    root=data_root,
                    memory_budget=default_budget(on.type),
                    scratch=scratch,
                    progress=progress,
                )
                session = Session(dataset, data, on)
            with foreign(label):
                rows.append(evaluated(entry, plan.suite.dataset, session, progress) | {"model": label})
    return rows
