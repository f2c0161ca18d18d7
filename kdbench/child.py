"""Python processes of kdbench: what they run, and where they look for modules.

``python -m`` and ``python -c`` look in the current directory before everywhere else, so that a user's
``random.py`` is imported in the place of the standard library's. No process of kdbench does; code of a user's
own is found by its path (see `kdbench.code`).

``python -P .../child.py PARENT MODULE ARGUMENT...`` runs ``main()`` of a module of the kdbench that this file
is part of, installed or not, and ends with the process PARENT.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_ROOT = str(Path(__file__).parents[1])
_INSTALLED = ("site-packages", "dist-packages")
# With this variable Python leaves the current directory out.
_SAFE = "PYTHONSAFEPATH"


def command(module: str, *arguments: str) -> list[str]:
    """Return the command that runs ``main()`` of a module in a child of this process."""
    return [sys.executable, "-P", __file__, str(os.getpid()), module, *arguments]


def find_kdbench() -> None:
    """Let Python find this kdbench after the standard library and before installed packages."""
    if _ROOT not in sys.path:
        installed = (place for place, path in enumerate(sys.path) if path.endswith(_INSTALLED))
        sys.path.insert(next(installed, len(sys.path)), _ROOT)


@contextmanager
def safe_start() -> Iterator[None]:
    """Let Python processes that `multiprocessing` starts meanwhile not look in the current directory."""
    before = os.environ.get(_SAFE)
    os.environ[_SAFE] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_SAFE]
        else:
            os.environ[_SAFE] = before


if __name__ == "__main__":
    find_kdbench()
    from kdbench.parent import end_with

    _, parent, module, *arguments = sys.argv
    end_with(int(parent))
    sys.argv = [module, *arguments]
    importlib.import_module(module).main()
