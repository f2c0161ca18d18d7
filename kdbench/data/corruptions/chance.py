"""Random numbers that belong to rows of a split, whatever batches the rows come in."""

from __future__ import annotations

import hashlib

from kdbench.deferred import Tensor, torch

# Numbers are drawn for so many rows at a time: a change of it changes every random corruption.
BLOCK = 64


class Chance:
    """The random numbers of some rows: drawn on the CPU in fixed blocks of rows, then moved.

    A block has a generator of its own, seeded by the purpose and its place, and is always drawn whole.
    A corruption that draws several times gets further numbers of the same generators.
    """

    def __init__(self, purpose: str, rows: Tensor, device: torch.device | str) -> None:
        """Seed a generator for every block that holds one of the rows (B,)."""
        rows = rows.cpu()
        blocks, place = torch.unique(rows // BLOCK, return_inverse=True)
        self._generators = [_generator(purpose, block) for block in blocks.tolist()]
        self._where = place * BLOCK + rows % BLOCK
        self._device = device

    def uniform(self, *shape: int) -> Tensor:
        """Return numbers in [0, 1), shape (B, *shape)."""
        return self._of_rows([torch.rand(BLOCK, *shape, generator=own) for own in self._generators])

    def normal(self, *shape: int) -> Tensor:
        """Return standard normal numbers, shape (B, *shape)."""
        return self._of_rows([torch.randn(BLOCK, *shape, generator=own) for own in self._generators])

    def _of_rows(self, blocks: list[Tensor]) -> Tensor:
        return torch.cat(blocks)[self._where].to(self._device)


def _generator(purpose: str, block: int) -> torch.Generator:
    digest = hashlib.sha256(f"{purpose}/{block}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
