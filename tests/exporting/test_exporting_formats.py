"""Each format against the student: the same logits, any batch, the card; nothing is left of a failure."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import safetensors
import torch
from typer.testing import CliRunner

from kdbench.cli import app, main
from kdbench.errors import UserError
from kdbench.exporting import FORMATS, TrainedStudent, export, trained_student
from kdbench.exporting.parity import parity
from kdbench.inputs import InputSpec
from kdbench.store import RunDirectory
from tests.exporting.conftest import cells


def student_of(run: Path, name: str, method: str) -> TrainedStudent:
    return trained_student(RunDirectory.open(run), cells(run)[name, method])


def logits(student: TrainedStudent, inputs: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        return student.model(inputs).numpy()


def test_onnx_holds_the_model_and_its_card_and_takes_any_batch(finished: Path, tmp_path: Path) -> None:
    student = student_of(finished, "cnn_2", "scratch")
    exported = export(student, "onnx", tmp_path / "student.onnx")
    assert exported.parity.holds and exported.parity.agreement == 1 and exported.parity.inputs == 64
    assert sorted(path.name for path in tmp_path.iterdir()) == ["student.onnx"], "the weights are inside"
    assert exported.bytes == exported.path.stat().st_size > 4 * 400
    session = onnxruntime.InferenceSession(exported.path)
    for size in (1, 5):
        inputs = torch.randn(size, 1, 8, 8)
        (found,) = session.run(["logits"], {"input": inputs.numpy()})
        np.testing.assert_allclose(found, logits(student, inputs), rtol=1e-4, atol=1e-5)
    kept = {entry.key: entry.value for entry in onnx.load(exported.path).metadata_props}
    assert json.loads(kept["mean"]) == student.card["mean"]
    assert json.loads(kept["classes"]) == student.card["classes"]
    assert kept["method"] == "scratch"


def test_torch_export_of_what_simkd_keeps_has_its_card_beside_it(finished: Path, tmp_path: Path) -> None:
    student = student_of(finished, "cnn_2", "simkd")
    exported = export(student, "torch-export", tmp_path / "deep" / "student.pt2")
    assert exported.parity.holds and exported.parity.agreement == 1
    program = torch.export.load(exported.path).module()
    inputs = torch.randn(3, 1, 8, 8)
    np.testing.assert_allclose(program(inputs).detach(), logits(student, inputs), rtol=1e-4, atol=1e-5)
    assert exported.card == tmp_path / "deep" / "student.json"
    assert json.loads(exported.card.read_text()) == student.card


def test_safetensors_of_a_users_own_model_holds_weights_and_card(finished: Path, tmp_path: Path) -> None:
    student = student_of(finished, "mine", "scratch")
    exported = export(student, "safetensors", tmp_path / "student.safetensors")
    assert (exported.parity.difference, exported.parity.agreement) == (0, 1)
    with safetensors.safe_open(exported.path, "pt") as file:
        assert set(file.keys()) == set(student.model.state_dict())
        assert json.loads(file.metadata()["input_shape"]) == [1, 8, 8]


def test_a_file_that_computes_something_else_is_not_written(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = student_of(finished, "mine", "scratch")
    out = tmp_path / "student.safetensors"
    out.write_text("an earlier file")

    def read(student: TrainedStudent, path: Path):
        return student.fresh().eval()

    monkeypatch.setitem(FORMATS, "safetensors", replace(FORMATS["safetensors"], read=read))
    with pytest.raises(
        UserError, match=r"was not written to safetensors, for its logits differ: on 64 inputs"
    ):
        export(student, "safetensors", out)
    assert out.read_text() == "an earlier file"
    assert list(tmp_path.iterdir()) == [out]


def test_logits_that_are_not_numbers_are_no_parity(finished: Path) -> None:
    student = student_of(finished, "mine", "scratch")
    assert not parity(
        student.model, lambda x: torch.full((len(x), 10), torch.nan), InputSpec.image((1, 8, 8))
    ).holds
    off = parity(student.model, lambda x: student.model(x) + 0.5, InputSpec.image((1, 8, 8)))
    assert off.difference == pytest.approx(0.5, rel=1e-4)
    assert off.agreement == 1 and not off.holds


def test_a_model_that_a_format_cannot_hold_is_refused_in_one_line(finished: Path, tmp_path: Path) -> None:
    class Branches(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.flatten(1) if x.sum().item() > 0 else -x.flatten(1)

    student = replace(student_of(finished, "mine", "scratch"), model=Branches().eval())
    with pytest.raises(UserError, match=r"cannot be exported to torch-export: ") as caught:
        export(student, "torch-export", tmp_path / "student.pt2")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_without_the_extra_the_command_that_installs_it_is_named(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(
        UserError, match=r"ONNX needs the package 'onnxscript': pip install 'kdbench\[onnx\]'"
    ):
        export(student_of(finished, "mine", "scratch"), "onnx", tmp_path / "student.onnx")
    assert list(tmp_path.iterdir()) == []


def test_the_command_writes_and_states_the_parity(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    id = cells(finished)["mine", "scratch"]
    arguments = ["export", id, "--run", str(finished), "--to", "safetensors"]
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    text = " ".join(done.output.split())
    assert text.startswith(f"Wrote {id}.safetensors (")
    assert "the largest difference from eager is 0, the largest logit " in text
    assert text.endswith("top-1 agreement 100.0%.")
    done = CliRunner().invoke(app, [*arguments, "--best", "--json"], catch_exceptions=False)
    found = json.loads(done.output)
    assert (found["difference"], found["agreement"], found["card"]) == (0, 1, None)
    monkeypatch.setattr(sys, "argv", ["kdbench", "export", "nothing", "--run", str(finished), "--to", "onnx"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert "unknown cell 'nothing'" in capsys.readouterr().err
