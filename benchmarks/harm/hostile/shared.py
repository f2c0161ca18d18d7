"""Run directories of others: links out of them, names that lead out of them, documents made to do harm.

Whoever makes such a directory can seal what it holds, so all of these documents are sealed.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from harm.finished import read
from harm.fixtures import RUN, Fixtures
from harm.surroundings import EXECUTED
from harm.trial import OUTSIDE, Prepare, Trial
from kdbench.store.files import digest

READING = (("check", RUN), ("compare", RUN), ("report", RUN, "--rescore"), ("report", RUN))
ANY = (0, 1, 2)
CODE = f"import pathlib\npathlib.Path('{OUTSIDE}/{EXECUTED}').touch()\ndef make(**words): return None\n"
# From a node's folder, and from the run, to a folder that is somebody else's.
UPWARDS = "../../../victim/x"
VALUES: dict[str, Any] = {
    "null": None,
    "a text": "\x1b[2J<script>alert(1)</script>\n|",
    "a path": UPWARDS,
    "a large number": 1e308,
    "an integer of 400 digits": 10**400,
    "minus 1": -1,
    "a list": [[], {}],
    "a mapping": {"x": {"y": []}, UPWARDS: 1},
}


def sealed(file: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a document and seal it again."""
    content = read(file)
    assert content is not None
    content.pop("sha256", None)
    change(content)
    seal = digest(json.loads(json.dumps(content)))
    file.write_text(json.dumps(content | {"sha256": seal}, allow_nan=False))


def node(run: Path, *, role: str = "student") -> Path:
    """Return the folder of the first node of a role."""
    records = sorted(run.glob("nodes/*/record.json"))
    return next(file.parent for file in records if (read(file) or {}).get("role") == role)


def _run(work: Path, fixtures: Fixtures) -> Path:
    return Path(shutil.copytree(fixtures.finished.work / RUN, work / RUN))


def _changed(name: str, change: Callable[[Path, dict[str, Any]], object]) -> Prepare:
    """Return what copies the run and changes one of its documents, which is sealed again."""

    def prepare(work: Path, fixtures: Fixtures) -> None:
        run = _run(work, fixtures)
        (file,) = (
            list(run.glob(name))[:1]
            if "*" in name
            else [node(run) / name if name == "record.json" else run / name]
        )
        sealed(file, lambda content: change(run, content))

    return prepare


def _set(field: str, value: Any) -> Callable[[Path, dict[str, Any]], object]:
    *parts, last = field.split("/")

    def change(run: Path, content: dict[str, Any]) -> None:
        place: Any = content
        for part in parts:
            place = place[int(part) if part.isdigit() else part]
        place[int(last) if last.isdigit() else last] = value

    return change


def _moved(at: str) -> Prepare:
    """Return what puts a node where its id leads to, below the run, and its id into the plan."""

    def prepare(work: Path, fixtures: Fixtures) -> None:
        run = _run(work, fixtures)
        folder = node(run)
        sealed(folder / "record.json", lambda content: content.update(id=at))
        sealed(run / "run.json", lambda content: content["cells"].append(at))
        try:
            if not at.startswith("/"):
                shutil.copytree(folder, run / "nodes" / at)
        except (OSError, ValueError):
            return  # no folder can have this name, or it is there already

    return prepare


def _linked(path: str, target: str, *, keep: bool = True) -> Prepare:
    """Return what copies the run and puts a link in the place of a path in it."""

    def prepare(work: Path, fixtures: Fixtures) -> None:
        run = _run(work, fixtures)
        place = run / path.replace("NODE", node(run).name)
        if place.is_dir() and not place.is_symlink():
            shutil.move(place, work.parent / "victim" / "moved") if keep else shutil.rmtree(place)
        else:
            place.unlink(missing_ok=True)
        place.symlink_to(target)

    return prepare


