"""Taking a folder for a run: it is new, or what an earlier attempt at the same suite left."""

from __future__ import annotations

from pathlib import Path

from kdbench.errors import UserError
from kdbench.plan import Plan
from kdbench.runner.workshop import SCRATCH
from kdbench.store import COLUMNS, LOCK, MANIFEST, SUITE, RunDirectory
from kdbench.suite.yaml_source import YamlSource


def claim(path: Path, plan: Plan) -> RunDirectory:
    """Make the run directory, or make sure that an existing folder is this suite's."""
    directory = RunDirectory(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        names = {file.name for file in path.iterdir()} - {LOCK, SCRATCH, f".{MANIFEST}.partial"}
    except FileExistsError:
        raise UserError(f"{path} exists and is not a run directory: choose another --out.") from None
    except OSError as error:
        raise UserError(f"cannot make {path}: {error.strerror}. Choose another --out.") from None
    name = plan.suite.name
    if directory.is_begun:
        name = directory.manifest()["suite"]
    elif COLUMNS in names and SUITE in names:  # one whose manifest was damaged, and deleted
        name = YamlSource.read(directory.inside(SUITE)).value.get("name")
    elif names:
        raise UserError(f"{path} exists and is not a run directory: choose another --out.")
    if name != plan.suite.name:
        raise UserError(
            f"{path} holds a run of suite '{name}', not '{plan.suite.name}': choose another --out."
        )
    return directory
