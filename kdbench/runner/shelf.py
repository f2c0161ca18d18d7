"""The teacher store: where it lies, how a run takes a teacher from it, what is said of one that is new."""

from __future__ import annotations

import shutil
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from kdbench.code.foreign import foreign
from kdbench.errors import UserError
from kdbench.heads import PRIMARY
from kdbench.metrics import catalogue
from kdbench.plan import Loading, Node
from kdbench.progress import Progress
from kdbench.runner.doubts import class_order, near_chance, telling_split
from kdbench.runner.finishing import NodeFailed, NotFinite, one_line
from kdbench.runner.finiteness import not_finite
from kdbench.runner.predictions import read_predictions
from kdbench.runner.session import Session
from kdbench.store import RUNS, TRACEBACK, Record, RunDirectory, replacing, write_atomic
from kdbench.store.record import HOMES


def default_store(run: Path) -> Path:
    """Return where a run keeps teachers if nothing else is said: in the folder ``runs``, else in itself.

    So runs in ``runs`` share their teachers, and nothing is left beside a run directory elsewhere.
    """
    return run.parent if run.parent.resolve() == RUNS.resolve() else run


@contextmanager
def explained(node: Node, folder: Path) -> Iterator[None]:
    """Turn what ends the making of a node into one line, with the traceback kept in its folder."""
    place = folder / TRACEBACK
    place.unlink(missing_ok=True)
    what = "teacher" if node.role != "student" else "network"
    try:
        with foreign(f"{what} '{node.label}'"):
            yield
    except UserError:
        raise
    except NotFinite as failure:
        raise not_finite(node, failure.broken) from failure
    except NodeFailed as failure:
        if failure.traceback:
            write_atomic(place, failure.traceback)
            raise UserError(
                f"{what} '{node.label}' failed: {failure.reason}. The traceback is in {place}."
            ) from failure
        raise UserError(
            f"{what} '{node.label}' {failure.reason}. Lower its lr, or set clip_norm."
        ) from failure
    except Exception as error:
        write_atomic(place, traceback.format_exc())
        raise UserError(
            f"{what} '{node.label}' failed: {one_line(error) or 'no message'}. The traceback is in {place}."
        ) from error


def copied(record: Record, shelf: RunDirectory, run: RunDirectory) -> None:
    """Copy a node's files into a run, the record last; a run that is its own store has them."""
    target = run.folder(record.id)
    if target.is_dir() and target.samefile(shelf.folder(record.id)):
        return
    for name in record.files:
        with shelf.recorded_file(record, name).open("rb") as source, replacing(target / name) as copy:
            shutil.copyfileobj(source, copy)
    run.write(replace(record, home=HOMES[0]))


def tell(node: Node, record: Record, shelf: RunDirectory, session: Session, progress: Progress) -> None:
    """Say how good a new teacher is, and what speaks against it."""
    data, target = session.data, session.target
    value, title = record.metrics[target.headline] or 0.0, catalogue(target)[target.headline].title
    progress.note(f"teacher {node.label}: {title} {value:.2%} on {len(data.test.labels):,} test images")
    if isinstance(node.step, Loading) and target.exclusive:
        split = telling_split(data)
        logits = vars(read_predictions(shelf, record, [PRIMARY])[PRIMARY])[split]
        order = class_order(logits, session.labels[PRIMARY][split], data.classes)
        if order:
            progress.warn(f"teacher {node.label}: {order.text}")
            return
    if doubt := near_chance(value, target.chance(data.test.labels, data.num_classes)):
        progress.warn(f"teacher {node.label} {doubt} Students cannot learn from it.")