LINKS = {
    "report-is-a-link": ("report", "../../victim"),
    "page-is-a-link": ("report/index.html", "../../../victim/index.html"),
    "figures-are-a-link": ("report/figures", "../../../victim"),
    "results-are-a-link": ("results.csv", "../../victim/results.csv"),
    "partial-results-are-a-link": (".results.csv.partial", "../../victim/results.csv"),
    "partial-page-is-a-link": ("report/.index.html.partial", "../../../victim/index.html"),
    "partial-record-is-a-link": ("nodes/NODE/.record.json.partial", "../../../../victim/record.json"),
    "partial-outcomes-are-a-link": ("nodes/NODE/.outcomes.parquet.partial", "../../../../victim/x"),
    "nodes-are-a-link": ("nodes", "../../victim/moved"),
    "node-is-a-link": ("nodes/NODE", "../../../victim/moved"),
    "record-is-a-link": ("nodes/NODE/record.json", "../../../../victim/record.json"),
    "weights-are-a-link-to-a-device": ("nodes/NODE/weights.safetensors", "/dev/zero"),
    "history-is-a-link-to-passwords": ("nodes/NODE/history.csv", "/etc/passwd"),
    "run-document-is-a-link": ("run.json", "../../victim/x"),
    "suite-is-a-link": ("suite.yaml", "/dev/zero"),
    "lock-is-a-link": (".lock", "../../victim/x"),
    "costs-are-a-link": ("costs", "../../victim/moved"),
    "link-to-nothing-for-results": ("results.parquet", "../../victim/nobody"),
    "earlier-results-are-a-link": ("results_earlier.csv", "../../victim/results.csv"),
}

FILES = {
    "/etc/passwd": "absolute",
    "../../../../victim/x": "upwards",
    "/dev/zero": "device",
    "": "empty",
    ".": "dot",
}


def _list_file(name: str) -> Callable[[Path, dict[str, Any]], object]:
    return lambda run, content: content["files"].update({name: {"sha256": "0" * 64, "bytes": 1}})


def _suite(text: str) -> Prepare:
    """Return what puts another suite into a run, which its manifest vouches for."""

    def prepare(work: Path, fixtures: Fixtures) -> None:
        run = _run(work, fixtures)
        (work / "evil.py").write_text(CODE)
        (run / "evil.py").write_text(CODE)
        (run / "suite.yaml").write_text(text)
        sealed(run / "run.json", lambda content: content.update(files={}))

    return prepare


SUITES = {
    "metric-in-the-run": "name: small\nmetrics: [run/evil.py:make]\npaths_from: .\n",
    "section-in-the-run": "name: small\nsections: [evil.py:make]\npaths_from: run\n",
    "metric-of-the-library": "name: small\nmetrics: ['os:abort']\n",
    "python-tag": f"name: !!python/object/apply:os.system ['touch {OUTSIDE}/{EXECUTED}']\n",
    "paths-from-a-number": "name: small\npaths_from: 3\n",
    "metrics-that-are-no-list": "name: small\nmetrics: {a: 1}\n",
    "metrics-that-are-numbers": "name: small\nmetrics: [1, null]\n",
    "a-list": "[1]\n",
    "empty": "",
    "deep": f"name: small\nx: {'[' * 20_000}\n",
}


def _data(name: str) -> Callable[[Path, dict[str, Any]], object]:
    return lambda run, content: content["config"]["dataset"].update(name=name, args={})


