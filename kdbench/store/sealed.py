"""Sealed documents: JSON with a checksum of itself, so that what is read back is what was written.

A seal finds damage. It is no signature: whoever writes a document can seal it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from kdbench.errors import SharedFault
from kdbench.store.files import digest, read_json, write_json

SEAL = "sha256"
# The first that is sealed. A document of a published run may be of an earlier one, which said no number.
SCHEMA = 2
STRICT = ConfigDict(strict=True, allow_inf_nan=False)
# With no fields but those that are known.
CLOSED = ConfigDict(strict=True, allow_inf_nan=False, extra="forbid")


def shape_of(
    kind: type, required: Collection[str], config: ConfigDict = STRICT, **others: Any
) -> type[BaseModel]:
    """Return what a data class is as JSON: the types of its fields, finite numbers, which it must have.

    ``others`` are the types of fields that are no plain values; None leaves the field out.
    """
    types = {name: type_ for name, type_ in (get_type_hints(kind) | others).items() if type_ is not None}
    shown: dict[str, Any] = {
        name: (type_, ... if name in required else None) for name, type_ in types.items()
    }
    return create_model(kind.__name__, __config__=config, **shown)


def write_sealed(path: Path, content: Mapping[str, Any]) -> None:
    """Write a document with its schema and the checksum of all of it, atomically."""
    # As it will be read back: a number that is a key becomes text.
    document = json.loads(json.dumps({**content, "schema": SCHEMA}, allow_nan=False))
    write_json(path, document | {SEAL: digest(document)})


def read_sealed(
    path: Path, shape: type[BaseModel], mend: str, *, of_list: str | None = None
) -> dict[str, Any]:
    """Return what was written, without the checksum; ``of_list`` is what schema 1 wrote as a list alone.

    Raises SharedFault, which ends with the ``mend``, where the document is missing, is no JSON, has changed
    since it was written, has not the ``shape``, or is of a schema that is not known.
    """
    content = read_json(path)
    if of_list and isinstance(content, list):
        content = {of_list: content}
    if not isinstance(content, dict):
        raise SharedFault(f"{path} is damaged: it holds no JSON object. {mend}")
    content = dict(content)
    seal, schema = content.pop(SEAL, None), content.get("schema", 1)
    if seal is not None and seal != digest(content):
        raise SharedFault(f"{path} changed since it was written: its checksum differs. {mend}")
    if schema not in (1, SCHEMA):
        raise SharedFault(
            f"{path} has schema {schema!r:.20}, this kdbench reads up to {SCHEMA}: read it with the kdbench "
            "that wrote it."
        )
    if seal is None and schema == SCHEMA:
        raise SharedFault(f"{path} is damaged: its checksum is missing. {mend}")
    try:
        shape.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "it"
        raise SharedFault(f"{path} is damaged: {where}: {first['msg']}. {mend}") from None
    return content
