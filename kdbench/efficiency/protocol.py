"""How models are timed: places, sample counts and limits, as data."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, cast

from kdbench.efficiency.places import DEVICES, Dimensions
from kdbench.errors import UserError, unknown
from kdbench.place import Place

# Samples that a percentile needs: the early-stopping counts of the MLPerf Inference rules. The fewest for
# which, with 99 % confidence, at least two samples lie above the true percentile.
SAMPLES_NEEDED = {50: 11, 90: 64, 99: 662}


@dataclass(frozen=True)
class Protocol:
    """The timing protocol; every duration is in seconds.

    Each model is timed for at least ``min_samples`` calls and ``min_seconds``, and for the 662 calls that a
    p99 needs where they fit into ``max_seconds``, which bounds the timed calls of one model in one place.
    The calls are spread over at least ``rounds``, in each of which every model has a turn.
    Warm-up is at least ``warmup_calls`` and ``warmup_seconds``. ``threads`` is that of torch on the
    CPU (None: torch's default); ``dimensions`` are further threads, precisions and runtimes. A worker that
    reports no progress for ``timeout_s`` is killed. ``lock_timeout_s`` is how long to wait for another
    process that is measuring; whether the machine is quiet is then probed for ``probe_seconds``.
    """

    batch_sizes: tuple[int, ...] = (1, 256)
    devices: tuple[str, ...] = DEVICES
    min_samples: int = 100
    min_seconds: float = 0.5
    max_seconds: float = 20.0
    warmup_calls: int = 10
    warmup_seconds: float = 0.2
    rounds: int = 11
    threads: int | None = None
    timeout_s: float = 300.0
    lock_timeout_s: float = 3600.0
    probe_seconds: float = 0.5
    dimensions: Dimensions = field(default_factory=Dimensions)

    def __post_init__(self) -> None:
        """Refuse a protocol under which the figures would mean nothing; raises UserError."""
        if not self.batch_sizes or len(set(self.batch_sizes)) != len(self.batch_sizes):
            raise UserError(f"batch_sizes must be distinct and at least one, not {list(self.batch_sizes)}.")
        for device in self.devices:
            if device not in DEVICES:
                raise unknown("device", device, DEVICES)
        least: dict[str, float] = {
            "min_samples": SAMPLES_NEEDED[50],
            "rounds": SAMPLES_NEEDED[50],
            "warmup_calls": 1,
            "min_seconds": 0,
            "warmup_seconds": 0,
            "lock_timeout_s": 0,
            "probe_seconds": 0,
        }
        for name, bound in least.items():
            if getattr(self, name) < bound:
                raise UserError(f"{name} must be at least {bound:g}, not {getattr(self, name)}.")
        for name, value in (("threads", self.threads), *(("batch_sizes", size) for size in self.batch_sizes)):
            if value is not None and value < 1:
                raise UserError(f"{name} must be at least 1, not {value}.")
        if self.max_seconds <= self.min_seconds:
            raise UserError(
                f"max_seconds must exceed min_seconds ({self.min_seconds:g}), not {self.max_seconds:g}."
            )
        if self.timeout_s <= 0:
            raise UserError(f"timeout_s must be positive, not {self.timeout_s:g}.")

    @property
    def places(self) -> list[Place]:
        """Every place that is asked for, in the order of tables."""
        return self.dimensions.places(self.batch_sizes, self.devices)

    def as_json(self) -> dict[str, Any]:
        """Return the fields as plain values; those of ``_LATER`` only where they are not the default.

        What was measured before a field was added is found again under the settings of today.
        """
        fields: dict[str, Any] = {
            name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()
        }
        fields["dimensions"] = self.dimensions.as_json()
        default = Protocol()
        return {
            name: value
            for name, value in fields.items()
            if name not in _LATER or getattr(self, name) != getattr(default, name)
        }

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Protocol:
        """Return the protocol that ``as_json`` wrote."""
        plain = {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
        if "dimensions" in fields:
            plain["dimensions"] = Dimensions.from_json(fields["dimensions"])
        return cls(**cast(dict[str, Any], plain))


_LATER = ("probe_seconds", "dimensions")
