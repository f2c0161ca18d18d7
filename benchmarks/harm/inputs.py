"""Bad inputs: every suite, text, checkpoint, file, folder and piece of code that is tried."""

from __future__ import annotations

from harm.hostile import checkpoints, code, datasets, fields, paths, shared, texts, words
from harm.trial import Trial


def cases() -> list[Trial]:
    """Return all of them, in the same order every time."""
    found = [
        trial
        for module in (texts, fields, words, checkpoints, datasets, paths, shared, code)
        for trial in module.trials()
    ]
    names = [trial.name for trial in found]
    assert len(set(names)) == len(names), [name for name in names if names.count(name) > 1]
    return found
