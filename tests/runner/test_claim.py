"""Which folders a run takes, and that it builds on nothing that was damaged since it was recorded."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from kdbench.errors import SharedFault, UserError
from kdbench.progress import Progress
from kdbench.runner import run
from kdbench.store import check
from kdbench.suite import Suite

# In the order in which a run writes them; a kill may come after each.
BEGINNING = ("run.json", "suite.yaml", "columns.json")


class Warned(Progress):
    """Keeps what it is warned of."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Suite:
    file = tmp_path_factory.mktemp("suite") / "tiny.yaml"
    file.write_text(
        "dataset: {name: digits, args: {limit: 150, limit_test: 40}}\n"
        "teachers: [mlp_8]\nstudents: [mlp_4]\nmethods: [scratch]\nseeds: [0]\n"
        "recipe: {epochs: 1, batch_size: 20, precision: fp32}\nmeasure: {latency: false}\n"
    )
    return Suite.load(file)


@pytest.fixture(scope="module")
def finished(suite: Suite, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(suite, tmp_path_factory.mktemp("finished") / "run").path


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "copy"))


@pytest.mark.parametrize("written", range(len(BEGINNING) + 1))
def test_a_run_that_was_killed_while_it_began_goes_on(
    suite: Suite, finished: Path, tmp_path: Path, written: int
) -> None:
    path = tmp_path / "run"
    path.mkdir()
    for name in (".lock", *BEGINNING[:written]):
        shutil.copy(finished / name, path / name)
    (path / ".run.json.partial").write_text("{")
    assert run(suite, path).ok == 1
    assert check(path) == []


def test_a_run_whose_manifest_was_deleted_as_advised_goes_on(suite: Suite, copy: Path) -> None:
    (copy / "run.json").write_text("{}")
    with pytest.raises(SharedFault, match=r"run\.json is damaged: .* Delete it and run the suite again"):
        run(suite, copy)
    (copy / "run.json").unlink()
    record = next(copy.glob("nodes/*/record.json"))
    before = record.stat().st_mtime_ns
    assert run(suite, copy).ok == 1 and check(copy) == []
    assert record.stat().st_mtime_ns == before


def test_what_is_not_this_suites_is_left_alone(suite: Suite, copy: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "suite.yaml").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for path in (own, tmp_path / "file"):
        with pytest.raises(UserError, match="exists and is not a run directory: choose another --out"):
            run(suite, path)
    assert (own / "suite.yaml").read_text() == "mine"
    (copy / "run.json").unlink()
    with pytest.raises(UserError, match="holds a run of suite 'tiny', not 'other'"):
        run(suite.model_copy(update={"name": "other"}), copy)


@pytest.mark.parametrize("name", ["predictions.safetensors", "outcomes.parquet", "weights.safetensors"])
def test_a_run_does_not_count_a_damaged_cell_as_done(suite: Suite, copy: Path, name: str) -> None:
    for file in copy.glob(f"nodes/*/{name}"):
        file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(SharedFault, match=f"{name}: changed since it was recorded.* Delete .* and run the"):
        run(suite, copy)


def test_a_file_that_was_deleted_is_noticed_and_published_weights_are_told_of(
    suite: Suite, copy: Path
) -> None:
    progress = Warned()
    for file in copy.glob("nodes/*/*.safetensors"):
        file.unlink()
    assert run(suite, copy, progress=progress).ok == 1
    assert any("weights or logits of finished nodes are missing" in text for text in progress.warnings)
    next(copy.glob("nodes/*/outcomes.parquet")).unlink()
    with pytest.raises(SharedFault, match=r"outcomes\.parquet: missing, though the record lists it"):
        run(suite, copy)


def test_damage_to_a_shared_teacher_does_not_go_into_a_run(
    suite: Suite, finished: Path, tmp_path: Path
) -> None:
    store = shutil.copytree(finished, tmp_path / "store")
    for file in store.glob("nodes/*/predictions.safetensors"):
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
    with pytest.raises(SharedFault, match="changed since it was recorded"):
        run(suite, tmp_path / "new", teacher_store=store)
    assert not list((tmp_path / "new").glob("nodes/*/record.json"))
