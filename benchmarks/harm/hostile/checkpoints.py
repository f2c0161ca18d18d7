"""Checkpoints that are damaged, of other things than weights, or made to run code."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import tarfile
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from harm.fixtures import Fixtures
from harm.surroundings import EXECUTED
from harm.trial import OUTSIDE, SOUND, SUITE, Trial
from kdbench.inputs import InputSpec
from kdbench.models import build_model

FILE = "weights.pth"
EVALUATE = ("evaluate", "mlp_16", "--dataset", "digits", "--set", "dataset.args={limit: 100, limit_test: 60}")


class _Code:
    """What runs a command when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {OUTSIDE}/{EXECUTED}",)


def saved(content: Any, **how: Any) -> bytes:
    torch.save(content, buffer := io.BytesIO(), **how)
    return buffer.getvalue()


def _archive(members: dict[str, bytes], how: int = zipfile.ZIP_STORED) -> bytes:
    with zipfile.ZipFile(buffer := io.BytesIO(), "w", how) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return buffer.getvalue()


def _tar() -> bytes:
    with tarfile.open(fileobj=(buffer := io.BytesIO()), mode="w") as file:
        member = tarfile.TarInfo(f"{OUTSIDE}/{EXECUTED}")
        member.size = 3
        file.addfile(member, io.BytesIO(b"abc"))
    return buffer.getvalue()


