"""Data with a known truth: how often each interval of the analysis covers it, and each test is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from observed_shares import Share
from scipy import integrate, stats

from kdbench.analysis.aggregate import interquartile_mean, mean_probability_of_improvement
from kdbench.analysis.bootstrap import over_examples
from kdbench.analysis.crossed import over_seeds_and_examples
from kdbench.analysis.intervals import is_constant, t_interval
from kdbench.analysis.mcnemar import mcnemar_over_seeds
from kdbench.analysis.power import POWER, detectable_difference
from kdbench.analysis.ranks import rank_methods

# What is asked of intervals over the seeds of several students: below it none is printed.
AGGREGATED = 0.93
Bounds = tuple[float | None, float | None]
Draw = Callable[[np.random.Generator], bool]
NOMINAL = 0.95
# Standard deviations on the scale of abilities: how hard examples are, and how methods take to each of them.
HARDNESS, TASTE = 2.0, 0.7
# Scale of the logistic chance of one training at one example: trainings of one method err much alike.
NOISE = 0.5


def coverages(repetitions: int) -> Iterator[Share]:
    """Yield what was observed of each interval and test; the same numbers every time."""
    checks: list[tuple[str, Draw, dict[str, float]]] = [
        *_means(),
        *_differences(),
        *_tests(),
        *_aggregates(),
    ]
    for name, draw, claim in checks:
        generator = np.random.default_rng(0)
        yield Share(name, sum(draw(generator) for _ in range(repetitions)), repetitions, **claim)


def _covers(bounds: Bounds, truth: float) -> bool:
    low, high = bounds
    return low is not None and high is not None and low <= truth <= high


def _means() -> Iterator[tuple[str, Draw, dict[str, float]]]:
    covered = {"at_least": NOMINAL}
    for seeds in (3, 5):

        def over_seeds(draw: np.random.Generator, seeds: int = seeds) -> bool:
            found = t_interval(draw.normal(0.8, 0.01, seeds))
            return _covers((found.low, found.high), 0.8)

        yield f"t interval of a mean over {seeds} seeds covers it", over_seeds, covered
    for accuracy, examples in ((0.95, 600), (0.75, 10_000)):

        def of_model(draw: np.random.Generator, p: float = accuracy, n: int = examples) -> bool:
            return _covers(over_examples((draw.random(n) < p).astype(float)), p)

        yield (
            f"bootstrap over {examples:,} examples covers an accuracy of {100 * accuracy:.0f} %",
            of_model,
            covered,
        )


def outcomes(
    draw: np.random.Generator, seeds: int, examples: int, spread: float, gain: float = 0.0
) -> NDArray[np.float64]:
    """Return right and wrong (2, S, N) of two methods: examples that are hard for all, and seeds that vary.

    ``spread`` is the standard deviation of a method's ability over its seeds, ``gain`` what the first has
    more of.
    """
    hardness = draw.normal(-1.5, HARDNESS, examples)
    ability = draw.normal(0.0, spread, (2, seeds, 1)) + np.array([gain, 0.0])[:, None, None]
    taste = draw.normal(0.0, TASTE, (2, 1, examples))
    chance = draw.logistic(scale=NOISE, size=(2, seeds, examples))
    return (chance < ability + taste - hardness).astype(float)


def true_difference(gain: float, spread: float) -> float:
    """Return what ``outcomes`` gives the first method more, over all seeds and examples."""

    def accuracy(shift: float) -> float:
        sd = float(np.sqrt(HARDNESS**2 + TASTE**2 + spread**2))
        value, _ = integrate.quad(
            lambda z: stats.norm.pdf(z, shift + 1.5, sd) * stats.logistic.cdf(z, scale=NOISE),
            -30,
            30,
            points=[0.0],
        )
        return float(value)

    return accuracy(gain) - accuracy(0.0)


def _differences() -> Iterator[tuple[str, Draw, dict[str, float]]]:
    gain, spread, examples = 0.2, 0.05, 1_000
    truth, of_two_models = true_difference(gain, spread), true_difference(gain, 0.0)

    def paired(draw: np.random.Generator) -> bool:
        a, b = outcomes(draw, 1, examples, 0.0, gain)
        return _covers(over_examples(a[0] - b[0]), of_two_models)

    yield "paired bootstrap over examples covers the difference of two models", paired, {"at_least": NOMINAL}
    for seeds in (3, 5):

        def crossed(draw: np.random.Generator, seeds: int = seeds) -> bool:
            a, b = outcomes(draw, seeds, examples, spread, gain)
            # Equal seed means have no interval, which is no wrong claim.
            if is_constant((a - b).mean(axis=1), 1.0):
                return True
            found = over_seeds_and_examples(a - b)
            return _covers((found.low, found.high), truth)

        def over_seeds(draw: np.random.Generator, seeds: int = seeds) -> bool:
            a, b = outcomes(draw, seeds, examples, spread, gain)
            found = t_interval((a - b).mean(axis=1))
            return _covers((found.low, found.high), truth)

        yield (
            f"interval over {seeds} seeds and examples covers the difference on all examples",
            crossed,
            {"at_least": NOMINAL},
        )
        yield f"interval over {seeds} seeds alone covers the difference on all examples", over_seeds, {}


def _tests() -> Iterator[tuple[str, Draw, dict[str, float]]]:
    def mcnemar(draw: np.random.Generator) -> bool:
        a, b = outcomes(draw, 3, 1_000, 0.0).astype(bool)
        return mcnemar_over_seeds(list(a), list(b)) < 0.05

    def friedman(draw: np.random.Generator) -> bool:
        return rank_methods(draw.normal(size=(10, 5)), list("abcde")).differs

    def power(draw: np.random.Generator) -> bool:
        smallest = detectable_difference(1.0, 3, 0.05)
        return bool(stats.ttest_1samp(draw.normal(smallest, 1.0, 3), 0.0).pvalue < 0.05)

    yield "McNemar over 3 seeds, equal models: p < 0.05", mcnemar, {"at_most": 0.05}
    yield "Friedman, 5 equal methods, 10 students: p < 0.05", friedman, {"at_most": 0.05}
    yield "the smallest difference that 3 seeds could show is shown", power, {"at_least": POWER}


def _scores(kind: str, draw: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return scores around 0 with a standard deviation of 1, in the shapes that accuracies take."""
    if kind == "normal":
        return draw.normal(size=shape)
    if kind == "skewed":
        return (draw.gamma(1.5, size=shape) - 1.5) / np.sqrt(1.5)
    return np.round(2 * draw.normal(size=shape)) / 2


