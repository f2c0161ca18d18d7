"""A finished node as a model again: its record says what to build, its weights lie beside the record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from torch import nn

from kdbench.code.factory import has_changed
from kdbench.data import load_entry
from kdbench.errors import UserError, nearest
from kdbench.inputs import IMAGE, InputSpec
from kdbench.machine import versions
from kdbench.methods.compressor import find_step
from kdbench.methods.restructuring import Decided, finished, restructured
from kdbench.models import build_model, load_checkpoint
from kdbench.models.foreign import give_own_input
from kdbench.models.registry import is_foreign
from kdbench.models.trial import try_out
from kdbench.store import DECISION, RUNS, Record, RunDirectory, read_json
from kdbench.store.record import HOMES
from kdbench.suite import Suite, folder_of_paths
from kdbench.suite.references import located, opened
from kdbench.suite.schema import DatasetEntry, ModelEntry


@dataclass(frozen=True)
class TrainedStudent:
    """What a node deploys: the model in evaluation mode on the CPU, its weights loaded, and its card.

    ``card`` says what a user of the model needs: input, normalisation, classes, and where it comes from.
    """

    id: str
    model: nn.Module
    inputs: InputSpec
    card: dict[str, Any]
    entry: ModelEntry
    decisions: tuple[Decided, ...] = ()

    def fresh(self) -> nn.Module:
        """Return another model of the same architecture, with fresh weights."""
        built = _build(self.entry, self.inputs, outputs_of(self.card))
        return finished(*restructured(built, self.decisions))


def find_cell(cell: str, run: Path | None = None) -> tuple[RunDirectory, str]:
    """Return the run directory and the id of a node that is given as ``RUN/nodes/ID`` or by its id.

    By its id it is looked for in ``run``, or in every run of the folder ``runs``.

    Raises UserError where it is not found, with the nearest id, or is found in more than one run.
    """
    path = Path(cell)
    if path.parent.name in HOMES:
        return _planned(RunDirectory.open(path.parents[1]), path.name)
    if run is not None:
        return _planned(RunDirectory.open(run), cell)
    runs = [RunDirectory(file.parent) for file in sorted(RUNS.glob("*/run.json"))]
    if not runs:
        raise UserError(f"there is no run in {RUNS}/ to look for cell '{cell}' in: name one with --run.")
    holders = [directory for directory in runs if cell in _nodes(directory)]
    if not holders:
        raise _unknown(cell, runs)
    if len(holders) > 1:
        names = ", ".join(str(directory.path) for directory in holders)
        raise UserError(f"cell '{cell}' is in several runs ({names}): name one with --run.")
    return holders[0], cell


def _nodes(directory: RunDirectory) -> list[str]:
    """Return the ids of a run's cells and of what they rest on."""
    manifest = directory.manifest()
    return [*manifest["cells"], *manifest["teachers"], *directory.supporting_ids()]


def _planned(directory: RunDirectory, cell: str) -> tuple[RunDirectory, str]:
    if cell in _nodes(directory):
        return directory, cell
    if directory.record(cell) is not None:
        raise UserError(
            f"cell '{cell}' is of an earlier plan of {directory.path}: run the suite as it was then, which "
            "trains nothing that is finished."
        )
    raise _unknown(cell, [directory])


def _unknown(cell: str, runs: Sequence[RunDirectory]) -> UserError:
    cells = {id: None for directory in runs for id in directory.manifest()["cells"]}
    hint = nearest(cell, cells) or " 'kdbench plan SUITE --json' and results.csv of the run list the ids."
    return UserError(f"unknown cell '{cell}' in {', '.join(str(run.path) for run in runs)}.{hint}")


