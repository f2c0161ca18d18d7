"""What lies around the places that a command may write to, and whether anything of it was changed."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Collection
from pathlib import Path

# The folder that nothing may be written into, and the file that code makes in it which must not be executed.
VICTIM = "victim"
EXECUTED = "executed"
# Python writes what it compiles beside a user's own files.
COMPILED = "__pycache__"

State = dict[str, str]


def make_victim(folder: Path) -> Path:
    """Make a folder with files in it that somebody would miss, and return it."""
    victim = folder / VICTIM
    victim.mkdir(parents=True)
    for name in ("x", "results.csv", "record.json", "index.html"):
        (victim / name).write_text(f"{name} of somebody else\n")
    return victim


def state(folder: Path, own: Collection[str]) -> State:
    """Return what lies below a folder, by path, in a word each; ``own`` are paths that are left out."""
    found: State = {}
    for path in sorted(folder.iterdir()):
        name = path.name
        inner = {one.removeprefix(f"{name}/") for one in own if one.startswith(f"{name}/")}
        if name in own or name == COMPILED:
            continue
        found[name] = _word(path)
        if path.is_dir() and not path.is_symlink():
            found |= {f"{name}/{at}": word for at, word in state(path, inner).items()}
    return found


def _word(path: Path) -> str:
    kind = path.lstat().st_mode
    if stat.S_ISLNK(kind):
        return f"link to {path.readlink()}"
    if stat.S_ISREG(kind):
        return hashlib.sha256(path.read_bytes()).hexdigest()
    return f"of kind {stat.S_IFMT(kind):o}"


def changes(before: State, after: State) -> list[str]:
    """Return in words what became of the surroundings.

    >>> changes({"a": "1", "b": "1"}, {"a": "2", "c": "1"})
    ['a was changed', 'b was removed', 'c was written']
    """
    words = [
        f"{at} was {'changed' if at in after else 'removed'}" for at in before if before[at] != after.get(at)
    ]
    return words + [f"{at} was written" for at in after if at not in before]
