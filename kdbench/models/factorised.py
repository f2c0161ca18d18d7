"""A linear or convolutional layer as two thinner ones, whose product is the layer."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Factorised(nn.Sequential):
    """Two layers in the place of one; ``weight`` and ``bias`` are those of the one that they multiply to.

    Modules exist that read the weights of their layers, such as torch's own encoder layer.
    """

    @property
    def weight(self) -> Tensor:
        """The product: (out, in) of linear layers, (out, in, kh, kw) of convolutions."""
        first, second = (layer.get_parameter("weight") for layer in self)
        if first.dim() == 2:
            return second @ first
        return torch.einsum("orw,rih->oihw", second[:, :, 0, :], first[:, :, :, 0])

    @property
    def bias(self) -> Tensor | None:
        """The bias of the second, which is that of the whole."""
        return dict(self[1].named_parameters()).get("bias")


def factorised(layer: nn.Module, rank: int) -> Factorised:
    """Return the two layers of a rank whose product is nearest to a layer's weights in the Frobenius norm.

    Raises TypeError for what is neither a linear layer nor a convolution of two dimensions.
    """
    left, values, right = decomposed(layer)
    # Half of each singular value on either side: both train at one pace.
    root = values[:rank].sqrt()
    down, up = root[:, None] * right[:rank], left[:, :rank] * root
    first: nn.Linear | nn.Conv2d
    second: nn.Linear | nn.Conv2d
    if isinstance(layer, nn.Linear):
        first, second = _thin_linear(layer, rank)
    elif isinstance(layer, nn.Conv2d):
        first, second = _thin_convolutions(layer, rank)
        down = down.view(first.weight.shape)
        up = up.view(layer.out_channels, -1, rank).permute(0, 2, 1)[:, :, None, :]
    else:
        raise TypeError(f"{type(layer).__name__} cannot be factorised")
    with torch.no_grad():
        first.weight.copy_(down)
        second.weight.copy_(up)
        if layer.bias is not None and second.bias is not None:
            second.bias.copy_(layer.bias)
    return Factorised(first, second).to(layer.weight).train(layer.training)


def _thin_linear(layer: nn.Linear, rank: int) -> tuple[nn.Linear, nn.Linear]:
    return (
        nn.Linear(layer.in_features, rank, bias=False),
        nn.Linear(rank, layer.out_features, bias=layer.bias is not None),
    )


def _thin_convolutions(layer: nn.Conv2d, rank: int) -> tuple[nn.Conv2d, nn.Conv2d]:
    """Return a convolution along the rows and one along the columns; padding, too, goes one way at a time."""
    padding = layer.padding
    first = nn.Conv2d(
        layer.in_channels,
        rank,
        (layer.kernel_size[0], 1),
        (layer.stride[0], 1),
        padding if isinstance(padding, str) else (int(padding[0]), 0),
        (layer.dilation[0], 1),
        bias=False,
        padding_mode=layer.padding_mode,
    )
    second = nn.Conv2d(
        rank,
        layer.out_channels,
        (1, layer.kernel_size[1]),
        (1, layer.stride[1]),
        padding if isinstance(padding, str) else (0, int(padding[1])),
        (1, layer.dilation[1]),
        bias=layer.bias is not None,
        padding_mode=layer.padding_mode,
    )
    return first, second


def decomposed(layer: nn.Module) -> tuple[Tensor, Tensor, Tensor]:
    """Return U, σ and Vᵀ of a layer's weights as the matrix that is factorised, in double precision.

    Of a linear layer it is (out, in); of a convolution (out · kw, in · kh), so that a k × 1 kernel and a
    1 × k kernel are the factors.
    """
    assert isinstance(layer.weight, Tensor)
    weight = layer.weight.detach().double()
    if weight.dim() == 4:
        weight = weight.permute(0, 3, 1, 2).reshape(weight.shape[0] * weight.shape[3], -1)
    left, values, right = torch.linalg.svd(weight, full_matrices=False)
    return left, values, right