RECORD_FIELDS = (
    *("id", "role", "status", "teacher", "seed", "reason", "dataset", "student", "method", "method_name"),
    *("control_of", "cohort", "config", "origin", "taught_by", "start", "metrics", "metrics/top1", "reasons"),
    *("tables", "amendments", "best_epoch", "epochs", "durations", "provenance", "files", "schema"),
    *("config/dataset", "config/student", "config/method", "config/recipe", "provenance/versions"),
)
DOCUMENTS = {
    "record.json": RECORD_FIELDS,
    "run.json": ("suite", "dataset", "seeds", "teachers", "cells", "labels", "files", "schema", "target"),
    "columns.json": (
        *("columns", "columns/0", "columns/0/name", "columns/0/range", "columns/0/title", "schema"),
    ),
    "costs/*/cost.json": ("metrics", "reasons", "conditions", "files", "schema"),
}
IDS = (UPWARDS, "/nobody/x", "..", ".", "", "a/b", "a\0b", "x" * 300, "\x1b[2J", "-rf", "nul\n")
DATA = {"os": "os:system", "run": "run/evil.py:make", "parquet": "parquet:/dev", "folder": "folder:/"}


def trials() -> Iterator[Trial]:
    """Yield links, names, hostile values of every field of every document, suites, code."""
    for label, (path, target) in LINKS.items():
        yield Trial("links", label, READING, prepare=_linked(path, target), statuses=ANY)
    yield from _ids()
    for name, fields in DOCUMENTS.items():
        for field in fields:
            # Half of them, which differ from one field to another: there are very many.
            for label, value in list(VALUES.items())[len(field) % 2 :: 2]:
                place = f"{name.replace('*/', '')}-{field}".replace("/", ".")
                where = f"{place} is {label}".replace(" ", "-")
                prepare = _changed(name, _set(field, value))
                yield Trial("documents", where, READING[:2], prepare=prepare, statuses=ANY)
    for label, text in SUITES.items():
        yield Trial("suites-of-others", label, READING, prepare=_suite(text), statuses=ANY)
    for label, name in DATA.items():
        prepare = _changed("record.json", _data(name))
        yield Trial("suites-of-others", f"data-of-{label}", READING, {"evil.py": CODE}, prepare, ANY)
    yield from _exports()


def _ids() -> Iterator[Trial]:
    """Yield names that lead out of the run, wherever a document names a node or a file."""
    for number, at in enumerate(IDS):
        yield Trial("ids", f"id-{number:02}", READING, prepare=_moved(at), statuses=ANY)
    for field in ("origin", "taught_by", "start", "amendments/costs", "amendments/independent", "cohort"):
        prepare = _changed("record.json", _set(field, UPWARDS))
        yield Trial("ids", f"{field}-leads-upwards".replace("/", "."), READING, prepare=prepare, statuses=ANY)
    for field in ("teachers", "cells", "supporting"):
        prepare = _changed("run.json", _set(field, [UPWARDS]))
        yield Trial("ids", f"{field}-lead-upwards", READING, prepare=prepare, statuses=ANY)
    for name, label in FILES.items():
        prepare = _changed("record.json", _list_file(name))
        yield Trial("ids", f"file-{label}", READING, prepare=prepare, statuses=ANY)


def _exports() -> Iterator[Trial]:
    """Yield nodes whose record would have a model built that is none of kdbench's."""
    for label, name in (
        ("os", "os:system"),
        ("run", "run/evil.py:make"),
        ("huge", "mlp_99999999"),
        ("empty", ""),
    ):

        def prepare(work: Path, fixtures: Fixtures, name: str = name) -> None:
            run = _run(work, fixtures)
            (run / "evil.py").write_text(CODE)
            folder = node(run)
            sealed(folder / "record.json", lambda content: content["config"]["student"].update(name=name))
            folder.rename(folder.with_name("0123456789ab"))
            sealed(
                folder.with_name("0123456789ab") / "record.json",
                lambda content: content.update(id="0123456789ab"),
            )
            sealed(run / "run.json", lambda content: content["cells"].append("0123456789ab"))

        cell = f"{RUN}/nodes/0123456789ab"
        commands = (
            ("export", cell, "--to", "safetensors", "--out", "out"),
            ("measure", cell, "--counts-only"),
        )
        # Of what cannot be measured a table tells, with status 1.
        yield Trial("exports", label, commands, prepare=prepare, statuses=(1, 2))
