"""The speed benchmark: what its table says follows from what was timed; nothing here asserts a time."""

from __future__ import annotations

import importlib
import json
import tempfile
from pathlib import Path
from types import ModuleType

import pytest
import torch

from kdbench.inputs import InputSpec

ROOT = Path(__file__).parents[1]
TINY = [
    *("--pairs", "resnet8:resnet8", "--batch-size", "4", "--rounds", "1", "--steps", "1"),
    *("--precision", "fp32", "--workers", "0", "--threads", "1", "--device", "cpu"),
]


@pytest.fixture
def speed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """Return the script as a module, with small limits and a measuring lock of its own."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    limits = importlib.import_module("loops.limits")
    monkeypatch.setattr(limits, "_SIZES", {"cpu": (64,)})
    monkeypatch.setattr(limits, "_NULL_STEPS", 3)
    monkeypatch.setattr(limits, "_NULL_ROUNDS", 2)
    script = importlib.import_module("speed")
    monkeypatch.setattr(script.machine, "load_average", lambda: 0.0)
    return script


@pytest.fixture
def without_torchdistill(speed: ModuleType, monkeypatch: pytest.MonkeyPatch) -> str:
    """Hide torchdistill, whether or not it is installed; return the reason that is to be given."""
    reason = "torchdistill cannot be imported (hidden): pip install 'kdbench[speed]'"
    monkeypatch.setattr(speed.torchdistill_box, "missing", lambda: reason)
    return reason


def test_the_table_as_objects_and_as_files(
    speed: ModuleType, without_torchdistill: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert speed.main([*TINY, "--json", "--out", str(tmp_path / "out")]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["pair"], row["methods"], row["precision"]) for row in rows] == [
        ("resnet8 → resnet8", 1, "fp32"),
        ("resnet8 → resnet8", 6, "fp32"),
    ]
    for row in rows:
        # of a single round, so the median of the ratios is the ratio of the medians
        quotient = row["kdbench_images_per_s"] / row["conventional_images_per_s"]
        assert row["ratio_conventional"] == pytest.approx(quotient, rel=2e-3)
        assert row["ratio_conventional_range"] == [row["ratio_conventional"]] * 2
        assert row["torchdistill_images_per_s"] is row["ratio_torchdistill"] is None
        assert row["reasons"]["ratio_torchdistill"] == without_torchdistill
        assert row["share_of_peak"] == pytest.approx(row["flops_per_s"] / row["peak_flops_per_s"], rel=2e-3)
        assert row["overhead_s_per_epoch_end"] > 0
    written = json.loads((tmp_path / "out" / "speed.json").read_text())
    assert written["rows"] == rows
    assert written["settings"]["steps"] == 1 and written["machine"]["cpu"] and written["versions"]["torch"]
    text = (tmp_path / "out" / "speed.md").read_text()
    assert "| resnet8 → resnet8 | 6 | fp32 |" in text
    assert "| geometric mean | 6 | fp32 |" in text
    assert without_torchdistill in text


def test_a_row_from_made_up_seconds(speed: ModuleType) -> None:
    task = speed.zoo_task("resnet20:resnet8", 2, 4, torch.device("cpu"))
    seconds = [(1.0, 4.0, 2.0), (2.0, 4.0, 2.0), (2.0, 10.0, 3.0)]
    turn = speed.cohort.Turn
    rounds = [
        speed.Round({(2, "fp32"): turn(ours, 0.5)}, {"kd": usual / 4, "dkd": 3 * usual / 4}, box)
        for ours, usual, box in seconds
    ]
    row = speed.row(task, 2, "fp32", rounds, peak=1e9, overhead=1e-3)
    assert row["kdbench_images_per_s"] == 2 * 4 / 2.0
    assert row["conventional_images_per_s"] == 2 * 4 / 4.0
    assert row["torchdistill_images_per_s"] == 4 / 2.0
    assert row["ratio_conventional"] == 4.0  # of 4, 2 and 5; the quotient of the medians is 2
    assert row["ratio_conventional_range"] == [2.0, 5.0]
    assert row["ratio_torchdistill"] == 3.0  # two students one after another take 4, 4, 6 against 1, 2, 2
    assert row["ratio_torchdistill_range"] == [2.0, 4.0]
    macs = [
        speed.count_multiply_adds(model, InputSpec.image((3, 32, 32))).headline
        for model in (task.teacher, task.student)
    ]
    assert row["flops_per_s"] == pytest.approx(2 * 4 * (macs[0] + 6 * macs[1]) / 2.0, rel=1e-3)
    assert row["share_of_peak"] == pytest.approx(row["flops_per_s"] / 1e9, rel=1e-3)
    # 12 500 steps of two students, 2 s each, and the end of the epoch
    assert row["overhead_share"] == pytest.approx((12500 * 2 * 1e-3 + 0.5) / (12500 * 2.0 + 0.5), rel=1e-3)
    assert row["reasons"] == {}


def test_the_loops_train_the_same_models_on_the_same_images(speed: ModuleType) -> None:
    task = speed.zoo_task("resnet8:resnet8", 3, 4, torch.device("cpu"))
    before = [value.clone() for value in task.student.state_dict().values()]
    first, second = (task.copies(layout) for layout in (torch.channels_last, torch.contiguous_format))
    for ours, theirs in zip(first, second, strict=True):
        for mine, other in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True):
            assert torch.equal(mine, other)
    images = speed.conventional.Images(task.images)
    assert len(images) == len(speed.cohort.batches_of(task)) == 12
    x, y = images[5]
    assert x.shape == (3, 32, 32) and y == task.images.labels[5]
    speed.conventional.take_turn(task, "fitnet", workers=0)
    speed.cohort.take_turn(task, ["kd", "at"], "fp32")
    # every turn trains copies
    assert all(torch.equal(a, b) for a, b in zip(before, task.student.state_dict().values(), strict=True))


def test_a_student_that_fails_stops_the_benchmark(speed: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    task = speed.zoo_task("resnet8:resnet8", 2, 4, torch.device("cpu"))
    distiller = type(task.distiller("dkd"))

    def fail(*arguments: object) -> None:
        raise ValueError("no loss today")

    monkeypatch.setattr(distiller, "losses", fail)
    with pytest.raises(RuntimeError, match=r"resnet8 → resnet8, 1 dkd: ValueError: no loss today"):
        speed.cohort.take_turn(task, ["kd", "dkd"], "fp32")


def test_torchdistill_trains_a_student(speed: ModuleType) -> None:
    pytest.importorskip("torchdistill")
    task = speed.zoo_task("resnet8:resnet8", 3, 4, torch.device("cpu"))
    assert speed.torchdistill_box.missing() is None
    assert speed.torchdistill_box.take_turn(task, workers=0) > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--pairs", "resnet56"], "error: --pairs resnet56: write a pair as TEACHER:STUDENT"),
        (["--pairs", "resnet56:resnt20"], "error: unknown model 'resnt20'"),
        (["--pairs", "resnet8:mlp_8"], "error: --pairs resnet8:mlp_8: at cannot distil it: "),
    ],
)
def test_bad_requests_are_one_line(
    speed: ModuleType, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert speed.main([*TINY, *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith(message) and error.count("\n") == 1


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--methods", "7", "--methods: each is 1 to 6, the first of kd, dkd, at, sp, fitnet, rkd"),
        ("--rounds", "0", "argument --rounds: invalid positive value: '0'"),
        ("--batch-size", "1", "--batch-size: batch-norm needs at least 2 images"),
        ("--workers", "-1", "--workers: 0 or more"),
    ],
)
def test_options_out_of_range_are_refused(
    speed: ModuleType, capsys: pytest.CaptureFixture[str], option: str, value: str, message: str
) -> None:
    with pytest.raises(SystemExit) as stopped:
        speed.main([option, value])
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_a_busy_machine_is_told(
    speed: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(speed.machine, "load_average", lambda: 1000.0)
    assert speed.main([*TINY, "--pairs", "resnet8"]) == 2
    assert "warning: the load average is 1000.0 on " in capsys.readouterr().err
