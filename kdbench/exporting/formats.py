"""The formats: how each is written, and read back as a function from inputs to logits."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from kdbench.errors import UserError
from kdbench.exporting.cell import TrainedStudent
from kdbench.inputs import Inputs, tensors

Run = Callable[[Inputs], Tensor]
BATCH = "batch"


@dataclass(frozen=True)
class Format:
    """A format: the suffix of its files, how a student is written to a file, and read from it.

    ``read`` gets the student too, for the format that holds weights alone. ``card_beside`` says that the
    card stands in a JSON file beside the model, not in it.
    """

    suffix: str
    write: Callable[[TrainedStudent, Path], None]
    read: Callable[[TrainedStudent, Path], Run]
    card_beside: bool = False


def write_safetensors(student: TrainedStudent, path: Path) -> None:
    """Write the weights, with the card as the file's metadata."""
    weights = {name: tensor.contiguous().clone() for name, tensor in student.model.state_dict().items()}
    safetensors.torch.save_file(weights, path, metadata=_texts(student.card))


def read_safetensors(student: TrainedStudent, path: Path) -> Run:
    """Return the model with the weights of the file."""
    model = student.fresh()
    model.load_state_dict(safetensors.torch.load_file(path))
    return model.eval()


def write_torch_export(student: TrainedStudent, path: Path) -> None:
    """Write the program of torch.export, for any batch size."""
    inputs, shapes = _example(student)
    program = torch.export.export(student.model, (inputs,), dynamic_shapes=(shapes,))
    torch.export.save(program, path)


def read_torch_export(student: TrainedStudent, path: Path) -> Run:
    """Return the program of a file."""
    return torch.export.load(path).module()


def write_onnx(student: TrainedStudent, path: Path) -> None:
    """Write an ONNX model with output ``logits``, for any batch size, weights inside.

    Its input is ``input``, or where there are several each goes by the name of its field.

    Raises UserError where the extra ``onnx`` is not installed.
    """
    _require_onnx()
    inputs, shapes = _example(student)
    program = torch.onnx.export(
        student.model,
        # The exporter takes a mapping that comes last for keyword arguments.
        (inputs, {}),
        dynamo=True,
        dynamic_shapes=(shapes,),
        input_names=_names(student),
        output_names=["logits"],
        verbose=False,
    )
    assert program is not None
    program.model.metadata_props.update(_texts(student.card))
    program.save(path, external_data=False)


def read_onnx(student: TrainedStudent, path: Path) -> Run:
    """Return ONNX Runtime's session of a file, on the CPU."""
    _require_onnx()
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = _names(student)

    def run(inputs: Inputs) -> Tensor:
        fed = (tensor.numpy() for tensor in tensors(inputs))
        return torch.from_numpy(session.run(["logits"], dict(zip(names, fed, strict=True)))[0])

    return run


FORMATS = {
    "onnx": Format(".onnx", write_onnx, read_onnx),
    "torch-export": Format(".pt2", write_torch_export, read_torch_export, card_beside=True),
    "safetensors": Format(".safetensors", write_safetensors, read_safetensors),
}


def _require_onnx() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"ONNX needs the package '{error.name}': pip install 'kdbench[onnx]', or pip install "
            "onnx onnxscript onnxruntime."
        ) from None


def _example(student: TrainedStudent) -> tuple[Inputs, Any]:
    """Return inputs to trace with, and which of their sizes are any."""
    batch = torch.export.Dim(BATCH)
    # A batch of one would be taken for a fixed size.
    inputs = student.inputs.example(2)
    free = {name: {0: batch} for name in student.inputs.fields}
    return inputs, free if len(free) > 1 else {0: batch}


def _names(student: TrainedStudent) -> list[str]:
    names = list(student.inputs.fields)
    return names if len(names) > 1 else ["input"]


def _texts(card: dict[str, Any]) -> dict[str, str]:
    """Return a card as the texts that files hold; what is no text is JSON."""
    return {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in card.items()
    }
