"""Checkpoints that were damaged, or made to do harm: loaded, or refused in one line."""

from __future__ import annotations

import io
import os
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from kdbench.errors import UserError
from kdbench.models import load_checkpoint
from kdbench.printable import printable


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))


STATE = model().state_dict()
WEIGHT = STATE["0.weight"]


def saved(content: Any, **how: Any) -> bytes:
    torch.save(content, buffer := io.BytesIO(), **how)
    return buffer.getvalue()


def refusal(path: Path, target: nn.Module | None = None) -> str:
    """Return the one line with which a file is refused."""
    with pytest.raises(UserError) as caught:
        load_checkpoint(target or model(), path)
    text = str(caught.value)
    assert text.startswith(f"checkpoint {path}") and printable(text) == text and len(text) < 700
    assert ": ." not in text and "short ()" not in text
    return text


@pytest.fixture
def refused(tmp_path: Path) -> Callable[[Any], str]:
    def write(content: Any) -> str:
        path = tmp_path / "weights.pth"
        path.write_bytes(content if isinstance(content, bytes) else saved(content))
        return refusal(path)

    return write


def test_weights_that_are_no_numbers_are_refused(refused: Callable[[Any], str]) -> None:
    for value, what in ((torch.nan, "NaN"), (torch.inf, "infinite")):
        text = refused(STATE | {"0.weight": torch.tensor([[1.0, value]] * 3)})
        assert f"weight '0.weight' is not finite ({what}; 3 of 6 values); mend the checkpoint." in text
    # No float32 holds it.
    assert "not finite (infinite; 6 of 6 values)" in refused(
        STATE | {"0.weight": torch.full((3, 2), 1e300, dtype=torch.float64)}
    )


def test_infinities_that_a_network_has_itself_are_no_fault(tmp_path: Path) -> None:
    class Masked(nn.Linear):
        def __init__(self) -> None:
            super().__init__(2, 3)
            self.register_buffer("mask", torch.full((3, 3), -torch.inf).triu(1))

    torch.save(source := Masked().state_dict(), tmp_path / "weights.pth")
    load_checkpoint(target := Masked(), tmp_path / "weights.pth")
    assert torch.equal(target.mask, source["mask"])


def deep(levels: int) -> Any:
    """Return one dict in very many places: as many as 1000 to the power of ``levels``."""
    content: Any = dict(STATE)
    for _ in range(levels):
        content = [content] * 1000
    return content


def test_one_thing_in_very_many_places_is_looked_at_once(
    tmp_path: Path, refused: Callable[[Any], str]
) -> None:
    torch.save(deep(3), tmp_path / "weights.pth")
    load_checkpoint(target := model(), tmp_path / "weights.pth")
    assert torch.equal(target[0].weight, WEIGHT)
    assert "holds list, not weights by name" in refused(deep(5))
    circle: dict[str, Any] = dict(STATE)
    circle["again"] = circle
    torch.save(circle, tmp_path / "weights.pth")
    load_checkpoint(model(), tmp_path / "weights.pth")


def test_what_lies_deep_and_high_is_found_where_it_lies_high(tmp_path: Path) -> None:
    holder = {"state_dict": STATE}
    torch.save({"deep": {"in": {"here": {"too": holder}}}, "high": holder}, tmp_path / "weights.pth")
    load_checkpoint(target := model(), tmp_path / "weights.pth")
    assert torch.equal(target[0].weight, WEIGHT)


def test_very_many_prefixes_are_refused_at_once(refused: Callable[[Any], str]) -> None:
    content = {f"ema{number}.{next(iter(STATE))}": WEIGHT for number in range(5_000)}
    assert "holds 5,000 sets of weights beside one another, first 'ema0.'" in refused(content)


def test_names_are_shown_printable_and_short(refused: Callable[[Any], str]) -> None:
    assert "first '\N{REPLACEMENT CHARACTER}[31m x'" in refused(STATE | {"\x1b[31m\nx": WEIGHT})
    assert "entry '\N{REPLACEMENT CHARACTER}' is int" in refused(STATE | {"\ud800": 3})
    assert f"first '{'x' * 79}…'" in refused(STATE | {"x" * 100_000: WEIGHT})
    assert "entries tuple, NoneType, 7, …" in refused({((),): 1, None: 2, 7: 3, "…": 4})


