"""Vision transformers for small images: ``vit_64_4`` has tokens of 64 entries and 4 blocks.

Dosovitskiy et al. 2021: the image is cut into patches, each patch becomes a token by a linear map, a learned
vector tells each token its position, and blocks of self-attention and a perceptron, each after a
layer-norm and with a residual connection, mix tokens and entries. The tokens are averaged after a last
layer-norm; there is no class token, as in Zhai et al. 2022 ("Scaling vision transformers"). That
layer-norm belongs to the last block, so that the mean of the last stage is what the linear layer classifies,
as for convolutional networks.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from kdbench.errors import UserError
from kdbench.models.registry import family
from kdbench.models.shapes import Shape

# From this side on, in pixels, a patch is 4×4; below, 2×2, which leaves 16 tokens of an 8×8 digit.
SIDE_OF_LARGE_PATCHES = 16
ENTRIES_PER_HEAD = 32
PERCEPTRON_FACTOR = 4
POSITION_DEVIATION = 0.02


class SelfAttention(nn.Module):
    """Attention of every token to every token, in several heads."""

    def __init__(self, width: int, heads: int) -> None:
        """Build the maps; ``heads`` divides ``width``."""
        super().__init__()
        self.heads = heads
        self.query_key_value = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (B, N, D) to tokens (B, N, D)."""
        per_head = self.query_key_value(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = per_head.unbind(0)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        return self.out(mixed.transpose(1, 2).flatten(2))


class TransformerBlock(nn.Module):
    """Self-attention and a perceptron, each after a layer-norm and with a residual connection."""

    def __init__(self, width: int, heads: int, last: bool) -> None:
        """Build the block; the ``last`` one normalises what it puts out."""
        super().__init__()
        self.attention = nn.Sequential(nn.LayerNorm(width), SelfAttention(width, heads))
        self.perceptron = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, PERCEPTRON_FACTOR * width),
            nn.GELU(),
            nn.Linear(PERCEPTRON_FACTOR * width, width),
        )
        self.norm: nn.Module = nn.LayerNorm(width) if last else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (B, N, D) to tokens (B, N, D)."""
        x = x + self.attention(x)
        return self.norm(x + self.perceptron(x))


class VisionTransformer(nn.Module):
    """A vision transformer whose averaged tokens are classified."""

    def __init__(
        self, width: int, depth: int, heads: int, patch: int, input_shape: Shape, classes: int
    ) -> None:
        """Build the embedding of patches of ``patch`` × ``patch`` pixels, the positions and the blocks."""
        super().__init__()
        channels, height, breadth = input_shape
        tokens = (height // patch) * (breadth // patch)
        self.embed = nn.Conv2d(channels, width, patch, patch)
        self.positions = nn.Parameter(torch.empty(1, tokens, width))
        nn.init.trunc_normal_(self.positions, std=POSITION_DEVIATION)
        self.blocks = nn.Sequential(
            *(TransformerBlock(width, heads, last=index == depth - 1) for index in range(depth))
        )
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to logits (B, classes)."""
        tokens = self.embed(x).flatten(2).transpose(1, 2)
        return self.head(self.blocks(tokens + self.positions).mean(dim=1))


@family(
    "vit",
    pattern=r"vit_([1-9][0-9]{0,4})_([1-9][0-9]{0,4})",
    examples=("vit_64_4", "vit_128_6", "vit_192_6"),
    summary="vision transformer for small images; the numbers are width and depth",
    source="Dosovitskiy et al. 2021; mean of tokens as in Zhai et al. 2022",
)
def build(
    width: str,
    depth: str,
    *,
    input_shape: Shape,
    num_classes: int,
    patch: int | None = None,
    heads: int | None = None,
) -> VisionTransformer:
    """Build a vision transformer from the width and the depth in its name.

    ``patch`` is the side of a patch in pixels, by default 4, or 2 for images of less than 16 pixels;
    ``heads`` is by default one for each 32 entries of a token.
    """
    name = f"vit_{width}_{depth}"
    _, height, breadth = input_shape
    if patch is None:
        patch = 4 if min(height, breadth) >= SIDE_OF_LARGE_PATCHES else 2
    if patch < 1 or height % patch or breadth % patch:
        raise UserError(
            f"model '{name}': images of {height}×{breadth} pixels cannot be cut into patches of "
            f"{patch}×{patch}; set its argument 'patch' to a divisor of both sides."
        )
    if heads is None:
        heads = max(1, int(width) // ENTRIES_PER_HEAD)
    if heads < 1 or int(width) % heads:
        raise UserError(
            f"model '{name}': its width cannot be shared among {heads} heads; "
            f"set its argument 'heads' to a divisor of {width}."
        )
    return VisionTransformer(int(width), int(depth), heads, patch, input_shape, num_classes)
