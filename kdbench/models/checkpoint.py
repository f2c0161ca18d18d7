"""Loading weights that a user brings, without running code that a user did not write.

Read are safetensors, and torch's own files with ``weights_only=True``: a pickle that would import or call
anything else is refused. A ``state_dict`` or ``model`` wrapper and a ``module.`` prefix are seen through.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from kdbench.errors import UserError, nearest

WRAPPERS = ("state_dict", "model_state_dict", "model")


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Return the weights by name; raises UserError for a missing, damaged or refused file."""
    if not path.is_file():
        raise UserError(f"checkpoint {path} does not exist.")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except SafetensorError as error:
            raise UserError(f"checkpoint {path} is not a readable safetensors file: {error}.") from error
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = _refusal(str(error))
        raise UserError(
            f"checkpoint {path} was refused: {reason}. "
            "Save the weights alone: torch.save(model.state_dict(), path)."
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise UserError(f"checkpoint {path} cannot be read: {' '.join(str(error).split())[:160]}.") from error
    return _unwrap(path, content)


def _refusal(message: str) -> str:
    for line in message.splitlines():
        if "GLOBAL" in line or "Unsupported" in line:
            return "it is a pickle that needs code (" + " ".join(line.split())[:140] + ")"
    return "it is not a file of weights"


def _unwrap(path: Path, content: Any) -> dict[str, Tensor]:
    for key in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
            break
    if not isinstance(content, dict) or not content:
        raise UserError(
            f"checkpoint {path} holds {type(content).__name__}, not weights by name (a state_dict)."
        )
    for name, value in content.items():
        if not isinstance(value, Tensor):
            raise UserError(f"checkpoint {path}: entry '{name}' is {type(value).__name__}, not a tensor.")
    if all(name.startswith("module.") for name in content):
        content = {name.removeprefix("module."): value for name, value in content.items()}
    return content


def fitting_weights(model: nn.Module, path: Path) -> dict[str, Tensor]:
    """Return the weights of a file after checking that every name and every shape fits the model.

    Raises:
        UserError: naming the first weight that is missing, unexpected or of another shape.
    """
    weights = read_checkpoint(path)
    expected = model.state_dict()
    missing = [name for name in expected if name not in weights]
    unexpected = [name for name in weights if name not in expected]
    if missing:
        hint = nearest(missing[0], unexpected)
        raise UserError(
            f"checkpoint {path} lacks {len(missing)} of the model's {len(expected)} weights, "
            f"first '{missing[0]}'.{hint}"
        )
    if unexpected:
        raise UserError(
            f"checkpoint {path} holds {len(unexpected)} weights that the model lacks, "
            f"first '{unexpected[0]}'."
        )
    for name, tensor in expected.items():
        if tensor.shape != weights[name].shape:
            raise UserError(
                f"checkpoint {path}: '{name}' has shape {tuple(weights[name].shape)}, "
                f"the model needs {tuple(tensor.shape)}: other classes, channels or width?"
            )
    return weights


def load_checkpoint(model: nn.Module, path: Path) -> None:
    """Load weights from a file into a model; raises UserError where they do not fit."""
    model.load_state_dict(fitting_weights(model, path))
