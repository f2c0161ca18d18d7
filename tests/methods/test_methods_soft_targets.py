"""Which methods soften the teacher's logits, and at what temperature: what `teacher_entropy_norm` is of."""

from __future__ import annotations

import pytest

from kdbench.methods import methods
from kdbench.methods.combined import Combined

# By default; all others learn from something else than softmax(z_t/T), unless plain kd is added.
SOFT = {"born_again": 1.0, "dist": 4.0, "dkd": 4.0, "kd": 4.0, "takd": 4.0, "ttm": 5.0, "wttm": 5.0}
# Plain kd in a stage of their own, or beside their own terms, is on by default.
WITH_KD = {
    name
    for name, entry in methods().items()
    if issubclass(entry.distiller, Combined) and entry.parameters().kd > 0
}


@pytest.mark.parametrize("name", methods())
def test_temperature_by_default(name: str) -> None:
    entry = methods()[name]
    expected = entry.parameters().kd_temperature if name in WITH_KD else SOFT.get(name)
    assert entry.distiller.soft_temperature(entry.parameters()) == expected


@pytest.mark.parametrize(
    "name", [name for name, entry in methods().items() if issubclass(entry.distiller, Combined)]
)
def test_plain_kd_beside_a_method_has_its_own_temperature(name: str) -> None:
    entry = methods()[name]
    hyper = entry.parameters(kd=1.0, kd_temperature=7.0)
    assert entry.distiller.soft_temperature(hyper) == SOFT.get(name, 7.0)


@pytest.mark.parametrize(
    ("name", "hyper"), [("kd", {"alpha": 0}), ("ttm", {"weight": 0}), ("dkd", {"alpha": 0, "beta": 0})]
)
def test_a_term_without_weight_softens_nothing(name: str, hyper: dict) -> None:
    entry = methods()[name]
    assert entry.distiller.soft_temperature(entry.parameters(**hyper)) is None
