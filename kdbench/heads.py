"""Tasks: a dataset's own labels, and further columns of labels that a model learns beside them.

A model with several tasks has one trunk and one linear layer, as wide as all tasks together: it is one head
a task side by side, and any model of the zoo is such a model when it is built with that many classes. Its
logits (B, K₀ + K₁ + ...) are those of the dataset's own task, then those of the further tasks in the order in
which the suite names them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

# The name of the dataset's own task: its results have plain names, those of another task begin with its name.
PRIMARY = ""


def slices(outputs: Mapping[str, int]) -> Iterator[tuple[str, slice]]:
    """Yield which of a model's logits are those of each task, given how many classes each task has.

    >>> list(slices({"": 100, "coarse_label": 20}))
    [('', slice(0, 100, None)), ('coarse_label', slice(100, 120, None))]
    """
    start = 0
    for task, classes in outputs.items():
        yield task, slice(start, start + classes)
        start += classes


def name_in(task: str, name: str) -> str:
    """Return the name of a column, a loss term or a file in the results of a task.

    >>> name_in("", "top1"), name_in("coarse_label", "top1")
    ('top1', 'coarse_label.top1')
    """
    return f"{task}.{name}" if task else name


def task_of(name: str) -> str:
    """Return the task that a name belongs to.

    >>> task_of("top1"), task_of("coarse_label.top1")
    ('', 'coarse_label')
    """
    return name.rpartition(".")[0]


def plain(name: str) -> str:
    """Return a name without its task.

    >>> plain("coarse_label.top1")
    'top1'
    """
    return name.rpartition(".")[2]
