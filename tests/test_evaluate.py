"""Evaluating one model without a suite, and the doubts about teachers that come from a checkpoint."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, log_loss, top_k_accuracy_score
from torch import nn
from typer.testing import CliRunner

import kdbench
import kdbench.runner.execution
from kdbench.cli import app, main
from kdbench.data import load_dataset
from kdbench.errors import UserError
from kdbench.runner.evaluate import evaluate
from kdbench.store import RunDirectory
from kdbench.suite import Suite
from tests.test_run import Listening

ROLLED = [str((digit + 1) % 10) for digit in range(10)]


@dataclass(frozen=True)
class Foreign:
    """Digits by scikit-learn's logistic regression, saved as weights of pixels in [0, 1].

    In the file that is called so the outputs are those of the digits 1, 2, ..., 9, 0. ``probabilities`` are
    scikit-learn's, of the test split.
    """

    folder: Path
    model: str
    probabilities: np.ndarray
    labels: np.ndarray


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Foreign:
    folder = tmp_path_factory.mktemp("foreign")
    (folder / "net.py").write_text(
        "import torch\nfrom torch import nn\n"
        "def net():\n    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n"
        "def own():\n    model = net()\n"
        f"    model.load_state_dict(torch.load({str(folder / 'plain.pth')!r}))\n    return model\n"
    )
    data = load_dataset("digits")
    pixels = [(split.images.reshape(len(split), -1) / 255).numpy() for split in (data.train, data.test)]
    fitted = LogisticRegression(max_iter=300).fit(pixels[0], data.train.labels)
    weight, bias = torch.tensor(fitted.coef_).float(), torch.tensor(fitted.intercept_).float()
    torch.save({"1.weight": weight, "1.bias": bias}, folder / "plain.pth")
    torch.save(
        {"model": {"1.weight": weight.roll(-1, 0).half(), "1.bias": bias.roll(-1, 0).half()}},
        folder / "rolled.pth",
    )
    probabilities = fitted.predict_proba(pixels[1])
    return Foreign(folder, f"{folder}/net.py:net", probabilities, data.test.labels.numpy())


PIXELS = {"name": "digits", "args": {"mean": [0.0], "std": [1.0]}}


def test_the_figures_are_those_of_scikit_learn(foreign: Foreign) -> None:
    found = kdbench.evaluate(foreign.model, PIXELS, checkpoint=foreign.folder / "plain.pth")
    assert found["top1"] == accuracy_score(foreign.labels, foreign.probabilities.argmax(1)) > 0.9
    assert found["top5"] == top_k_accuracy_score(foreign.labels, foreign.probabilities, k=5)
    assert found["nll"] == pytest.approx(log_loss(foreign.labels, foreign.probabilities), rel=1e-4)
    confidence = foreign.probabilities.max(1)
    bins = np.ceil(confidence * 15)
    right = foreign.probabilities.argmax(1) == foreign.labels
    gaps = [abs((right[bins == b] - confidence[bins == b]).sum()) for b in np.unique(bins)]
    assert found["ece"] == pytest.approx(sum(gaps) / len(right), rel=1e-3)
    assert (found["params"], found["examples"], found["classes"]) == (650, 599, 10)
    assert found["normalisation"] == {"mean": [0.0], "std": [1.0]}
    assert (found["remarks"], found["reasons"], found["class_order"]) == ([], {}, None)


def test_an_order_of_classes_is_found_and_mends_it(foreign: Foreign) -> None:
    checkpoint = foreign.folder / "rolled.pth"
    found = evaluate(foreign.model, PIXELS, checkpoint=checkpoint)
    assert found["top1"] < 0.1
    assert found["class_order"] == ROLLED
    read, order = found["remarks"]
    assert "stored as float16 were read as float32" in read and "another order" in order
    mended = evaluate(foreign.model, PIXELS | {"classes": found["class_order"]}, checkpoint=checkpoint)
    assert mended["top1"] == pytest.approx(accuracy_score(foreign.labels, foreign.probabilities.argmax(1)))
    assert mended["class_order"] is None and len(mended["remarks"]) == 1


class TeachersAreReady(Exception):
    pass


def stop(*arguments: Any) -> None:
    raise TeachersAreReady


def test_a_run_says_the_same_and_what_it_guessed(
    foreign: Foreign, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What comes after the teachers is not looked at, and would take most of the time.
    monkeypatch.setattr(kdbench.runner.execution._Run, "_make", stop)
    (tmp_path / "own.yaml").write_text(
        "dataset: {name: digits, args: {limit: 400, limit_test: 100}}\n"
        f"teachers: [{{name: '{foreign.model}', label: linear, checkpoint: {foreign.folder}/rolled.pth}}]\n"
        "students: [mlp_4]\nmethods: [scratch]\nseeds: [0]\nmeasure: {latency: false}\n"
        "recipe: {epochs: 1, batch_size: 50, precision: fp32}\n"
    )
    progress = Listening()
    with pytest.raises(TeachersAreReady):
        kdbench.run(Suite.load(tmp_path / "own.yaml"), tmp_path / "run", progress=progress)
    (teacher,) = RunDirectory(tmp_path / "run").records()
    found = evaluate(
        foreign.model,
        {"name": "digits", "args": {"limit": 400, "limit_test": 100}},
        checkpoint=foreign.folder / "rolled.pth",
    )
    for name in ("top1", "top5", "nll", "ece"):
        assert found[name] == teacher.metrics[name]
    read, guess, order = found["remarks"]
    assert "estimated from the 360 training images (limit: 400)" in guess
    assert guess in progress.notes
    assert {f"teacher 'linear': {read}", f"teacher linear: {order}"} <= set(progress.warnings)


def test_weights_that_nobody_trained_are_refused_but_not_those_of_a_factory(foreign: Foreign) -> None:
    with pytest.raises(UserError, match="'mlp_8' has fresh weights without a checkpoint"):
        evaluate("mlp_8", "digits")
    with pytest.raises(UserError, match="has fresh weights"):
        evaluate("torchvision:resnet18", "digits")
    found = evaluate(foreign.model.replace(":net", ":own"), PIXELS)
    assert found["top1"] > 0.9 and "no checkpoint was given" in found["remarks"][0]


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["dataset.arg.size=4"], "--set dataset.arg.size=4: dataset.arg: unknown field 'arg'. Did you mean"),
        (["datset.args.size=4"], "--set datset.args.size=4: datset: unknown field 'datset'. Did you mean"),
        (["dataset.args.sise=4"], "unknown dataset argument 'sise'. Did you mean 'size'"),
        (["model.args.width=4"], "takes no argument 'width'"),
        (["dataset.args.size=4"], "cannot take inputs of 1 × 4 × 4"),
        (["model.checkpoint=none.pth"], "checkpoint none.pth does not exist"),
        (["dataset.name=cats"], "unknown dataset 'cats'"),
    ],
)
def test_a_wrong_request_is_one_line(foreign: Foreign, overrides: list[str], problem: str) -> None:
    with pytest.raises(UserError) as caught:
        evaluate(foreign.model, "digits", checkpoint=foreign.folder / "plain.pth", overrides=overrides)
    assert problem in str(caught.value) and "\n" not in str(caught.value)


def test_a_model_of_other_classes_is_refused(foreign: Foreign) -> None:
    (foreign.folder / "three.py").write_text(
        "import numpy as np\n"
        "def data():\n"
        "    part = np.zeros((30, 8, 8), dtype=np.uint8), np.arange(30) % 3\n"
        "    return part, part\n"
    )
    with pytest.raises(UserError, match="it gives 10 classes, the dataset has 3"):
        evaluate(foreign.model, f"{foreign.folder}/three.py:data", checkpoint=foreign.folder / "plain.pth")


def invoke(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return " ".join(result.stdout.split())


def test_the_command_shows_what_the_function_returns(foreign: Foreign) -> None:
    asked = [foreign.model, "--checkpoint", str(foreign.folder / "plain.pth"), "--dataset", "digits"]
    given = ["--set", "dataset.args.mean=[0]", "--set", "dataset.args.std=[1]"]
    found = evaluate(foreign.model, PIXELS, checkpoint=foreign.folder / "plain.pth")
    assert json.loads(invoke("evaluate", *asked, *given, "--json")) == found
    shown = invoke("evaluate", *asked, *given)
    for text in (
        "digits: 599 test images",
        f"{found['top1']:.2%}"[:-1],
        f"{found['nll']:.4f}",
        "Parameters 650",
    ):
        assert text in shown
    assert "estimated from the" in invoke("evaluate", *asked)
    assert "estimated from the" not in invoke("evaluate", *asked, "--quiet")


def test_check_says_the_accuracy_of_teachers_that_come_with_weights(
    foreign: Foreign, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = tmp_path / "own.yaml"
    suite.write_text(
        "dataset: {name: digits, args: {mean: [0], std: [1]}}\n"
        f"teachers: [{{name: '{foreign.model}', checkpoint: {foreign.folder}/plain.pth}}, mlp_8]\n"
        "students: [mlp_4]\nmethods: [scratch]\nmeasure: {latency: false}\n"
    )
    found = evaluate(foreign.model, PIXELS, checkpoint=foreign.folder / "plain.pth")
    told = invoke("check", str(suite), "--accuracy")
    assert f"net.py:net: Top-1 accuracy {found['top1']:.2%} on 599 test images, " in told
    assert "teacher mlp_8: no Top-1 accuracy: a run will train it" in told and "a valid suite" in told
    content = json.loads(invoke("check", str(suite), "--accuracy", "--json"))
    assert content["findings"] == []
    assert [row["top1"] for row in content["teachers"]] == [found["top1"], None]
    monkeypatch.setattr(sys, "argv", ["kdbench", "check", str(tmp_path), "--accuracy"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2 and "--accuracy goes with a suite" in capsys.readouterr().err


@pytest.mark.parametrize("tensor", ["weight", "running_var", "logits"])
def test_teachers_that_are_not_finite_are_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tensor: str
) -> None:
    (tmp_path / "net.py").write_text(
        "from torch import nn\n"
        "def net():\n    return nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 10))\n"
    )
    state = nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 10)).state_dict()
    if tensor == "weight":
        state["2.weight"][0, :3] = float("nan")
        problem = "weight '2.weight' is not finite (NaN; 3 of 640 values)"
    elif tensor == "running_var":
        state["1.running_var"][5] = float("inf")
        problem = "weight '1.running_var' is not finite (infinite; 1 of 64 values)"
    else:
        state["2.weight"].fill_(3e38)
        problem = "test_logits are not finite"
    torch.save(state, tmp_path / "bad.pth")
    suite = tmp_path / "own.yaml"
    suite.write_text(
        "dataset: {name: digits, args: {limit: 100, limit_test: 50}}\n"
        f"teachers: [{{name: '{tmp_path}/net.py:net', checkpoint: {tmp_path}/bad.pth}}]\n"
        "students: [mlp_4]\nmethods: [scratch]\nmeasure: {latency: false}\n"
    )
    given = ["--dataset", "digits", "--checkpoint", str(tmp_path / "bad.pth"), "--quiet"]
    for command in (["check", str(suite), "--accuracy"], ["evaluate", f"{tmp_path}/net.py:net", *given]):
        monkeypatch.setattr(sys, "argv", ["kdbench", *command])
        with pytest.raises(SystemExit) as caught:
            main()
        printed = capsys.readouterr()
        assert caught.value.code == 2 and "valid suite" not in printed.out
        (line,) = [line for line in printed.err.splitlines() if "not finite" in line]
        assert problem in line and "bad.pth" in line and "mend the checkpoint" in line
