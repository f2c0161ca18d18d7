"""The sources of datasets by name; a file in ``kdbench/data/sources`` registers itself here."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kdbench.data.dataset import Description, Extent, Raw
from kdbench.data.options import Options
from kdbench.errors import UserError, nearest, refuse, unknown
from kdbench.registry import Registry
from kdbench.suite.references import is_there, located, misplaced
from kdbench.suite.schema import DatasetEntry

ROOT_VARIABLE = "KDBENCH_DATA"
MODULE_FACTORY = "package.module:factory"
FILE_FACTORY = "path/file.py:factory"


@dataclass(frozen=True)
class Request:
    """One dataset as a suite asks for it: ``reference`` is what follows the colon in ``folder:PATH``.

    ``base`` is the folder that it is relative to, None the current one. ``heads`` are the columns of labels
    that are asked for beside its own. ``fault`` is told of each part of the data that cannot be used; it
    raises UserError, unless all of them are to be found: what can be used is loaded then. ``download``: what
    is not there may be fetched.
    """

    name: str
    reference: str
    root: Path | None
    split_seed: int
    options: Options
    heads: tuple[str, ...] = ()
    base: Path | None = None
    fault: Callable[[str], None] = refuse
    download: bool = True

    def data_root(self) -> Path:
        """Return the folder that holds the named datasets; raises UserError where none was given."""
        if self.root is None:
            raise UserError(
                f"dataset {self.name} needs a data root: give --data-root or set {ROOT_VARIABLE}."
            )
        return self.root

    def folder(self) -> Path:
        """Return the folder that ``reference`` names, below ``base`` or else below the data root."""
        path = Path(self.reference).expanduser()
        places = (self.base, self.root)
        candidates = [path if place is None else place / path for place in places[: 1 + bool(self.root)]]
        for candidate in candidates:
            if candidate.is_dir():
                return candidate
        if problem := misplaced(self.reference, self.base):
            raise UserError(f"dataset {self.name}: {problem}.")
        looked = " or ".join(str(candidate) for candidate in dict.fromkeys(candidates))
        raise UserError(f"dataset {self.name}: there is no folder {looked}. Check the path or --data-root.")


Further = Callable[[Request], Mapping[str, tuple[str, ...]]]


@dataclass(frozen=True)
class Source:
    """One way to get a dataset: what lists show of it, and the functions that describe and load it.

    ``describe`` is a constant where the source is one fixed dataset, a function where it must look,
    None where only loading tells, and so is ``extent``. ``options`` names the arguments of this source
    alone; None passes every argument on to ``load``. ``further`` returns the classes of the further
    heads that a request asks for, None where the source has one column of labels only. ``classes`` returns
    the names of its own without reading an image, None where only loading tells. ``remarks`` gives what a
    person should know of the data, such as what is left out, None where there is nothing of the kind.
    """

    name: str
    title: str
    reference: str
    load: Callable[[Request], Raw]
    describe: Description | Callable[[Request], Description] | None
    extent: Extent | Callable[[Request], Extent] | None
    options: tuple[str, ...] | None
    further: Further | None = None
    classes: Callable[[Request], tuple[str, ...]] | None = None
    remarks: Callable[[Request], Iterator[str]] | None = None


SOURCES: Registry[Source] = Registry("data source", home="kdbench.data.sources")


def source(
    name: str,
    *,
    title: str,
    reference: str = "",
    describe: Description | Callable[[Request], Description] | None = None,
    extent: Extent | Callable[[Request], Extent] | None = None,
    options: tuple[str, ...] | None = (),
    further: Further | None = None,
    classes: Callable[[Request], tuple[str, ...]] | None = None,
    remarks: Callable[[Request], Iterator[str]] | None = None,
) -> Callable[[Callable[[Request], Raw]], Callable[[Request], Raw]]:
    """Register the decorated function as the source ``name``; ``kind:PATH`` takes all names ``kind:...``."""

    def register(load: Callable[[Request], Raw]) -> Callable[[Request], Raw]:
        entry = Source(name, title, reference, load, describe, extent, options, further, classes, remarks)
        SOURCES.add(name, entry, load)
        return load

    return register


def dataset_sources() -> dict[str, Source]:
    """Return every source by the name that a suite writes: the fixed datasets first, then the patterns."""
    sources = SOURCES.all()
    return {name: sources[name] for name in sorted(sources, key=lambda name: (":" in name, name))}


def resolve(
    name: str,
    *,
    root: Path | None,
    split_seed: int,
    args: Mapping[str, Any],
    heads: tuple[str, ...] = (),
    base: Path | None = None,
    fault: Callable[[str], None] = refuse,
    download: bool = True,
) -> tuple[Source, Request]:
    """Return the source of a dataset's name, and the checked request to give it.

    Paths are relative to ``base``. Without ``root`` the environment variable KDBENCH_DATA names the data
    root. Raises UserError for an unknown name or argument, and for further heads of a source that has none.
    """
    chosen, reference = _find(name)
    if heads and chosen.further is None:
        having = [entry.name for entry in dataset_sources().values() if entry.further]
        raise UserError(
            f"dataset.heads: {name} has one column of labels only; use one of {', '.join(having)}, "
            "or leave heads out."
        )
    if root is None and os.environ.get(ROOT_VARIABLE):
        root = Path(os.environ[ROOT_VARIABLE])
    root = root.expanduser() if root is not None else None
    if root is not None:
        there = next(place for place in (root, *root.absolute().parents) if is_there(place))
        if not there.is_dir():
            raise UserError(
                f"the data root {root} is no folder, for {there} is none: give another --data-root."
            )
    reference = located(reference, base) if chosen.name in (MODULE_FACTORY, FILE_FACTORY) else reference
    options = Options.parse(args, chosen.options)
    return chosen, Request(
        name, reference, root, split_seed, options, heads, base=base, fault=fault, download=download
    )


def resolve_entry(entry: DatasetEntry, root: Path | None, **setting: Any) -> tuple[Source, Request]:
    """Return source and request of a suite's dataset; ``setting`` are further arguments of ``resolve``."""
    return resolve(
        entry.name,
        root=root,
        split_seed=entry.split_seed,
        args=entry.args,
        heads=tuple(entry.heads),
        base=entry.folder,
        **setting,
    )


def _find(name: str) -> tuple[Source, str]:
    sources = dataset_sources()
    kind, colon, reference = name.partition(":")
    if not colon:
        if name in sources and ":" not in name:
            return sources[name], ""
        raise unknown("dataset", name, sources)
    patterns = {key.partition(":")[0]: entry for key, entry in sources.items() if key.endswith(":PATH")}
    if kind in patterns:
        if not reference:
            raise UserError(f"dataset '{name}' names no folder: write {kind}:PATH.")
        return patterns[kind], reference
    left = name.rpartition(":")[0]
    if left.endswith(".py"):
        return sources[FILE_FACTORY], name
    # A misspelt 'folder' would otherwise be reported as a module that cannot be imported.
    if nearest(kind, patterns) and kind.isidentifier() and importlib.util.find_spec(kind) is None:
        raise unknown("kind of dataset", kind, patterns)
    return sources[MODULE_FACTORY], name