def _safetensors(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def _nested(levels: int) -> Any:
    content: Any = {}
    for _ in range(levels):
        content = {"model": content}
    return content


def contents() -> dict[str, bytes]:
    """Return what is written into the file, by what is wrong with it."""
    state = build_model("mlp_16", inputs=InputSpec.image((1, 8, 8)), num_classes=10).state_dict()
    name, weight = next((name, value) for name, value in state.items() if value.ndim == 2)

    def another(value: Any) -> dict[str, Any]:
        return {**state, name: value}

    circle: dict[str, Any] = {"nobody": 1}
    circle["model"] = circle
    odd = OrderedDict(another(weight[:, :1]))
    odd._metadata = {"": {"version": "x"}, "1": 3}  # type: ignore[attr-defined]
    whole = saved(state)
    tensors = {
        "nan": torch.full_like(weight, torch.nan),
        "infinite": torch.full_like(weight, torch.inf),
        "one-nan": weight.clone().index_put_((torch.tensor(0), torch.tensor(0)), torch.tensor(torch.nan)),
        "too-large": torch.full_like(weight, 1e300, dtype=torch.float64),
        "another-shape": weight[:, :-1].clone(),
        "transposed": weight.T.clone(),
        "no-elements": torch.zeros(0),
        "very-large-view": torch.zeros(1).expand(10**6, 10**6),
        "integers": weight.long(),
        "truth-values": weight.bool(),
        "complex": weight.to(torch.complex64),
        "sparse": weight.to_sparse(),
        "sparse-csr": weight.to_sparse_csr(),
        "meta": weight.to("meta"),
        "quantised": torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8),
        "a-number": 3,
        "a-text": "x",
        "none": None,
        "a-list": [1.0, 2.0],
    }
    files = {f"weight-{label}": saved(another(value)) for label, value in tensors.items()}
    renamed = {
        "integer-keys": dict(enumerate(state.values())),
        "keys-of-none": dict.fromkeys([None], weight),
        "one-missing": {key: value for key, value in state.items() if key != name},
        "one-more": state | {"nobody": weight},
        "keys-with-escapes": state | {"\x1b[2J\n": weight},
        "key-of-100000-letters": state | {"k" * 100_000: weight},
        "key-is-surrogate": state | {"\ud800": weight},
        "prefixes-5000": {f"p{n}.{name}": weight for n in range(5_000)},
        "empty-mapping": {},
        "a-list": [],
        "list-of-tensors": list(state.values()),
        "none": None,
        "number": 3,
        "text": "x" * 100_000,
        "a-tensor": weight,
        "mapping-that-holds-itself": circle,
        "mappings-900-deep": _nested(300),
        "odd-versions": odd,
        "model-that-is-text": {"model": "x", "state_dict": 3},
    }
    files |= {label: saved(value) for label, value in renamed.items()}
    entry = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}
    files |= {
        "empty-file": b"",
        "text-file": b"these are no weights\n" * 50,
        "pickle-of-3-bytes": b"\x80\x02.",
        "pickle-of-1-byte": b"\x80",
        "pickle-cut-short": pickle.dumps({"a": list(range(100))})[:50],
        "pickle-of-code": pickle.dumps(_Code()),
        "archive-of-code": saved({"model": _Code()}),
        "old-format-of-code": saved({"model": _Code()}, _use_new_zipfile_serialization=False),
        "code-beside-weights": saved({**state, "x": _Code()}),
        "a-whole-module": saved(torch.nn.Linear(2, 2)),
        "half": whole[: len(whole) // 2],
        "without-its-end": whole[:-20],
        "without-its-beginning": whole[100:],
        "old-format-half": saved(state, _use_new_zipfile_serialization=False)[:600],
        "noise": bytes((n * 7919) % 251 for n in range(5_000)),
        "zeros": bytes(100_000),
        "zip-of-another-kind": _archive({"a.txt": b"x"}),
        "zip-without-members": _archive({}),
        "zip-whose-pickle-is-zeros": _archive({"a/data.pkl": bytes(10**6)}, zipfile.ZIP_DEFLATED),
        "zip-that-unpacks-to-300-megabytes": _archive(
            {"a/data.pkl": b"\x80\x02" + bytes(3 * 10**8)}, zipfile.ZIP_DEFLATED
        ),
        "zip-that-leads-upwards": _archive({f"{OUTSIDE}/{EXECUTED}": b"x", "a/data.pkl": b"."}),
        "tar": _tar(),
        "gzip": b"\x1f\x8b\x08" + bytes(50),
        "json": json.dumps({name: [[0.0]]}).encode(),
        "array-of-numpy": b"\x93NUMPY\x01\x00" + bytes(100),
        "safetensors-half": _safetensors({name: entry}, bytes(8)),
        "safetensors-header-too-long": _safetensors(b"{}", length=2**62),
        "safetensors-header-of-noise": _safetensors(bytes(range(200))),
        "safetensors-header-is-list": _safetensors([]),
        "safetensors-empty": _safetensors({}),
        "safetensors-offsets-cross": _safetensors({name: entry | {"data_offsets": [16, 0]}}, bytes(16)),
        "safetensors-huge-shape": _safetensors({name: entry | {"shape": [2**40, 2**40]}}, bytes(16)),
        "safetensors-negative-shape": _safetensors({name: entry | {"shape": [-2, -2]}}, bytes(16)),
        "safetensors-unknown-type": _safetensors({name: entry | {"dtype": "F7"}}, bytes(16)),
        "safetensors-deep": _safetensors(b"[" * 100_000),
    }
    return files


def _folder(work: Path, fixtures: Fixtures) -> None:
    (work / FILE).mkdir()


PLACES: dict[str, Callable[[Path, Fixtures], object]] = {
    "missing": lambda work, fixtures: None,
    "a-folder": _folder,
    "a-pipe": lambda work, fixtures: os.mkfifo(work / FILE),
    "a-link-to-nothing": lambda work, fixtures: (work / FILE).symlink_to("nobody"),
    "a-link-to-itself": lambda work, fixtures: (work / FILE).symlink_to(FILE),
    "a-link-to-a-device": lambda work, fixtures: (work / FILE).symlink_to("/dev/zero"),
}


def trials() -> Iterator[Trial]:
    """Yield each checkpoint, evaluated; and those of harm in a suite, for a teacher, too."""
    # PyTorch warns of every kind of tensor that is rare.
    warnings.simplefilter("ignore", UserWarning)
    commands = ((*EVALUATE, "--checkpoint", FILE),)
    for label, content in contents().items():
        yield Trial("checkpoints", label, commands, {FILE: content})
        if "code" in label or "nan" in label:
            name = FILE if label.startswith("weight") else "weights.safetensors"
            suite = json.dumps(SOUND | {"teachers": [{"name": "mlp_16", "checkpoint": name}]})
            run = (("check", SUITE, "--accuracy"), ("run", SUITE, "--out", "run"))
            yield Trial("checkpoints", f"{label}-of-teacher", run, {name: content, SUITE: suite})
    for label, prepare in PLACES.items():
        yield Trial("checkpoints", label, commands, prepare=prepare)
    for label, path in (
        ("a-device", "/dev/zero"),
        ("name-too-long", "x" * 300),
        ("nul", "a\0b"),
        ("no-name", ""),
    ):
        yield Trial("checkpoints", label, ((*EVALUATE, "--checkpoint", path),))