def test_versions_that_are_none_are_refused(tmp_path: Path) -> None:
    for versions, problem in (({"1": {"version": "x"}}, "TypeError"), ({"1": "x"}, "AttributeError")):
        state = OrderedDict(STATE)
        state._metadata = versions  # type: ignore[attr-defined]
        torch.save(state, tmp_path / "weights.pth")
        assert f"does not fit: {problem}: " in refusal(tmp_path / "weights.pth")
    state._metadata = 3  # type: ignore[attr-defined]
    torch.save(state, tmp_path / "weights.pth")
    load_checkpoint(model(), tmp_path / "weights.pth")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_tensors_of_other_kinds_are_refused(refused: Callable[[Any], str]) -> None:
    quantised = torch.quantize_per_tensor(WEIGHT, 0.1, 0, torch.qint8)
    for tensor, problem in (
        (WEIGHT.to(torch.complex64), "holds complex64, the model needs float32"),
        (WEIGHT.long(), "holds int64, the model needs float32"),
        (quantised, "holds qint8, the model needs float32"),
        (torch.zeros(3, 0), "has shape (3, 0), the model needs (3, 2)"),
        (torch.zeros(1).expand(10**6, 10**6), "has shape (1000000, 1000000), the model needs (3, 2)"),
        (WEIGHT.to_sparse(), "is sparse (sparse_coo)"),
        (WEIGHT.to("meta"), "has a shape and no values"),
    ):
        assert f"'0.weight' {problem}" in refused(STATE | {"0.weight": tensor})
    assert "holds dict with the entries 0, 1, 2, 3, 4, not weights by name" in refused(
        dict(enumerate(STATE.values()))
    )


def archive(content: dict[str, bytes], how: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", how) as file:
        for name, data in content.items():
            file.writestr(name, data)
    return buffer.getvalue()


def test_archives_of_others_are_told_from_pytorchs(refused: Callable[[Any], str]) -> None:
    assert "is a zip archive that PyTorch did not write" in refused(archive({}))
    assert "is a zip archive that PyTorch did not write" in refused(archive({"a.txt": b"x"}))
    assert "is cut short" in refused(b"PK") and "is cut short" in refused(saved(STATE)[:3])
    assert "that holds 1,000,000" in refused(archive({"a/data.pkl": bytes(10**6)}, zipfile.ZIP_DEFLATED))


def test_what_is_no_file_is_told_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    for path, problem in (
        (tmp_path / "pipe", "is a device or a pipe"),
        (Path("/dev/zero"), "is a device or a pipe"),
        (tmp_path / "file" / "x", "does not exist"),
        (tmp_path / "loop", "cannot be read (Too many levels of symbolic links)"),
        (tmp_path / ("x" * 300), "cannot be read (File name too long)"),
    ):
        assert problem in refusal(path)
    with pytest.raises(UserError, match="is no path"):
        load_checkpoint(model(), Path("a\0b"))


WHOLE = (saved(STATE), saved(STATE, _use_new_zipfile_serialization=False), safetensors.torch.save(STATE))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("weights") / "weights.pth"


def loaded_or_refused(path: Path) -> None:
    target = model()
    try:
        notes = load_checkpoint(target, path)
    except UserError:
        refusal(path)
    else:
        assert all(printable(note) == note for note in notes)
        assert all(bool(tensor.isfinite().all()) for tensor in target.state_dict().values())


@given(st.sampled_from(WHOLE), st.data())
def test_any_damage_is_loaded_or_refused(file: Path, whole: bytes, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(whole)))
    stop = data.draw(st.integers(start, min(len(whole), start + 8)) | st.just(len(whole)))
    file.write_bytes(whole[:start] + data.draw(st.binary(max_size=8)) + whole[stop:])
    loaded_or_refused(file)


BEGINNINGS = (
    b"",
    b"PK\x03\x04",
    b"PK\x05\x06",
    b"\x80\x02",
    b"\x80\x02}q\x00",
    b"\x02\0\0\0\0\0\0\0{",
    b"\x1f\x8b",
)


@given(st.sampled_from(BEGINNINGS), st.binary(max_size=40))
def test_any_bytes_are_loaded_or_refused(file: Path, head: bytes, rest: bytes) -> None:
    file.write_bytes(head + rest)
    loaded_or_refused(file)


def tensors() -> Iterator[Tensor]:
    yield from (WEIGHT, WEIGHT.double(), WEIGHT.half(), WEIGHT * torch.nan, torch.zeros(0), torch.ones(()))
    yield from (WEIGHT.to(torch.complex64), WEIGHT.bool(), WEIGHT.to("meta"), WEIGHT.to_sparse())
    yield torch.zeros(1).expand(10**6, 10**6)
    yield from STATE.values()


NAMES = st.sampled_from([*STATE, "state_dict", "model", "module.0.weight", "ema"]) | st.text(max_size=3)
CONTENT = st.recursive(
    st.sampled_from(list(tensors())) | st.none() | st.floats() | st.text(max_size=3) | st.just(STATE),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(NAMES | st.integers(0, 2), inner, max_size=4)
        | st.dictionaries(NAMES, inner, max_size=2).map(lambda others: {**STATE, **others})
    ),
    max_leaves=6,
)


@given(CONTENT)
def test_any_content_is_loaded_or_refused(file: Path, content: Any) -> None:
    file.write_bytes(saved(content))
    loaded_or_refused(file)
