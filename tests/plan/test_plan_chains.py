"""Plans of chains: links that several share are one node, and what cannot work is refused with its link."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kdbench.errors import UserError
from kdbench.plan import Compression, Training, make_plan
from kdbench.plan.controls import without_random_teacher
from kdbench.suite import Suite
from tests.conftest import SMALL

Load = Callable[..., Suite]
STUDENTS = "students=[cnn_2, teacher]"


def chain(*links: str, student: str = "teacher") -> str:
    return f"methods=[{{chain: [{', '.join(links)}], students: [{student}]}}]"


PRUNE, CAST = "prune_magnitude", "cast"


def test_a_chain_is_a_row_of_nodes_each_beginning_from_the_one_before(small_suite: Load) -> None:
    plan = make_plan(small_suite(STUDENTS, chain("kd", PRUNE, "kd", CAST, student="cnn_2"), "seeds=[0]"))
    (cell,) = plan.cells
    steps = [(type(node.step), node.step.method.name) for node in cell.node.lineage]
    assert steps == [(Training, "kd"), (Compression, PRUNE), (Training, "kd"), (Compression, CAST)]
    assert [node.start for node in cell.node.lineage[1:]] == list(cell.node.lineage[:-1])
    assert all(node.origin is plan.teachers[0] for node in cell.node.lineage)
    assert cell.method == f"kd → {PRUNE} → kd → {CAST}"
    assert {node.id for node in plan.supporting} == {node.id for node in cell.node.lineage[:-1]}
    assert {labels["role"] for id, labels in plan.labels.items() if id != cell.id} == {"teacher", "link"}


def test_the_teachers_own_network_begins_from_its_weights(small_suite: Load) -> None:
    plan = make_plan(small_suite(STUDENTS, chain(PRUNE, "kd"), "seeds=[0]"))
    (cell,) = plan.cells
    pruned, again = cell.node.lineage[1:]
    assert cell.node.lineage[0] is plan.teachers[0] is pruned.start and again.teacher is plan.teachers[0]


def test_links_are_shared_by_chains_cells_and_seeds(small_suite: Load) -> None:
    pruned = "{prune_magnitude: {sparsity: 0.9}}"
    suite = small_suite(
        STUDENTS,
        "methods=[{name: prune_magnitude, sparsity: [0.5, 0.9], students: [teacher]}, "
        f"{{chain: [{pruned}, kd], label: a, students: [teacher]}}, "
        f"{{chain: [{pruned}, fitnet], label: b, students: [teacher]}}]",
    )
    plan = make_plan(suite)
    cells = {(cell.method, cell.seed): cell.node for cell in plan.cells}
    # What no seed changes is one cell, with the first of them.
    assert set(cells) == {
        ("prune_magnitude(sparsity=0.5)", 0),
        ("prune_magnitude(sparsity=0.9)", 0),
        *((label, seed) for label in "ab" for seed in (0, 1)),
    }
    starts = {id(cells[label, seed].start) for label in "ab" for seed in (0, 1)}
    assert starts == {id(cells["prune_magnitude(sparsity=0.9)", 0])}
    assert plan.supporting == []


def test_the_label_of_a_chain_is_no_part_of_its_id(small_suite: Load) -> None:
    plans = [make_plan(small_suite(STUDENTS, chain(PRUNE, "kd"))) for _ in range(2)]
    labelled = make_plan(
        small_suite(STUDENTS, f"methods=[{{chain: [{PRUNE}, kd], students: [teacher], label: mine}}]")
    )
    ids = [[cell.id for cell in plan.cells] for plan in (*plans, labelled)]
    assert ids[0] == ids[1] == ids[2] and {cell.method for cell in labelled.cells} == {"mine"}
    other = make_plan(small_suite(STUDENTS, chain("{prune_magnitude: {scope: layer}}", "kd")))
    assert not set(ids[0]) & {cell.id for cell in other.cells}


def test_the_values_of_a_link_span_a_grid(small_suite: Load) -> None:
    links = "[{prune_magnitude: {sparsity: [0.5, 0.8]}}, {kd: {temperature: [1, 2]}}]"
    unnamed, named = (
        make_plan(small_suite(STUDENTS, f"methods=[{{chain: {links}, students: [teacher]{label}}}]"))
        for label in ("", ", label: mine")
    )
    assert {cell.method for cell in unnamed.cells} == {
        f"prune_magnitude(sparsity={s}) → kd(temperature={t})" for s in (0.5, 0.8) for t in (1, 2)
    }
    assert {cell.method for cell in named.cells} == {
        f"mine (prune_magnitude(sparsity={s}), kd(temperature={t}))" for s in (0.5, 0.8) for t in (1, 2)
    }


FRESH = "it changes a trained network, and the student has fresh weights: name 'teacher' as its student"


@pytest.mark.parametrize(
    ("methods", "expected"),
    [
        ("methods=[{name: prune_magnitude, students: [cnn_2]}]", FRESH),
        (chain(PRUNE, "kd", student="cnn_2"), f"link 1 (prune_magnitude): {FRESH}"),
        (chain(CAST, "kd"), "link 2 (kd): cast ends a chain: no later step can train or change"),
        (chain("kd", CAST, PRUNE), "link 3 (prune_magnitude): cast ends a chain"),
        (chain(PRUNE, "simkd"), "link 2 (simkd): it builds a network around a student with fresh weights"),
        (chain("kd", "interpolate", student="cnn_2"), "link 2 (interpolate): "),
        (chain("kd", "prun_magnitude"), "unknown method 'prun_magnitude'. Did you mean 'prune_magnitude'?"),
        (
            chain("{prune_magnitude: {sparsty: 0.5}}", "kd"),
            "method 'prune_magnitude' has no parameter 'sparsty'. Did you mean 'sparsity'?",
        ),
        (
            chain("{prune_magnitude: {sparsity: 1}}", "kd"),
            "method 'prune_magnitude': sparsity: found 1; input should be less than 1",
        ),
        (chain("{name: kd, label: mine}", CAST), "a link has no label of its own: give the chain one"),
        (chain("{name: kd, students: [cnn_2]}", CAST), "a link has no students of its own"),
        (chain("kd"), "methods.0.chain: found "),
        ("methods=[{chain: [kd, cast], students: [techer]}]", "unknown student 'techer'. Did you mean"),
    ],
)
def test_a_chain_that_cannot_work_is_refused_in_one_line_with_its_link(
    small_suite: Load, methods: str, expected: str
) -> None:
    with pytest.raises(UserError) as caught:
        make_plan(small_suite(STUDENTS, methods))
    assert expected in str(caught.value) and "\n" not in str(caught.value)


def test_a_chain_that_cannot_work_is_skipped_where_the_suite_says_so(small_suite: Load) -> None:
    methods = f"methods=[kd, {{chain: [{PRUNE}, kd], students: [cnn_2]}}]"
    plan = make_plan(small_suite(STUDENTS, methods, "inapplicable=skip", "seeds=[0]"))
    (skipped,) = (cell for cell in plan.cells if cell.refusal)
    assert skipped.refusal.startswith("link 1 (prune_magnitude): ")
    assert not any(node.step.method.name == PRUNE for node in plan.nodes.values())


def test_a_network_without_anything_to_prune_is_refused(small_suite: Load, tmp_path: Path) -> None:
    (tmp_path / "bare.py").write_text(
        "import torch\n\n\nclass Bare(torch.nn.Module):\n"
        "    def __init__(self, inputs, num_classes):\n        super().__init__()\n"
        "        self.weight = torch.nn.Parameter(torch.ones(64, num_classes))\n\n"
        "    def forward(self, x):\n        return x.flatten(1) @ self.weight\n"
    )
    bare = "students=[{name: 'bare.py:Bare', label: bare}]"
    with pytest.raises(UserError, match=r"link 2 \(prune_magnitude\)[^\n]*it has no linear, convolutional"):
        make_plan(small_suite(bare, chain("kd", PRUNE, "kd", student="bare")))
    assert make_plan(small_suite(bare, chain("kd", CAST, student="bare"))).cells


def test_a_random_teacher_repeats_chains_that_learn_from_logits_alone(small_suite: Load) -> None:
    methods = (
        "methods=[{chain: [{fitnet: {layer: 1}}, prune_magnitude, kd], label: hint}, "
        "{chain: [scratch, prune_magnitude, kd], label: logits}, scratch]"
    )
    plan = make_plan(small_suite("students=[cnn_2]", methods, "seeds=[0]", "controls={random_teacher: true}"))
    assert without_random_teacher(plan) == ["hint"]
    (control,) = (cell for cell in plan.cells if cell.control_of)
    cells = {cell.method: cell for cell in plan.cells}
    assert control.control_of == "logits"
    mine, other = control.node.lineage, cells["logits"].node.lineage
    assert mine[0] is other[0] is cells["scratch"].node and mine[1] is other[1] and mine[2] is not other[2]


@pytest.mark.parametrize("method", ["simkd", "kd"])
def test_ids_do_not_hold_the_folder_of_a_users_model(tmp_path: Path, method: str) -> None:
    ids = []
    for name in ("here", "there"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "net.py").write_text(
            "from torch import nn\n\n\ndef build(inputs, num_classes):\n"
            "    return nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1),\n"
            "                         nn.Flatten(), nn.Linear(3, num_classes))\n"
        )
        (folder / "suite.yaml").write_text(SMALL)
        own = "students=[{name: 'net.py:build', label: net}]"
        suite = Suite.load(folder / "suite.yaml", [own, f"methods=[{method}]"])
        ids.append([cell.id for cell in make_plan(suite).cells])
    assert ids[0] == ids[1]


def test_chains_are_planned_without_torch() -> None:
    methods = "[simkd, {chain: [kd, prune_magnitude, kd, cast]}, {chain: [cast, kd]}]"
    overrides = ["students=[resnet20]", "teachers=[resnet56]", "pairs=[]", "seeds=[0]", f"methods={methods}"]
    options = [option for text in (*overrides, "inapplicable=skip") for option in ("--set", text)]
    program = (
        "import sys\n"
        "sys.modules['torch'] = None\n"
        f"sys.argv = ['kdbench', 'plan', 'cifar100-crd', '--json', *{options!r}]\n"
        "from kdbench.cli import main\n"
        "main()\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-500:]
    statuses = {row["method"]: row["status"] for row in json.loads(ran.stdout)}
    assert statuses == {
        "simkd": "planned",
        "kd → prune_magnitude → kd → cast": "planned",
        "cast → kd": "skipped",
    }
