"""How many rounds there are, how many calls a turn holds, and when a subject has had enough."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from math import ceil
from typing import TypeVar

from kdbench.efficiency.protocol import SAMPLES_NEEDED, Protocol

K = TypeVar("K", bound=Hashable)

# How long a turn need not be, and how many calls it must hold, lest the untimed ones cost too much.
TURN_MS = 25.0
FEWEST_CALLS = 4


def plan_turns(expected_ms: Mapping[K, float], protocol: Protocol) -> tuple[int, dict[K, int]]:
    """Return the number of rounds and the calls of each subject's turn, which together give the samples.

    The shorter the turns, the closer in time are those of one round, and the less does a machine that
    changes its pace come between them. A turn of TURN_MS is short enough; a turn of fewer than FEWEST_CALLS
    calls is too short, for one call more is made in each and not timed. The rounds are never fewer than
    the protocol's.
    """
    samples = {subject: samples_wanted(ms, protocol) for subject, ms in expected_ms.items()}
    if not samples:
        return protocol.rounds, {}
    wished = max(samples[subject] * ms / TURN_MS for subject, ms in expected_ms.items())
    most = min(samples.values()) / FEWEST_CALLS
    rounds = max(protocol.rounds, int(min(wished, most)))
    fits = {subject: 1000 * protocol.max_seconds / ms for subject, ms in expected_ms.items()}
    return rounds, {
        # Rounding up must not lead beyond the time that there is.
        subject: max(1, int(count / rounds)) if count >= fits[subject] else ceil(count / rounds)
        for subject, count in samples.items()
    }


def samples_wanted(expected_ms: float, protocol: Protocol) -> float:
    """Return how many samples the protocol wants of a call that takes so long, as far as they fit."""
    most = 1000 * protocol.max_seconds / expected_ms
    wanted = max(protocol.min_samples, 1000 * protocol.min_seconds / expected_ms)
    if most >= SAMPLES_NEEDED[99]:
        wanted = max(wanted, SAMPLES_NEEDED[99])
    return min(wanted, most)


@dataclass
class Tally:
    """How far one subject has come in the planned rounds."""

    chunk: int
    rounds: int
    protocol: Protocol
    samples: int = 0
    seconds: float = 0.0

    def spent(self, rounds_begun: int) -> bool:
        """Whether the time is used up that the rounds so far may take: an even share for each round."""
        share = min(1.0, rounds_begun / self.rounds)
        return self.seconds >= share * self.protocol.max_seconds

    def satisfied(self) -> bool:
        """Whether samples and seconds are enough, or all the time is used up."""
        enough = self.samples >= self.chunk * self.rounds and self.seconds >= self.protocol.min_seconds
        return enough or self.spent(self.rounds)