def trained_student(
    directory: RunDirectory, cell: str, *, best: bool = False, data_root: Path | None = None
) -> TrainedStudent:
    """Build the model that a node deploys, and load its weights.

    Args:
        directory: the run.
        cell: the node's id.
        best: take the weights of the epoch that was best on validation instead of the last.
        data_root: where the dataset is, for a run whose ``run.json`` does not hold its normalisation.

    Raises:
        UserError: for a node that is not finished, failed or was skipped; weights that are not there, as in
            a published run; and code of a user's own that has changed since the node was made.
    """
    record = directory.record(cell)
    if record is None:
        raise UserError(f"cell '{cell}' of {directory.path} is not finished: run its suite again.")
    if record.status != "ok":
        raise UserError(f"cell '{cell}' has no model, it is {record.status}: {record.reason}.")
    file = weights_file(directory, record, best=best)
    manifest = directory.manifest()
    inputs = InputSpec.recorded(manifest)
    folder = folder_of_paths(directory.path)
    entry, decisions = recipe_of(directory, record, folder)
    model, compressors = restructured(_build(entry, inputs, outputs_of(manifest)), decisions)
    load_checkpoint(model, file)
    normalisation = manifest.get("normalisation") or _normalisation(record, data_root, folder)
    card = _card(record, manifest, normalisation, best)
    return TrainedStudent(cell, finished(model, compressors).eval(), inputs, card, entry, decisions)


def weights_file(directory: RunDirectory, record: Record, *, best: bool = False) -> Path:
    """Return the file of a node's weights; raises UserError where it is not there, or not as recorded."""
    name = record.weights(best=best)
    if name is None or not directory.holds(record, name):
        apart = best and not record.best_epoch
        why = "they were not kept apart" if apart else "a published run has none"
        where = directory.path / record.place / (name or f"weights{'_best' if best else ''}.safetensors")
        raise UserError(
            f"there are no weights at {where} ({why}): train the cell again by running "
            f"{directory.path / 'suite.yaml'} with another --out."
        )
    return directory.recorded_file(record, name)


def recipe_of(
    directory: RunDirectory, record: Record, folder: Path | None
) -> tuple[ModelEntry, tuple[Decided, ...]]:
    """Return how a node's network is made: the model that is built, and the decisions applied to it."""
    decisions: list[Decided] = []
    config = record.config
    model = config.get("student") or config["model"]
    _refuse_changed(model, _entry(model, folder))
    node: Record | None = record
    while node is not None:
        if DECISION in node.files:
            method = _compressor(directory, node.config)
            hyper = {name: value for name, value in node.config["method"].items() if name != "name"}
            content = read_json(directory.recorded_file(node, DECISION))
            decisions.insert(0, Decided(method, hyper, content))
        before, node = node.start, directory.record(node.start) if node.start else None
        if before and node is None:
            raise UserError(
                f"{directory.path} lacks node '{before}', which '{record.id}' begins from: run its suite "
                "again."
            )
    if "network" in config:
        network = config["network"] | {"args": opened(config["network"]["args"], folder)}
        return ModelEntry.placed(network, folder), tuple(decisions)
    return _of_first_schema(directory, record, folder) or _entry(model, folder), tuple(decisions)


def _of_first_schema(directory: RunDirectory, record: Record, folder: Path | None) -> ModelEntry | None:
    """Return the network that a method keeps in the student's place, which schema 1 did not record."""
    if record.home == HOMES[0]:
        return None
    tutor = directory.record(record.taught_by) if record.origin and record.taught_by else None
    step = find_step(_method_name(directory, record.config)) if tutor else None
    if step is None or tutor is None or not step.trains or not step.distiller.has_own_network():
        return None
    student, teacher = (_entry(model, folder) for model in (record.config["student"], tutor.config["model"]))
    hyper = step.parameters(**{k: v for k, v in record.config["method"].items() if k != "name"})
    fields = step.distiller.network(hyper, student.opened(), teacher.opened())
    return student.beside(**fields) if fields else None


def outputs_of(content: Mapping[str, Any]) -> int:
    """Return how many logits a run's models give, from its manifest or a model's card."""
    return len(content["classes"]) + sum(map(len, content.get("heads", {}).values()))


def _build(entry: ModelEntry, inputs: InputSpec, classes: int) -> nn.Module:
    model = build_model(entry.reference, inputs=inputs, num_classes=classes, args=entry.args)
    # What is exported shall leave the inputs of whoever runs it alone.
    if is_foreign(entry.name) and try_out(model, inputs).changes_input:
        give_own_input(model)
    return model


