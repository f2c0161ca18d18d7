"""The index of the zoo, made anew by ``make zoo`` after a model of it or the way of counting has changed."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import asdict
from typing import Any

from kdbench.efficiency.counts import count_multiply_adds
from kdbench.errors import UserError
from kdbench.models import build_model, families, feature_shapes, find_taps
from kdbench.models.index import CLASSES, FILE, INPUTS, counter_fingerprint, fingerprint, sketch_of


def entries(names: Collection[str] | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Build every model of the zoo, or those that are named, and yield what the index says of each."""
    for family in families().values():
        file = f"{family.build.__module__.rpartition('.')[2]}.py"
        for name in family.examples:
            if names is not None and name not in names:
                continue
            model = build_model(name, inputs=INPUTS, num_classes=CLASSES)
            taps = find_taps(model, INPUTS)
            sketch = sketch_of(model, taps, feature_shapes(model, taps, INPUTS))
            counted = count_multiply_adds(model, INPUTS)
            if counted.uncounted:
                raise UserError(f"{name}: {', '.join(counted.uncounted)} is not counted: give it a rule.")
            counts = {
                "params": sum(parameter.numel() for parameter in model.parameters()),
                "macs": counted.headline,
            }
            code = {"file": file, "source": fingerprint(file), "counter": counter_fingerprint()}
            yield (
                name,
                counts
                | {"sketch": {name: part for name, part in asdict(sketch).items() if part is not None}}
                | code,
            )


def main() -> None:
    """Write the index, a line a model."""
    lines = (f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in entries())
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
