"""Every metric of the catalogue against a value that somebody else's code computes."""

from __future__ import annotations

import math

import pytest
from sklearn import metrics as sk

from kdbench.metrics import catalogue, score
from kdbench.targets import find_target
from tests.metrics.cases import CASES
from tests.metrics.independent import INDEPENDENT

COLUMNS = catalogue(find_target("single_label"))
# torchmetrics puts its bin edges in float32; everything else is float64 throughout.
# Their temperature is the minimum of a loss, known to half its digits; ours is the root of its slope.
TOLERANCE = {"ece": 1e-6, "mce": 1e-6, "classwise_ece": 1e-6, "temperature_fitted": 1e-6} | dict.fromkeys(
    (name for name in COLUMNS if name.endswith("_scaled")), 1e-5
)
NATS = {
    "nll",
    "nll_scaled",
    "entropy_mean",
    "js",
    "kl_teacher_student",
    "kl_student_teacher",
    "kl_target",
    "kl_non_target",
}
FAMILIES = ["task", "calibration", "fidelity", "selection", "disparity", "features"]


@pytest.fixture(scope="module")
def scores() -> dict[str, dict[str, float | None]]:
    return {name: score(case.tensors())[0] for name, case in CASES.items()}


def test_every_metric_has_an_independent_value() -> None:
    assert set(INDEPENDENT) == set(COLUMNS)
    assert len(COLUMNS) >= 45


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", COLUMNS)
def test_equals_the_independent_value(
    name: str, case: str, scores: dict[str, dict[str, float | None]]
) -> None:
    expected = INDEPENDENT[name](CASES[case])
    if expected is None:
        assert scores[case][name] is None
    else:
        assert scores[case][name] == pytest.approx(expected, rel=TOLERANCE.get(name, 1e-10))


def test_cases_tell_metrics_apart() -> None:
    """A table of values that coincide by accident would let one metric pass for another."""
    same = {
        frozenset({"teacher_only", "negative_flips"}),
        frozenset({"student_only", "positive_flips"}),
        frozenset({"worst_class_drop", "worst_decile_drop"}),
    }
    values, _ = score(CASES["ten classes"].tensors())
    pairs = {
        frozenset({a, b}) for a in values for b in values if a < b and math.isclose(values[a], values[b])
    }
    assert pairs == same


def test_balanced_accuracy_and_brier_under_the_names_of_scikit_learn() -> None:
    case = CASES["ten classes"]
    values, _ = score(case.tensors())
    assert values["balanced_accuracy"] == pytest.approx(sk.balanced_accuracy_score(case.labels, case.student))
    binary = CASES["two classes"]
    halved = sk.brier_score_loss(binary.labels, binary.p[:, 1])
    assert score(binary.tensors())[0]["brier"] == pytest.approx(2 * halved)


ENDS = {"-∞": -math.inf, "∞": math.inf, "ln 2": math.log(2)}


@pytest.mark.parametrize("name", COLUMNS)
def test_column_describes_its_values(name: str, scores: dict[str, dict[str, float | None]]) -> None:
    column = COLUMNS[name]
    low, high = (ENDS[end] if end in ENDS else float(end) for end in column.range[1:-1].split(", "))
    values = [v for case in scores.values() if (v := case[name]) is not None]
    assert values
    assert all(low <= value <= high for value in values)
    assert column.name == name
    assert column.title
    assert column.source
    assert column.direction in ("higher", "lower", "none")
    assert (column.unit == "nats") == (name in NATS)


def test_display_order_is_by_family_then_as_written() -> None:
    assert list(COLUMNS) == list(INDEPENDENT)
    assert list(score({})[0]) == list(COLUMNS)
    families = [column.family for column in COLUMNS.values()]
    assert list(dict.fromkeys(families)) == FAMILIES
    assert families == sorted(families, key=FAMILIES.index)
