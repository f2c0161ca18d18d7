"""What a model is shown, as a value: named fields, and the tensors that they become.

A network with one field is shown a tensor (B, ...), one with several a mapping of tensors by name, each with
a row an example. What shared code does to either stands here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from kdbench.deferred import torch

if TYPE_CHECKING:
    from torch import Tensor, nn

Inputs: TypeAlias = "Tensor | Mapping[str, Tensor]"

# The field whose pixels are normalised and augmented, and which a network for images is shown alone.
IMAGE = "image"
DTYPES = ("float32", "int64")


@dataclass(frozen=True)
class Field:
    """One field: its shape without the batch, its type, and the least and the largest of its values.

    A field without a range, which only float32 can be, is about standard normal, as normalised pixels are.
    """

    shape: tuple[int, ...]
    dtype: str = "float32"
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        """Refuse a type that no batch has, and whole numbers without a range."""
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype is {self.dtype}: it is one of {', '.join(DTYPES)}")
        if (self.low is None or self.high is None) and self.dtype == "int64":
            raise ValueError("an int64 field needs low and high")

    def values(self, count: int, generator: torch.Generator) -> Tensor:
        """Return random values (count, ...): standard normal, or uniform between low and high."""
        size = (count, *self.shape)
        if self.low is None or self.high is None:
            return torch.randn(size, generator=generator)
        if self.dtype == "int64":
            return torch.randint(int(self.low), int(self.high) + 1, size, generator=generator)
        drawn = self.low + (self.high - self.low) * torch.rand(size, generator=generator)
        return drawn.clamp(self.low, self.high)

    @property
    def bytes(self) -> int:
        """How many bytes it takes in one example."""
        return math.prod(self.shape) * (8 if self.dtype == "int64" else 4)

    def __str__(self) -> str:
        """Return the shape as people write it: ``3 × 32 × 32``."""
        return " × ".join(map(str, self.shape)) or "one number"


@dataclass(frozen=True)
class InputSpec:
    """The fields that a model is shown, by name and in order.

    >>> str(InputSpec.image((3, 32, 32)))
    '3 × 32 × 32'
    >>> str(InputSpec({"image": Field((1, 8, 8)), "sensor": Field((5,))}))
    'image 1 × 8 × 8, sensor 5'
    """

    fields: Mapping[str, Field]

    @classmethod
    def image(cls, shape: Sequence[int]) -> InputSpec:
        """Return the spec of normalised images (C, H, W)."""
        return cls({IMAGE: Field(tuple(shape))})

    @classmethod
    def from_json(cls, content: Iterable[Mapping[str, Any]]) -> InputSpec:
        """Return the spec that ``as_json`` wrote."""
        fields = {}
        for each in content:
            values = {key: value for key, value in each.items() if key != "name"}
            fields[each["name"]] = Field(**values | {"shape": tuple(each["shape"])})
        return cls(fields)

    @classmethod
    def recorded(cls, content: Mapping[str, Any]) -> InputSpec:
        """Return the spec of a run or a card; older ones hold an ``input_shape`` alone."""
        return cls.from_json(content["inputs"]) if "inputs" in content else cls.image(content["input_shape"])

    def as_json(self) -> list[dict[str, Any]]:
        """Return the fields as plain values, in a list, whose order no writer of JSON changes."""
        return [
            {"name": name, **asdict(field), "shape": list(field.shape)} for name, field in self.fields.items()
        ]

    def as_recorded(self) -> dict[str, Any]:
        """Return what runs and cards hold, ``input_shape`` included where there is one image."""
        shape = self.image_shape
        return ({"input_shape": list(shape)} if shape else {}) | {"inputs": self.as_json()}

    @property
    def image_shape(self) -> tuple[int, int, int] | None:
        """The shape (C, H, W) where there is one field, and it is an image or like one."""
        only = next(iter(self.fields.values()))
        if len(self.fields) > 1 or len(only.shape) != 3 or only.dtype != "float32":
            return None
        channels, height, width = only.shape
        return channels, height, width

    def example(self, count: int, device: torch.device | str = "cpu") -> Inputs:
        """Return inputs for ``count`` examples: random, and the same in every call."""
        generator = torch.Generator().manual_seed(0)
        drawn = {name: field.values(count, generator) for name, field in self.fields.items()}
        return changed(packed(drawn), lambda tensor: tensor.to(device))

    def example_for(self, model: nn.Module, count: int) -> Inputs:
        """Return the same inputs on the device of a model."""
        parameter = next(model.parameters(), None)
        return self.example(count, "cpu" if parameter is None else parameter.device)

    def __str__(self) -> str:
        """Return the shapes in a few words, with the names where there are several."""
        if self.fields.keys() == {IMAGE}:
            return str(self.fields[IMAGE])
        return ", ".join(f"{name} {field}" for name, field in self.fields.items())


def packed(fields: Mapping[str, Tensor]) -> Inputs:
    """Return the tensors of all fields as a model is shown them: the tensor itself where there is one."""
    return fields if len(fields) > 1 else next(iter(fields.values()))


def changed(inputs: Inputs, change: Callable[[Tensor], Tensor]) -> Inputs:
    """Return inputs with every tensor replaced by what ``change`` makes of it."""
    if isinstance(inputs, Mapping):
        return {name: change(tensor) for name, tensor in inputs.items()}
    return change(inputs)


def tensors(inputs: Inputs) -> tuple[Tensor, ...]:
    """Return the tensors of inputs, in the order of the fields."""
    return tuple(inputs.values()) if isinstance(inputs, Mapping) else (inputs,)


def examples(inputs: Inputs) -> int:
    """Return how many examples inputs hold."""
    return len(tensors(inputs)[0])


def first(inputs: Inputs, count: int) -> Inputs:
    """Return the first ``count`` examples of inputs."""
    return changed(inputs, lambda tensor: tensor[:count])


def copied(inputs: Inputs) -> Inputs:
    """Return the same values in memory of their own."""
    return changed(inputs, lambda tensor: tensor.clone())


def same(left: Inputs, right: Inputs) -> bool:
    """Return whether two inputs of one spec hold equal values."""
    return all(map(torch.equal, tensors(left), tensors(right)))


def laid_out(inputs: Inputs, memory_format: torch.memory_format) -> Inputs:
    """Return inputs with those of four dimensions, which are images, in a memory format."""
    return changed(
        inputs,
        lambda tensor: tensor.contiguous(memory_format=memory_format) if tensor.dim() == 4 else tensor,
    )


def cast(inputs: Inputs, dtype: torch.dtype) -> Inputs:
    """Return inputs with floats in another type; whole numbers stay what they are."""
    return changed(inputs, lambda tensor: tensor.to(dtype) if tensor.is_floating_point() else tensor)
