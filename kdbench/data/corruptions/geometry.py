"""What corruptions in the image plane share: lengths, displaced pixels, smooth random fields."""

from __future__ import annotations

from kdbench.deferred import F, Tensor, torch


def pixels(length: float, x: Tensor) -> float:
    """Return a length for images of 32 × 32 at the size of ``x`` (B, C, H, W); smaller ones keep it."""
    return length * max(1.0, min(x.shape[-2:]) / 32)


def moved(x: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """Return y(i, j) = x(i + down, j + across), bilinear; beyond its border an image goes on as it ends.

    Shapes: x (B, C, H, W); ``down`` and ``across`` (B, H, W) or (B, 1, 1), in pixels.
    """
    height, width = x.shape[-2:]
    i, j = torch.broadcast_tensors(
        torch.arange(height, device=x.device)[:, None] + down, torch.arange(width, device=x.device) + across
    )
    # grid_sample wants −1 and 1 at the outer edges of the first and the last pixel.
    place = torch.stack([(2 * j + 1) / width - 1, (2 * i + 1) / height - 1], dim=-1)
    return F.grid_sample(x, place, mode="bilinear", padding_mode="border", align_corners=False)


def smooth_field(nodes: Tensor, x: Tensor) -> Tensor:
    """Return fields (B, F, H, W) at the size of ``x``, bicubic between evenly spaced nodes (B, F, n, n)."""
    return F.interpolate(nodes, size=x.shape[-2:], mode="bicubic", align_corners=True)
