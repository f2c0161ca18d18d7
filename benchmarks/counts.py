"""Counts against what torchvision publishes: parameters and multiply-adds of every classification model.

    python benchmarks/counts.py                     every model up to 12 GMACs, into results/counts
    python benchmarks/counts.py --json resnet18     some models, as JSON on standard output, written nowhere

Published are ``num_params`` and ``_ops`` (GMACs of one image, three decimals) of each model's default
weights, of which nothing is downloaded: counts do not depend on the values of weights. Exit status 1 where a
number of parameters is another one, or the multiply-adds are more than 1 % off.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torchvision
from torch import nn

from kdbench.efficiency.counts import count_by_operator_torch, count_multiply_adds
from kdbench.efficiency.crosscheck import describe_difference
from kdbench.errors import UserError
from kdbench.machine import versions
from kdbench.store import write_atomic, write_json

TOLERANCE = 0.01


@dataclass(frozen=True)
class Checked:
    """A model with its counts and those that are published."""

    model: str
    weights: str
    side: int
    params: int
    params_published: int
    gmacs: float
    gmacs_published: float
    gmacs_fvcore: float
    gmacs_torch: float
    activations: int
    arithmetic_intensity: float
    torch_note: str | None

    @property
    def off(self) -> float:
        """How far the multiply-adds are from the published ones, as a share of these."""
        # Published are three decimals: at 0.04 GMACs half of the last one is already 1 %.
        return (round(self.gmacs, 3) - self.gmacs_published) / self.gmacs_published

    @property
    def fault(self) -> str | None:
        """What is wrong, or None."""
        if self.params != self.params_published:
            return f"{self.params - self.params_published:+,} parameters"
        if abs(self.off) > TOLERANCE:
            return f"{self.off:+.2%} multiply-adds"
        return None


def published_models(most_gmacs: float) -> list[str]:
    """Return the classification models that torchvision publishes up to a number of GMACs."""
    names = torchvision.models.list_models(module=torchvision.models)
    return [name for name in names if _weights(name).meta["_ops"] <= most_gmacs]


def check(name: str) -> Checked:
    """Build a model without its weights and count it at the image size of its published weights."""
    weights = _weights(name)
    side = weights.transforms().crop_size[0]
    model, shape = _blank(name), (3, side, side)
    counted = count_multiply_adds(model, shape)
    if counted.uncounted:
        raise UserError(f"{name}: {', '.join(counted.uncounted)} is not counted: give it a rule.")
    by_torch = count_by_operator_torch(model, shape)
    return Checked(
        model=name,
        weights=str(weights),
        side=side,
        params=sum(parameter.numel() for parameter in model.parameters()),
        params_published=weights.meta["num_params"],
        gmacs=counted.headline / 1e9,
        gmacs_published=weights.meta["_ops"],
        gmacs_fvcore=sum(counted.by_operator.values()) / 1e9,
        gmacs_torch=sum(by_torch.values()) / 1e9,
        activations=counted.activations,
        arithmetic_intensity=2 * counted.headline / counted.traffic_bytes,
        torch_note=describe_difference(counted.by_convention, by_torch),
    )


def _weights(name: str) -> torchvision.models.WeightsEnum:
    return torchvision.models.get_model_weights(name).DEFAULT


def _blank(name: str) -> nn.Module:
    """Return a model of zeros, which takes no time to initialise."""
    arguments = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    if name == "googlenet":
        # Of the two models with auxiliary classifiers, the published count of the other holds them.
        arguments["aux_logits"] = False
    # RegNets compute their widths with tensors while they are built.
    with torch.device("cpu" if name.startswith("regnet") else "meta"):
        model = torchvision.models.get_model(name, weights=None, **arguments)
    model = model.to_empty(device="cpu").eval()
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data.zero_()
    return model


def table(rows: list[Checked]) -> Iterator[str]:
    """Yield the lines of the table, and what to know of it."""
    yield "# Counts against torchvision\n"
    installed = versions()
    yield (
        f"{len(rows)} classification models of torchvision {installed['torchvision']}, counted by kdbench "
        f"{installed['kdbench']} with torch {installed['torch']} at the image size of their default weights. "
        "Published are `num_params` and `_ops` of these weights. One multiply-add is 1; *fvcore* also counts "
        "norms and pooling; *torch* is `torch.utils.flop_counter`, halved. "
        "Made by `python benchmarks/counts.py`.\n"
    )
    exact_params = sum(row.params == row.params_published for row in rows)
    exact, close = (sum(abs(row.off) <= most for row in rows) for most in (0, TOLERANCE))
    agreed = sum(row.torch_note is None for row in rows)
    widest = max(rows, key=lambda row: row.gmacs_fvcore / row.gmacs)
    yield (
        f"Parameters are those published for {exact_params} of {len(rows)} models. Multiply-adds are those "
        f"published, to their three decimals, for {exact} and within 1 % for {close}. torch's counter gives "
        f"exactly the headline for {agreed}. fvcore's wider count is up to "
        f"{widest.gmacs_fvcore / widest.gmacs - 1:.1%} more ({widest.model}).\n"
    )
    yield (
        "| model | image | params | published | GMACs | published | difference | GMACs, fvcore | "
        "GMACs, torch | activations (M) | FLOP/byte |"
    )
    yield "|:--|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
    for row in rows:
        yield (
            f"| {row.model} | {row.side} | {row.params:,} | {row.params_published:,} | {row.gmacs:.3f} | "
            f"{row.gmacs_published:.3f} | {row.off:+.2%} | {row.gmacs_fvcore:.3f} | {row.gmacs_torch:.3f} | "
            f"{row.activations / 1e6:.2f} | {row.arithmetic_intensity:.1f} |"
        )
    yield "\nExceptions: " + ("; ".join(_exceptions(rows)) or "none") + "."


def _exceptions(rows: list[Checked]) -> Iterator[str]:
    for row in rows:
        for text in filter(None, (row.fault, row.torch_note)):
            yield f"{row.model}: {text}"


def main() -> int:
    """Check the models that the command line names, or all of them, and write the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("models", nargs="*", help="Models of torchvision; all by default.")
    parser.add_argument("--most", type=float, default=12.0, help="GMACs of the largest model; default 12.")
    parser.add_argument("--out", type=Path, default=Path("results/counts"), help="Folder of the table.")
    parser.add_argument("--json", action="store_true", help="Print a list of objects and write nothing.")
    arguments = parser.parse_args()
    rows = []
    for name in arguments.models or published_models(arguments.most):
        rows.append(check(name))
        print(f"{name}: {rows[-1].fault or 'agrees'}", file=sys.stderr, flush=True)
    if arguments.json:
        print(json.dumps([asdict(row) for row in rows], indent=1))
    else:
        content = {"versions": versions(), "models": [asdict(row) for row in rows]}
        write_json(arguments.out / "counts.json", content)
        write_atomic(arguments.out / "counts.md", "\n".join(table(rows)) + "\n")
    return int(any(row.fault for row in rows))


if __name__ == "__main__":
    sys.exit(main())
