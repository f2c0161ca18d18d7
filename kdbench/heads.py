"""Heads: a dataset's own labels, and further columns of labels that a model learns beside them.

A model with several heads has one trunk and one linear layer, as wide as all heads together, so any model of
the zoo is such a model when it is built with that many classes. Its logits (B, K₀ + K₁ + ...) are those of
the dataset's own head, then those of the further heads in the order in which the suite names them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

# The name of the dataset's own head: its results have plain names, those of another head begin with its name.
PRIMARY = ""


def slices(outputs: Mapping[str, int]) -> Iterator[tuple[str, slice]]:
    """Yield which of a model's logits are those of each head, given how many classes each head has.

    >>> list(slices({"": 100, "coarse_label": 20}))
    [('', slice(0, 100, None)), ('coarse_label', slice(100, 120, None))]
    """
    start = 0
    for head, classes in outputs.items():
        yield head, slice(start, start + classes)
        start += classes


def name_in(head: str, name: str) -> str:
    """Return the name of a column, a loss term or a file in the results of a head.

    >>> name_in("", "top1"), name_in("coarse_label", "top1")
    ('top1', 'coarse_label.top1')
    """
    return f"{head}.{name}" if head else name


def head_of(name: str) -> str:
    """Return the head that a name belongs to.

    >>> task_of("top1"), task_of("coarse_label.top1")
    ('', 'coarse_label')
    """
    return name.rpartition(".")[0]


def plain(name: str) -> str:
    """Return a name without its head.

    >>> plain("coarse_label.top1")
    'top1'
    """
    return name.rpartition(".")[2]
