"""A network tried out on two examples: evaluated, trained a step, and in which memory format it can be."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdbench.code.foreign import foreign
from kdbench.errors import in_words
from kdbench.inputs import InputSpec, copied, laid_out, same, tensors
from kdbench.models.outputs import NoLogits, described
from kdbench.shared_state import kept_settings, kept_streams, seed_streams

EXAMPLES = 2
# What two passes over the same inputs may differ by, as a share of the largest logit.
ROUNDING = 1e-5
FORMAT_NAMES = {torch.channels_last: "channels_last", torch.contiguous_format: "contiguous"}


@dataclass(frozen=True)
class Trial:
    """What became of a network in its trial.

    Attributes:
        memory_format: channels_last, or contiguous where the network fails in channels_last only.
        evaluated: whether it can be evaluated.
        failure: why it cannot be evaluated or trained; None where it can.
        without_channels_last: why it cannot be in channels_last, where it is not.
        changes_input: whether it writes into the inputs that it is shown.
        repeats: whether it gives the same logits when it is evaluated on the same inputs again.
        in_training: what it returns in training, where that is no tensor while evaluation gives one.
        in_bf16: why it fails in bf16, where that was tried and it can do the same in float32.
    """

    memory_format: torch.memory_format = torch.channels_last
    evaluated: bool = False
    failure: str | None = None
    without_channels_last: str | None = None
    changes_input: bool = False
    repeats: bool = True
    in_training: str | None = None
    in_bf16: str | None = None

    def remarks(self) -> Iterator[str]:
        """Yield what a person should know of the network, a line each."""
        if self.without_channels_last is not None:
            yield (
                "it fails in channels_last memory, so it is trained, evaluated and measured in contiguous "
                f"memory ({self.without_channels_last})"
            )
        if self.changes_input:
            yield "it changes its input in place: it is given a copy of every batch"
        if not self.repeats:
            yield (
                "it gives other logits when it is shown the same inputs again in evaluation mode (a dropout "
                "without training=self.training?): its figures are those of one random draw"
            )
        if self.in_training is not None:
            yield (
                f"in training it returns {self.in_training}: its logits are taken, and auxiliary heads are "
                "not trained by a loss of their own"
            )


def passing(network: nn.Module) -> AbstractContextManager[None]:
    """Return what says that a network is shown something for the first time, and must come to an end."""
    kind = type(network)
    try:
        place = f" ({Path(inspect.getfile(kind)).name})"
    except (TypeError, OSError):
        place = ""
    return foreign(f"a first pass through {kind.__name__}{place}", limited=True)


def try_out(model: nn.Module, spec: InputSpec, *, bf16: bool = False, trained: bool = True) -> Trial:
    """Evaluate a copy of a network and train it for a step, in channels_last and, if that fails, contiguous.

    With ``bf16`` it is also run forward under autocast to bf16, and trained a step so if it is ``trained`` at
    all. The network, torch's settings and the random streams are left as they were.
    """
    with kept_settings(), kept_streams():
        trial = _attempts(model, spec)
        if bf16 and (trial.failure is None or (trial.evaluated and not trained)):
            trial = replace(trial, in_bf16=_fails_in_bf16(model, spec, trial.memory_format, trained))
    return trial


def _attempts(model: nn.Module, spec: InputSpec) -> Trial:
    usual = _attempt(model, spec, torch.channels_last)
    if usual.failure is None:
        return usual
    contiguous = _attempt(model, spec, torch.contiguous_format)
    better = contiguous.failure is None or (contiguous.evaluated and not usual.evaluated)
    return replace(contiguous, without_channels_last=usual.failure) if better else usual


def _fails_in_bf16(
    model: nn.Module, spec: InputSpec, memory_format: torch.memory_format, trained: bool
) -> str | None:
    # A network of a user's own may raise anything.
    try:
        network = copy.deepcopy(model).to(memory_format=memory_format).train(trained)
        inputs = laid_out(spec.example_for(network, EXAMPLES), memory_format)
        with passing(network), torch.set_grad_enabled(trained):
            with torch.autocast(tensors(inputs)[0].device.type, dtype=torch.bfloat16):
                logits = network(inputs)
            if trained and logits.requires_grad:
                F.cross_entropy(logits.float(), logits.new_zeros(EXAMPLES, dtype=torch.long)).backward()
    except Exception as error:
        return _in_words(error)
    return None


def _attempt(model: nn.Module, spec: InputSpec, memory_format: torch.memory_format) -> Trial:
    trial = Trial(memory_format)
    # A network of a user's own may raise anything.
    try:
        network = copy.deepcopy(model).to(memory_format=memory_format)
        inputs = laid_out(spec.example_for(network, EXAMPLES), memory_format)
        network.eval()
        with passing(network), torch.no_grad(), _returned(network) as evaluation:
            shown = copied(inputs)
            seed_streams(0)
            first = network(shown).float()
            changed = not same(shown, inputs)
            second = network(copied(inputs)).float()
        apart, largest = (second - first).detach().abs().max(), first.detach().abs().max()
        # Written so that NaN, which is another fault, counts as the same.
        repeats = not bool(apart > ROUNDING * largest)
        trial = replace(trial, evaluated=True, changes_input=changed, repeats=repeats)
        network.train()
        with passing(network), torch.enable_grad(), _returned(network) as training:
            shown = copied(inputs)
            logits = network(shown).float()
            if logits.shape != first.shape:
                shapes = f"{tuple(logits.shape)} in training and {tuple(first.shape)} in evaluation"
                return replace(trial, failure=f"its logits have shape {shapes}")
            if any(parameter.requires_grad for parameter in network.parameters()):
                F.cross_entropy(logits, logits.new_zeros(EXAMPLES, dtype=torch.long)).backward()
        changed = changed or not same(shown, inputs)
    except NoLogits as error:
        return replace(trial, failure=f"in {'training' if trial.evaluated else 'evaluation'} {error}")
    except Exception as error:
        return replace(trial, failure=_in_words(error))
    only_in_training = not isinstance(training[-1], Tensor) and isinstance(evaluation[-1], Tensor)
    return replace(
        trial, changes_input=changed, in_training=described(training[-1]) if only_in_training else None
    )


def _in_words(error: Exception) -> str:
    return f"{type(error).__name__}: {in_words(error)[:200]}"


@contextmanager
def _returned(model: nn.Module) -> Iterator[list[Any]]:
    """Note what a network returns, before any hook takes the logits out of it."""
    outputs: list[Any] = []
    handle = model.register_forward_hook(lambda module, inputs, output: outputs.append(output), prepend=True)
    try:
        yield outputs
    finally:
        handle.remove()