def _entry(config: Mapping[str, Any], folder: Path | None) -> ModelEntry:
    """Return the entry that a recorded model had in its suite."""
    fields = {"name": config["name"], "args": config["args"], "taps": config.get("taps")}
    return ModelEntry.placed(fields, folder)


def _refuse_changed(config: Mapping[str, Any], entry: ModelEntry) -> None:
    """Raise UserError where the code of a user's own model is no longer the one that was trained."""
    if config.get("source") and has_changed(entry.reference, config["source"]):
        raise UserError(
            f"the code of model '{config['name']}' has changed since the cell was trained: restore the file, "
            "for the weights belong to the old code."
        )


def _method_name(directory: RunDirectory, config: Mapping[str, Any]) -> str:
    """Return the name of a node's method; that of a user's own code as its reference in the run's suite."""
    name, fingerprint = config["method"]["name"], config.get("method_source")
    if fingerprint is None:
        return name
    links = (link for entry in Suite.load(directory.path / "suite.yaml").methods for link in entry.links)
    for link in links:
        if ":" in link.name:
            reference = located(link.name, link.folder)
            step = find_step(reference)
            if (step.name, step.fingerprint) == (name, fingerprint):
                return reference
    raise UserError(f"the code of method '{name}' has changed since the cell was trained: restore the file.")


def _compressor(directory: RunDirectory, config: Mapping[str, Any]) -> str:
    """Return the name of a compressor whose parameters are those that were recorded."""
    name = _method_name(directory, config)
    step = find_step(name)
    try:
        step.parameters(**{key: value for key, value in config["method"].items() if key != "name"})
    except ValidationError as error:
        raise UserError(
            f"what was recorded does not fit the parameters of method '{step.name}' "
            f"({error.errors()[0]['msg']}): export it with the kdbench that made it."
        ) from error
    return name


def _normalisation(record: Record, data_root: Path | None, folder: Path | None) -> dict[str, Any]:
    """Return mean and deviation of the training images, read again."""
    config = {name: value for name, value in record.config["dataset"].items() if name != "source"}
    dataset = DatasetEntry.placed(config, folder)
    data = load_entry(dataset, root=data_root)
    if data.checksum != record.provenance["data_checksum"]:
        raise UserError(
            f"the data of '{dataset.name}' is not what cell '{record.id}' was trained on, and its "
            "run.json does not hold the normalisation: name the right folder with --data-root."
        )
    return {"mean": list(data.mean), "std": list(data.std)}


def _described(inputs: InputSpec) -> str:
    """Return what a model takes, in words."""
    image = "(batch, channels, height, width): (pixels / 255 - mean) / std, channel by channel"
    texts = {
        name: f"{field.dtype} {image if name == IMAGE else ('batch', *field.shape)}"
        for name, field in inputs.fields.items()
    }
    several = "; ".join(f"{name} {text}" for name, text in texts.items())
    return f"a mapping of {several}" if len(texts) > 1 else next(iter(texts.values()))


def _card(
    record: Record, manifest: Mapping[str, Any], normalisation: Mapping[str, Any], best: bool
) -> dict[str, Any]:
    inputs = InputSpec.recorded(manifest)
    headline, heads = manifest.get("headline", "top1"), manifest.get("heads")
    return {
        "input": _described(inputs),
        **inputs.as_recorded(),
        **normalisation,
        "output": "logits, float32 (batch, classes)" + (", then those of each head" if heads else ""),
        "classes": manifest["classes"],
        **({"heads": heads} if heads else {}),
        **{name: getattr(record, name) for name in ("dataset", "teacher", "student", "method", "seed")},
        "epoch": record.best_epoch if best else record.epochs,
        headline: record.metrics[f"{headline}_best_val" if best else headline],
        "cell": record.id,
        "suite": manifest["suite"],
        "kdbench": versions()["kdbench"],
    }
