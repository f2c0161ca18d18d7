"""How the networks were trained."""

from __future__ import annotations

from collections.abc import Iterator

from kdbench.analysis.summary import Summary
from kdbench.report.blocks import Block, Facts, Title
from kdbench.report.recipe import method_table, recipe_table, setting
from kdbench.report.registry import section


@section("recipe", order=120)
def recipe(summary: Summary) -> Iterator[Block]:
    """Give the recipes, the methods' hyper-parameters and the setting."""
    yield Title("Recipe")
    yield from filter(None, (recipe_table(summary), method_table(summary)))
    yield Facts(setting(summary))
