"""From raw latency samples to the figures of a table: latencies, throughput, speed-up, intervals."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from kdbench.efficiency.columns import timing_names
from kdbench.efficiency.intervals import FEWEST_ROUNDS, Bounds
from kdbench.efficiency.protocol import SAMPLES_NEEDED
from kdbench.efficiency.rounds import Rounds
from kdbench.errors import UserError, in_words
from kdbench.place import Place

SAMPLE_COLUMNS = {
    "model": "str",
    "place": "str",
    "device": "str",
    "batch": "int64",
    "threads": "int64",
    "precision": "str",
    "runtime": "str",
    "round": "int64",
    "ms": "float64",
}

NO_REFERENCE = "no reference model was given"

Values = dict[str, float | None]
Reasons = dict[str, str]


def read_samples(path: Path) -> pd.DataFrame:
    """Return the samples of ``latency.parquet``; those from before there were runtimes get their place.

    Raises UserError where the file is missing.
    """
    if not path.is_file():
        raise UserError(f"{path} is missing: without it latencies cannot be stated anew.")
    try:
        samples = pd.read_parquet(path)
    except (OSError, ValueError) as error:  # ArrowInvalid is a ValueError
        reason = in_words(error)
        raise UserError(f"{path} is damaged: {reason:.200}. Measure anew to make it.") from None
    if "place" not in samples:
        places = samples["device"].astype("str") + "_b" + samples["batch"].astype("str")
        samples = samples.assign(place=places, precision="fp32", runtime="eager")
    return samples[list(SAMPLE_COLUMNS)].astype(SAMPLE_COLUMNS)


@dataclass(frozen=True)
class Figures:
    """The timing columns of one model in one place: numbers, why one is None, and 95 % intervals."""

    values: Values
    reasons: Reasons
    intervals: dict[str, Bounds]


def summarise(samples: pd.DataFrame, label: str, reference: str | None, place: Place) -> Figures:
    """Return the timing columns of one model in one place, from the samples of a run.

    Latencies, throughput and speed-up are on the footing of ``rounds``. A figure is None, with the reason,
    where it has too few samples (of a percentile) or rounds, and where the machine was too noisy.
    """
    names = timing_names(place)
    rounds = Rounds.of(samples[samples["place"] == place.name], label, reference)
    values: Values = dict.fromkeys(names)
    reasons: Reasons = {}
    bounds: dict[str, Bounds | None] = {}
    few = _too_few(rounds)
    if few is not None:
        reasons = dict.fromkeys(names, few)
    else:
        latency = rounds.latency()
        if latency.noise is not None:
            reasons = dict.fromkeys(names, latency.noise)
        else:
            values |= {"p50": latency.value, "throughput": 1000 * place.batch / latency.value}
            bounds["p50"] = latency.interval
            _add_percentiles(values, reasons, rounds)
        if rounds.reference is not None:
            ratio = rounds.speedup()
            values["speedup"] = None if ratio.noise else ratio.value
            bounds["speedup"] = ratio.interval
            reasons.pop("speedup", None)
            if ratio.noise is not None:
                reasons["speedup"] = ratio.noise
    if rounds.reference is None:
        reasons["speedup"] = (
            NO_REFERENCE if reference is None else f"the reference '{reference}' was not timed here"
        )
    return Figures(
        {names[key]: values[key] for key in names},
        {names[key]: reasons[key] for key in names if key in reasons},
        {names[key]: pair for key, pair in bounds.items() if pair is not None},
    )


def _too_few(rounds: Rounds) -> str | None:
    if rounds.count >= FEWEST_ROUNDS:
        return None
    beside = "" if rounds.reference is None else " beside the reference"
    return f"a latency needs {FEWEST_ROUNDS} rounds; {rounds.count} were timed{beside}"


def _add_percentiles(values: Values, reasons: Reasons, rounds: Rounds) -> None:
    """Add what lies beyond the median, where the number of samples supports it.

    The counts needed (64, 662) are the early-stopping counts of the MLPerf Inference rules.
    """
    for percent, needed in SAMPLES_NEEDED.items():
        name, taken = f"p{percent}", len(rounds.samples)
        if percent == 50:
            continue
        if taken >= needed:
            values[name] = rounds.percentile(percent)
        else:
            reasons[name] = f"{name} needs {needed} samples; {taken} were taken"
