"""The recipe of one model: the suite's, with the changes that the model asks for."""

from __future__ import annotations

from pydantic import ValidationError

from kdbench.errors import UserError, nearest
from kdbench.suite.schema import ModelEntry, OptimizerFields, Recipe


def overridden(fields: type[OptimizerFields], recipe: Recipe, entry: ModelEntry, role: str) -> Recipe:
    """Return the suite's recipe with the changes that one model asks for."""
    for key in entry.recipe:
        if key in fields.model_fields:
            continue
        if key in Recipe.model_fields:
            raise UserError(
                f"{role} '{entry.shown}': recipe.{key} is shared by the cohort; set it in the suite's recipe."
            )
        raise UserError(
            f"{role} '{entry.shown}': unknown recipe field '{key}'.{nearest(key, fields.model_fields)}"
        )
    try:
        return Recipe.model_validate(recipe.model_dump() | entry.recipe)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in ("recipe", *first["loc"]))
        raise UserError(
            f"{role} '{entry.shown}': {where}: {first['msg'].removeprefix('Value error, ')}."
        ) from None
