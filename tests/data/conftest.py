"""Fixtures of the data tests: the text of a user error, tiny image folders and parquet files."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from kdbench.errors import UserError


@pytest.fixture
def message_of() -> Callable[[Callable[[], object]], str]:
    """Return a function that gives the text of the UserError a call raises: always one line."""

    def text(call: Callable[[], object]) -> str:
        with pytest.raises(UserError) as caught:
            call()
        message = str(caught.value)
        assert "\n" not in message
        assert message
        return message

    return text


@pytest.fixture
def write_images() -> Callable[..., list[Path]]:
    """Return a function that writes arrays (H, W) or (H, W, 3) as lossless PNG files into a folder."""

    def write(folder: Path, arrays: Iterable[np.ndarray]) -> list[Path]:
        folder.mkdir(parents=True, exist_ok=True)
        paths = []
        for number, array in enumerate(arrays):
            paths.append(folder / f"{number:03}.png")
            Image.fromarray(array).save(paths[-1])
        return paths

    return write


def _png(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, format="PNG")
    return buffer.getvalue()


@pytest.fixture
def write_parquet() -> Callable[..., Path]:
    """Return a function that writes images and labels as a Hugging Face parquet file."""

    def write(
        path: Path,
        images: Iterable[np.ndarray | bytes | None],
        labels: Iterable[object],
        *,
        image: str = "img",
        label: str = "label",
        names: list[str] | None = None,
        label_type: pa.DataType | None = None,
        extra: dict[str, list[int]] | None = None,
    ) -> Path:
        rows = [
            {"bytes": _png(each) if isinstance(each, np.ndarray) else each, "path": None} for each in images
        ]
        kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        table = pa.table(
            {image: pa.array(rows, kind), label: pa.array(list(labels), label_type), **(extra or {})}
        )
        if names is not None:
            features = {image: {"_type": "Image"}, label: {"names": names, "_type": "ClassLabel"}}
            text = json.dumps({"info": {"features": features}})
            table = table.replace_schema_metadata({"huggingface": text})
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, path)
        return path

    return write
