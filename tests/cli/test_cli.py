"""The command line: help, listings, exit states, one line for a mistake, reading without torch."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kdbench.cli import app, main
from kdbench.errors import UserError
from kdbench.store import RunDirectory
from tests.documents import edit

Write = Callable[..., Path]


def invoke(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def fails(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    """Run the real entry point and return its one line on standard error; it must exit with 2."""
    monkeypatch.setattr(sys, "argv", ["kdbench", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    text = capsys.readouterr().err.strip()
    assert text.startswith("error: ") and "\n" not in text
    return text


@pytest.mark.parametrize(
    ("ends", "status", "line"),
    [
        (KeyboardInterrupt(), 130, "stopped"),
        (SystemExit(0), 2, r"error: SystemExit\(0\) in .*, line \d+; code of a suite must return\."),
    ],
)
def test_what_ends_a_command_is_said_in_one_line(
    ends: BaseException,
    status: int,
    line: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def raising(*arguments: object) -> None:
        raise ends

    monkeypatch.setattr("kdbench.cli.reading.print_json", raising)
    monkeypatch.setattr(sys, "argv", ["kdbench", "list", "suites", "--json"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == status
    assert re.fullmatch(line, capsys.readouterr().err.strip())


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run directory made by the command line itself."""
    from tests.conftest import SMALL

    folder = tmp_path_factory.mktemp("cli")
    (folder / "small.yaml").write_text(SMALL)
    output = invoke("run", str(folder / "small.yaml"), "--out", str(folder / "run"))
    assert "8 ok, 0 failed, 0 skipped. Next: open" in output
    return folder / "run"


