"""The lossy part of JPEG on whole batches: what a file of this quality would give back.

Entropy coding loses nothing and is left out. The steps are those of baseline JPEG as libjpeg does them by
default: Y′CbCr after JFIF, chroma at half the resolution in both directions, the discrete cosine
transform of blocks of 8 × 8, division by a table and rounding; then all of it backwards, with chroma
interpolated. libjpeg computes in integers, so single pixels differ from it by a grey level or two.
Source: ITU-T T.81 (1992), tables of annex K.
"""

from __future__ import annotations

import functools
import math

from kdbench.deferred import F, Tensor, torch

BLOCK = 8
LUMA = (
    *(16, 11, 10, 16, 24, 40, 51, 61),
    *(12, 12, 14, 19, 26, 58, 60, 55),
    *(14, 13, 16, 24, 40, 57, 69, 56),
    *(14, 17, 22, 29, 51, 87, 80, 62),
    *(18, 22, 37, 56, 68, 109, 103, 77),
    *(24, 35, 55, 64, 81, 104, 113, 92),
    *(49, 64, 78, 87, 103, 121, 120, 101),
    *(72, 92, 95, 98, 112, 100, 103, 99),
)
CHROMA = (
    *(17, 18, 24, 47, 99, 99, 99, 99),
    *(18, 21, 26, 66, 99, 99, 99, 99),
    *(24, 26, 56, 99, 99, 99, 99, 99),
    *(47, 66, 99, 99, 99, 99, 99, 99),
    *(99,) * 32,
)
# Rows: Y′, Cb, Cr of R, G, B, all from 0 to 255; Cb and Cr are 128 for grey.
TO_YCC = (
    (0.299, 0.587, 0.114),
    (-0.168735892, -0.331264108, 0.5),
    (0.5, -0.418687589, -0.081312411),
)


def quantised(x: Tensor, quality: float) -> Tensor:
    """Return images (B, C, H, W) with values from 0 to 255 as JPEG of this quality (1 to 100) keeps them.

    Three channels are taken as RGB; any other number of channels as grey, each by itself.
    """
    x = x.round()
    if x.shape[1] != 3:
        return _through_blocks(x, scaled(LUMA, quality)).clamp(0, 255).round()
    matrix = torch.tensor(TO_YCC, device=x.device)
    offset = torch.tensor([0.0, 128.0, 128.0], device=x.device)[:, None, None]
    ycc = (torch.einsum("yc,bchw->byhw", matrix, x) + offset).round()
    luma = _through_blocks(ycc[:, :1], scaled(LUMA, quality))
    chroma = _through_blocks(_halved(ycc[:, 1:]), scaled(CHROMA, quality)).clamp(0, 255).round()
    height, width = x.shape[-2:]
    chroma = chroma[..., : (width + 1) // 2]  # what lies beyond the image is not interpolated with
    whole = F.interpolate(chroma, scale_factor=2, mode="bilinear", align_corners=False)
    ycc = torch.cat([luma.clamp(0, 255).round(), whole[..., :height, :width].round()], dim=1)
    return torch.einsum("cy,byhw->bchw", torch.linalg.inv(matrix), ycc - offset).clamp(0, 255).round()


def scaled(table: tuple[int, ...], quality: float) -> tuple[int, ...]:
    """Return a table at a quality from 1 to 100, as libjpeg scales it: 50 leaves it as it is.

    >>> scaled((16, 99), 50), scaled((16, 99), 80), scaled((16, 99), 10)
    ((16, 99), (6, 40), (80, 255))
    """
    percent = math.floor(5000 / quality if quality < 50 else 200 - 2 * quality)
    return tuple(min(255, max(1, (entry * percent + 50) // 100)) for entry in table)


def _halved(planes: Tensor) -> Tensor:
    """Return the means of 2 × 2 pixels, as wide as whole blocks: the last column is repeated before.

    Halves are rounded down and up in turn, column by column, as libjpeg does it to favour neither.
    """
    height, width = planes.shape[-2:]
    margin = (0, -width % (2 * BLOCK), 0, height % 2)
    means = F.avg_pool2d(F.pad(planes, margin, mode="replicate"), 2)
    bias = 0.25 * (1 + torch.arange(means.shape[-1], device=planes.device) % 2)
    return (means + bias).floor()


def _through_blocks(planes: Tensor, table: tuple[int, ...]) -> Tensor:
    """Return planes (B, C, H, W) after the cosine transform, division by the table, rounding, and back."""
    batch, channels, height, width = planes.shape
    padded = F.pad(planes - 128, (0, -width % BLOCK, 0, -height % BLOCK), mode="replicate")
    down, across = padded.shape[-2] // BLOCK, padded.shape[-1] // BLOCK
    blocks = padded.reshape(batch, channels, down, BLOCK, across, BLOCK).transpose(3, 4)
    cosines = _cosines().to(planes.device)
    steps = torch.tensor(table, dtype=torch.float32, device=planes.device).reshape(BLOCK, BLOCK)
    frequencies = cosines @ blocks @ cosines.T
    kept = frequencies.sign() * (frequencies.abs() / steps + 0.5).floor() * steps
    pixels = (cosines.T @ kept @ cosines).transpose(3, 4).reshape(padded.shape) + 128
    return pixels[..., :height, :width]


@functools.cache
def _cosines() -> Tensor:
    """Return the orthonormal matrix of the cosine transform of 8 values, a row a frequency."""
    place, frequency = torch.arange(BLOCK, dtype=torch.float64), torch.arange(BLOCK, dtype=torch.float64)
    matrix = torch.cos(math.pi / BLOCK * (place[None] + 0.5) * frequency[:, None]) * math.sqrt(2 / BLOCK)
    matrix[0] /= math.sqrt(2)
    return matrix.float()
