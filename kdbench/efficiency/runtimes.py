"""One forward pass as it can be run: eager, compiled, exported, by ONNX Runtime, as a CUDA graph.

Before a runtime is timed its output is compared with that of eager mode in fp32.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from kdbench.errors import UserError
from kdbench.inputs import Inputs, cast, copied, laid_out, tensors
from kdbench.machine import native_bf16
from kdbench.models.trial import Trial
from kdbench.place import RUNTIME_TITLES, Place
from kdbench.temporary import temporary_folder

Call = Callable[[], Any]

# Largest difference from eager fp32 as a share of the largest output: sums in another order; 8 bits.
TOLERANCE = {"fp32": 1e-3, "bf16": 5e-2}


class Restored:
    """A call whose inputs are what they were before each call, although the model writes into them.

    ``restore`` does that; it is no part of what is timed.
    """

    def __init__(self, call: Call, inputs: Inputs, original: Inputs) -> None:
        """Take the call, the inputs that it reads and writes, and what they shall be."""
        self._call = call
        self._inputs = inputs
        self._original = original

    def restore(self) -> None:
        """Make the inputs what they were."""
        for mine, original in zip(tensors(self._inputs), tensors(self._original), strict=True):
            mine.copy_(original)

    def __call__(self) -> Any:
        """Run the forward pass."""
        return self._call()


def restore(call: Call) -> None:
    """Make the inputs of a call what they were before any call; most calls leave them alone."""
    if isinstance(call, Restored):
        call.restore()


def prepare(model: nn.Module, inputs: Inputs, place: Place, trial: Trial | None = None) -> Call:
    """Return the forward pass of ``inputs`` through a model, as it runs in a place.

    The model is moved to the device of the inputs and left there, in evaluation mode; where inputs have four
    dimensions, its weights and they are laid out channels_last, or contiguous where it fails in
    channels_last. bf16 is the model with its weights and inputs cast, so it needs a device that multiplies in
    bf16. A model that is not of the zoo, and was tried out, gets inputs of its own, for others would see what
    it writes there; the call of one that writes is to be given to ``restore`` before it is made.

    Raises:
        UserError: where the place cannot be had here (bf16 that is not native, an extra that is not
            installed), and where the output differs from eager fp32 by more than TOLERANCE.
        Exception: whatever compiling, exporting or capturing raises.
    """
    device = tensors(inputs)[0].device
    model.to(device).eval()
    if any(tensor.dim() == 4 for tensor in tensors(inputs)):
        memory_format = trial.memory_format if trial else torch.channels_last
        model.to(memory_format=memory_format)
        inputs = laid_out(inputs, memory_format)
    eager = _call("eager", model, inputs, trial)
    if (place.runtime, place.precision) == ("eager", "fp32"):
        return eager
    subject = model
    if place.precision == "bf16":
        if not native_bf16(device):
            raise UserError(f"bf16 is not native on this {'GPU' if device.type == 'cuda' else 'CPU'}")
        subject, inputs = copy.deepcopy(model).to(torch.bfloat16), cast(inputs, torch.bfloat16)
    call = _call(place.runtime, subject, inputs, trial)
    check_parity(call, eager, place)
    return call


def _call(runtime: str, model: nn.Module, inputs: Inputs, trial: Trial | None) -> Call:
    if trial is None:
        return _MAKERS[runtime](model, inputs)
    own = copied(inputs)
    call = _MAKERS[runtime](model, own)
    return Restored(call, own, inputs) if trial.changes_input else call


def check_parity(call: Call, eager: Call, place: Place) -> None:
    """Raise UserError where a call's output is not that of eager mode in fp32, up to TOLERANCE."""
    with torch.inference_mode():
        restore(eager)
        expected = _tensor(eager())
        restore(call)
        output = _tensor(call())
    if output.shape != expected.shape:
        raise UserError(
            f"{RUNTIME_TITLES[place.runtime]} gives an output of shape {tuple(output.shape)}, "
            f"eager mode {tuple(expected.shape)}"
        )
    largest = float(expected.abs().max())
    apart = float((output - expected).abs().max())
    # Written so that NaN on either side is no parity.
    if not apart <= TOLERANCE[place.precision] * largest:
        raise UserError(
            f"the output of {RUNTIME_TITLES[place.runtime]} in {place.precision} differs from that of eager "
            f"fp32 by {apart:.2g} where the largest is {largest:.2g}; allowed is "
            f"{TOLERANCE[place.precision]:.1%} of that"
        )


def _tensor(output: Any) -> Tensor:
    if isinstance(output, list):
        output = torch.from_numpy(output[0])
    if not isinstance(output, Tensor):
        raise UserError(f"the model returns {type(output).__name__}; outputs are compared as one tensor")
    return output.detach().float().cpu()


def _eager(model: nn.Module, inputs: Inputs) -> Call:
    return partial(model, inputs)


def _compiled(model: nn.Module, inputs: Inputs) -> Call:
    def forward(inputs: Inputs) -> Any:
        return model(inputs)

    # dynamo keeps what it compiled with the code object. One of its own spares the model the guards and the
    # recompile limit that models of one class would share.
    forward.__code__ = forward.__code__.replace(co_name=f"forward_{id(model)}")
    call = partial(torch.compile(forward, dynamic=False), inputs)
    with torch.inference_mode():
        call()
    return call


def _exported(model: nn.Module, inputs: Inputs) -> Call:
    with torch.no_grad():
        return partial(torch.export.export(model, (inputs,)).module(), inputs)


def _onnx(model: nn.Module, inputs: Inputs) -> Call:
    if any(tensor.is_cuda for tensor in tensors(inputs)):
        raise UserError("ONNX Runtime is timed on the CPU only")
    if any(tensor.dtype == torch.bfloat16 for tensor in tensors(inputs)):
        raise UserError("ONNX Runtime is timed in fp32 only")
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if missing:
        raise UserError(f"{', '.join(missing)} is not installed: pip install 'kdbench[onnx]'")
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Its threads would otherwise go on spinning into the turn of the next model.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    with temporary_folder("kdbench-onnx-") as folder, torch.no_grad():
        # The exporter takes a mapping that comes last for keyword arguments.
        program = torch.onnx.export(model, (inputs, {}), dynamo=True, verbose=False)
        assert program is not None
        file = folder / "model.onnx"
        program.save(str(file))
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]
    fed = (tensor.contiguous().numpy() for tensor in tensors(inputs))
    return partial(session.run, None, dict(zip(names, fed, strict=True)))


def _graph(model: nn.Module, inputs: Inputs) -> Call:
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.inference_mode():
        # Libraries set themselves up at their first calls, which a capture does not allow; the handles of
        # some are by stream, so these calls are on the stream that captures.
        with torch.cuda.stream(stream):
            for _ in range(3):
                model(inputs)
        torch.cuda.current_stream().wait_stream(stream)
        with torch.cuda.graph(graph, stream=stream):
            output = model(inputs)

    def replay() -> Any:
        graph.replay()
        return output

    return replay


_MAKERS: dict[str, Callable[[nn.Module, Inputs], Call]] = {
    "eager": _eager,
    "compile": _compiled,
    "export": _exported,
    "onnx": _onnx,
    "graph": _graph,
}