KINDS = ("normal", "skewed", "discrete")


def _aggregates() -> Iterator[tuple[str, Draw, dict[str, float]]]:
    covered = {"at_least": AGGREGATED}
    for kind in KINDS:
        for tasks, seeds in ((4, 2), (4, 3), (4, 10), (10, 3), (10, 10)):
            yield (
                f"IQM, {tasks} students × {seeds} seeds, {kind}: interval covers it",
                _iqm(kind, tasks, seeds),
                covered,
            )
        for tasks, seeds in ((1, 2), (1, 5), (3, 3), (10, 3)):
            for gain in (0.5, 3.0):
                yield (
                    f"P(A > B), {tasks} students × {seeds} seeds, {kind}, gain {gain:g}: interval covers it",
                    _improvement(kind, tasks, seeds, gain),
                    covered,
                )


def _iqm(kind: str, tasks: int, seeds: int) -> Draw:
    levels = np.linspace(0.0, 3.0, tasks)[:, None]
    chance = np.random.default_rng(1)
    many = [(levels + _scores(kind, chance, (tasks, seeds))).ravel() for _ in range(50_000)]
    truth = float(np.mean(stats.trim_mean(many, 0.25, axis=1)))

    def covers(draw: np.random.Generator) -> bool:
        found = interquartile_mean(list(levels + _scores(kind, draw, (tasks, seeds))))
        # Equal scores have no interval, which is no wrong claim.
        return found.low is None or _covers((found.low, found.high), truth)

    return covers


def _improvement(kind: str, tasks: int, seeds: int, gain: float) -> Draw:
    chance = np.random.default_rng(1)
    ours, theirs = _scores(kind, chance, (1_000_000,)) + gain, _scores(kind, chance, (1_000_000,))
    truth = float(((ours > theirs) + 0.5 * (ours == theirs)).mean())

    def covers(draw: np.random.Generator) -> bool:
        pairs = _scores(kind, draw, (tasks, seeds, 2)) + np.array([gain, 0.0])
        found = mean_probability_of_improvement(list(pairs))
        return _covers((found.low, found.high), truth)

    return covers
