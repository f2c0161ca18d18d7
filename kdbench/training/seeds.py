"""Seeds that follow from what they are for, so that a result depends on its own configuration only.

Every random stream has a seed hashed from its purpose (the order of an epoch, the first weights of a
student, one step of one student). A student's result is then the same whichever other students share
its cohort, and a killed run needs no saved generator state to go on with the same bits.
"""

from __future__ import annotations

import hashlib

import torch

from kdbench.shared_state import seed_streams


def derive(*purpose: str | int) -> int:
    """Return a seed of 63 bits that is a hash of its purpose."""
    digest = hashlib.sha256("/".join(str(part) for part in purpose).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def reseed(*purpose: str | int) -> None:
    """Begin the random streams that all models share anew, for a purpose: torch's, NumPy's and Python's."""
    seed_streams(derive(*purpose))


def generator(*purpose: str | int) -> torch.Generator:
    """Return a CPU generator seeded by its purpose."""
    return torch.Generator().manual_seed(derive(*purpose))