def test_help_imports_neither_torch_nor_pandas() -> None:
    code = (
        "import sys; sys.argv = ['kdbench', '--help']\n"
        "from kdbench.cli import main\n"
        "try:\n    main()\n"
        "finally:\n"
        "    print([name for name in ('torch', 'pandas', 'pydantic', 'scipy') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    for command in ("run", "plan", "compare", "report", "measure", "evaluate", "export", "list", "check"):
        assert f"\n  {command} " in done.stdout


@pytest.mark.parametrize(
    "command", ["run", "plan", "compare", "report", "measure", "evaluate", "export", "list", "check"]
)
def test_every_command_shows_an_example(command: str) -> None:
    assert f"Example: kdbench {command}" in invoke(command, "--help")


@pytest.mark.parametrize(
    ("kind", "least"), [("methods", 28), ("datasets", 6), ("metrics", 25), ("suites", 5)]
)
def test_listings(kind: str, least: int) -> None:
    rows = json.loads(invoke("list", kind, "--json"))
    assert len(rows) >= least
    assert all(row["name"] and row["summary"] for row in rows)
    assert rows[0]["name"] in invoke("list", kind)


def test_datasets_are_listed_with_their_arguments() -> None:
    rows = {row["name"]: row for row in json.loads(invoke("list", "datasets", "--json"))}
    assert {"size", "limit", "limit_test", "mean", "std"} <= set(rows["digits"]["args"])
    assert {"image", "label"} <= set(rows["parquet:PATH"]["args"])
    assert "uint8 (N, H, W)" in rows["path/file.py:factory"]["summary"]
    assert "limit_test" in invoke("list", "datasets")


def test_the_lazy_packages_show_what_they_hold() -> None:
    import kdbench
    import kdbench.data
    import kdbench.models

    assert {"run", "evaluate", "compare", "Suite", "__version__"} <= set(dir(kdbench))
    for package in (kdbench, kdbench.data, kdbench.models):
        assert all(hasattr(package, name) for name in dir(package))


def test_every_column_of_a_run_is_listed(finished: Path) -> None:
    names = [row["name"] for row in json.loads(invoke("list", "metrics", "--json"))]
    assert len(names) == len(set(names))
    columns = set(RunDirectory.open(finished).columns())
    assert {"train_seconds", "train_time_share", "cohort_peak_bytes", "top1_best_val"} <= columns
    assert columns <= set(names)


def test_every_method_is_listed_with_its_paper_and_year() -> None:
    rows = json.loads(invoke("list", "methods", "--json"))
    assert all(row["source"] and 1980 < row["year"] <= 2026 for row in rows)
    shown = invoke("list", "methods")
    assert "ce=0.1" in shown, "a default of a method's own"
    assert "kd_temperature=" not in shown, "what all share is said once"


def test_models_are_listed_with_their_counts() -> None:
    rows = {row["name"]: row for row in json.loads(invoke("list", "models", "--json"))}
    assert rows["resnet20"]["params"] == 278_324
    assert round(rows["resnet20"]["macs"] / 1e6, 2) == 40.82


def test_plan_as_json_has_an_object_a_cell(write_suite: Write) -> None:
    rows = json.loads(invoke("plan", str(write_suite()), "--json", "--seeds", "3,4,5"))
    assert len(rows) == 12 and {row["seed"] for row in rows} == {3, 4, 5}
    assert {"id", "teacher", "student", "method", "seed", "cohort"} <= set(rows[0])
    assert "cells in 2 cohorts" in invoke("plan", str(write_suite()))
    assert "Training takes about" in invoke("plan", str(write_suite()), "--estimate")


def test_compare_report_and_check_read_a_finished_run(finished: Path) -> None:
    rows = json.loads(invoke("compare", str(finished), "--json"))
    assert {row["student"] for row in rows if row["role"] == "student"} == {"mlp_16", "cnn_2"}
    assert "kd(temperature=2)" in invoke("compare", str(finished))
    assert "Next: open" in invoke("report", str(finished))
    assert "complete, and the checksums of all cells' files hold" in " ".join(
        invoke("check", str(finished)).split()
    )
    assert json.loads(invoke("check", str(finished), "--json")) == []
    for name in ("index.html", "report.md"):
        assert (finished / "report" / name).stat().st_size > 1000
    for suffix in ("png", "svg", "pdf"):
        assert len(list((finished / "report").rglob(f"*.{suffix}"))) >= 5


def test_several_runs_are_ranked(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, finished: Path, tmp_path: Path
) -> None:
    import shutil

    shutil.copytree(finished, tmp_path / "copy")
    one, two, figure = str(finished), str(tmp_path / "copy"), tmp_path / "ranks.png"
    assert "hold the same cells" in fails(capsys, monkeypatch, "compare", one, two)
    manifest = tmp_path / "copy" / "run.json"
    content = json.loads(manifest.read_text())
    for id in content["cells"]:
        folder = (tmp_path / "copy" / "nodes" / id).rename(tmp_path / "copy" / "nodes" / f"other-{id}")
        edit(folder / "record.json", id=folder.name)
    cells = [f"other-{id}" for id in content["cells"]]
    edit(manifest, dataset="other digits", cells=cells)
    rows = json.loads(invoke("compare", one, two, "--json"))
    assert {row["method"] for row in rows} == {"scratch", "kd(temperature=2)"}
    assert "2 methods: Friedman's test needs at least 3" in invoke("compare", one, two)
    for arguments, expected in [
        ([one, two, "--published"], "--published is for one run"),
        ([one, "--figure", str(figure)], "--figure goes with several runs"),
        ([one, one], "is given twice"),
        ([one, two, "--figure", str(figure)], "no diagram can be drawn: 2 methods"),
    ]:
        assert expected in fails(capsys, monkeypatch, "compare", *arguments)
    assert not figure.exists()


def test_reading_works_where_torch_cannot_be_imported(finished: Path) -> None:
    code = (
        "import sys\n"
        "class Blocked:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('torch', 'torchvision', 'fvcore'):\n"
        "            raise ImportError(f'{name} is not installed')\n"
        "sys.meta_path.insert(0, Blocked())\n"
        "from kdbench.cli import app\n"
        "for arguments in (['compare'], ['compare', '--json'], ['report']):\n"
        "    app([*arguments, sys.argv[1]], standalone_mode=False)\n"
        "    print('done:', *arguments)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(finished)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stdout.splitlines() if line.startswith("done: ")]
    assert said == ["done: compare", "done: compare --json", "done: report"]


def test_check_finds_damage_and_exits_with_one(finished: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(finished, copy)
    victim = next(copy.glob("nodes/*/history.csv"))
    victim.write_text(victim.read_text() + "\n")
    result = CliRunner().invoke(app, ["check", str(copy)])
    assert result.exit_code == 1 and "checksum differs" in " ".join(result.output.split())
    record = json.loads((victim.parent / "record.json").read_text())
    what = f"({record['student']}, {record['method']}, teacher {record['teacher']}, seed {record['seed']})"
    assert what in " ".join(result.output.split())
    for weights in copy.glob("*/*/*.safetensors"):
        weights.unlink()
    result = CliRunner().invoke(app, ["check", str(copy), "--records-only", "--json"])
    assert [finding["path"] for finding in json.loads(result.output)] == [str(victim.relative_to(copy))]


def test_a_failed_cell_makes_the_run_exit_with_one(write_suite: Write, tmp_path: Path) -> None:
    suite = str(write_suite())
    arguments = ["run", suite, "--quiet", "--out", str(tmp_path / "run"), "--seeds", "0"]
    result = CliRunner().invoke(
        app, [*arguments, "--set", "students=[{name: mlp_16, recipe: {lr: 1.0e+30}}]"]
    )
    assert result.exit_code == 1
    assert "0 ok, 2 failed" in result.output


def test_mistakes_are_one_line_and_exit_with_two(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, write_suite: Write, tmp_path: Path
) -> None:
    suite = str(write_suite())
    for arguments, expected in [
        (["run", "quikstart"], "Did you mean 'quickstart'?"),
        (
            ["run", suite, "--set", "recipe.epochs=zero"],
            "--set recipe.epochs=zero: recipe.epochs: found 'zero'",
        ),
        (["run", suite, "--seeds", "a"], "seeds"),
        (["plan", str(tmp_path / "none.yaml")], "no suite file at"),
        (["compare", str(tmp_path / "none")], "no run directory at"),
        (["report", str(tmp_path)], "holds no run.json"),
        (["list", "modles"], "unknown kind 'modles'. Did you mean 'models'?"),
        (["measure", "resnet2O"], "unknown model 'resnet2O'. Did you mean 'resnet20'?"),
        (["measure", "resnet20", "--input", "3,32"], "--input 3,32: expected 3 positive integers"),
        (["measure", "resnet20", "--batch-sizes", "0"], "--batch-sizes 0: expected positive integers"),
    ]:
        assert expected in fails(capsys, monkeypatch, *arguments)


def test_cuda_is_refused_where_there_is_none(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, write_suite: Write, tmp_path: Path
) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    arguments = ["run", str(write_suite()), "--device", "cuda", "--out", str(tmp_path / "run")]
    assert "no CUDA device on this machine" in fails(capsys, monkeypatch, *arguments)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("seeds", ["0] #", "]", "0]\nname: [x", "a", "[0", "²"])
def test_seeds_are_numbers_and_nothing_else_of_a_suite(write_suite: Write, seeds: str) -> None:
    done = CliRunner().invoke(app, ["plan", str(write_suite()), "--seeds", seeds])
    assert isinstance(done.exception, UserError) and "--seeds" in str(done.exception)


@pytest.mark.parametrize("command", ["check", "report", "compare", "pick", "plan", "run"])
def test_a_path_that_is_too_long_is_one_line(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = fails(capsys, monkeypatch, command, f"{'x' * 300}/{'y' * 6000}.yaml")
    assert "Traceback" not in text and len(text) < 2_200


def test_a_data_root_that_is_no_folder_is_one_line(
    write_suite: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    for root in (tmp_path / "file", tmp_path / "file" / "below"):
        text = fails(capsys, monkeypatch, "plan", str(write_suite()), "--data-root", str(root))
        assert "is no folder" in text


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell with head")
def test_a_reader_that_goes_is_no_fault() -> None:
    done = subprocess.run(
        f"{sys.executable} -m kdbench list metrics | head -n 1",
        shell=True,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == "" and len(done.stdout.splitlines()) == 1
