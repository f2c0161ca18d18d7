"""Controls of a suite: plans that hold them, refusals, and runs whose records they change."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from safetensors.numpy import load_file
from sklearn.metrics import cohen_kappa_score

from kdbench.errors import UserError
from kdbench.inputs import InputSpec
from kdbench.methods import methods
from kdbench.models import build_model
from kdbench.plan import Plan, make_plan
from kdbench.plan.controls import describe_controls
from kdbench.progress import Progress
from kdbench.runner import run
from kdbench.runner.amendments.independent import NAMES
from kdbench.runner.amendments.rescoring import rescore
from kdbench.store import RunDirectory, check
from kdbench.suite import Suite

Load = Callable[..., Suite]
BOTH = "controls={independent_teacher: true, random_teacher: true}"


class Stages(Progress):
    def __init__(self) -> None:
        self.begun: list[str] = []

    def begin(self, label: str, total: int, unit: str) -> None:
        self.begun.append(label)


def ids(plan: Plan) -> list[str]:
    return [cell.id for cell in plan.cells]


def test_controls_leave_the_ids_of_everything_else_alone(small_suite: Load) -> None:
    plain, with_both = make_plan(small_suite()), make_plan(small_suite(BOTH))
    assert [cell.id for cell in with_both.cells if not cell.control_of] == ids(plain)
    assert [teacher.id for teacher in with_both.teachers] == [teacher.id for teacher in plain.teachers]
    assert plain.independent == {} and plain.idle_teachers == []


def test_published_runs_still_have_their_ids() -> None:
    published = Path(__file__).parents[3] / "results" / "quickstart" / "run.json"
    assert ids(make_plan(Suite.load("quickstart"))) == json.loads(published.read_text())["cells"]


def test_the_independent_teacher_is_the_teacher_that_another_suite_would_train(small_suite: Load) -> None:
    plan = make_plan(small_suite("controls={independent_teacher: true}"))
    other = make_plan(small_suite("teachers.0.seed=1")).teachers[0]
    assert [teacher.id for teacher in plan.idle_teachers] == [other.id]
    assert plan.independent[plan.teachers[0].id].id == other.id
    chosen = make_plan(small_suite("controls={independent_teacher: 7}")).idle_teachers[0]
    assert chosen.id == make_plan(small_suite("teachers.0.seed=7")).teachers[0].id
    assert make_plan(small_suite("controls={independent_teacher: false}")).independent == {}


def test_a_teacher_of_the_suite_serves_as_the_independent_one_of_another(small_suite: Load) -> None:
    recipe = "recipe: {epochs: 4}"
    teachers = f"teachers=[{{name: cnn_4, {recipe}}}, {{name: cnn_4, seed: 1, label: second, {recipe}}}]"
    plan = make_plan(small_suite(teachers, "controls={independent_teacher: true}"))
    first, second = plan.teachers
    assert plan.independent[first.id] is second
    assert [teacher.entry.seed for teacher in plan.idle_teachers] == [2]


def test_cells_with_a_random_teacher_stand_beside_their_method(small_suite: Load) -> None:
    suite = small_suite(BOTH, "methods=[scratch, kd, {name: fitnet, layer: pooled}, dkd]", "seeds=[0]")
    plan = make_plan(suite)
    mine = [cell for cell in plan.cells if cell.student == "mlp_16"]
    assert [(cell.method, cell.control_of) for cell in mine] == [
        ("scratch", None),
        ("kd", None),
        ("kd (random teacher)", "kd"),
        ("fitnet(layer=pooled)", None),
        ("dkd", None),
        ("dkd (random teacher)", "dkd"),
    ]
    assert len(set(ids(plan))) == len(plan.cells) and len({cell.cohort for cell in plan.cells}) == 1
    assert mine[2].node.config == mine[1].node.config | {"control": "random_teacher"}
    assert plan.rows()[2]["control_of"] == "kd" and plan.rows()[1]["control_of"] is None
    assert list(describe_controls(plan)) == [
        "Independent of teacher cnn_4: seed 1, which teaches none of its students.",
        "No random teacher where more than logits is taken: fitnet(layer=pooled).",
    ]


def test_skipped_methods_and_chains_get_no_control(small_suite: Load) -> None:
    chain = "{name: takd, assistants: [cnn_2]}"
    suite = small_suite(f"methods=[kd, {chain}, fitnet]", BOTH, "inapplicable=skip")
    controls = {cell.control_of for cell in make_plan(suite).cells}
    assert controls == {None, "kd"}


def test_only_methods_that_take_logits_alone_can_have_a_random_teacher() -> None:
    usual = {
        name
        for name, entry in methods().items()
        if name != "takd"
        and entry.distiller.uses_teacher
        and entry.distiller.reads_logits_only(entry.parameters(), "s")
    }
    assert {"kd", "dkd", "dist"} <= usual
    assert not usual & {"scratch", "fitnet", "crd", "simkd", "interpolate", "dml", "born_again", "rkd"}


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["controls.independent_teacher=0"], "seed 0 is that of teacher 'cnn_4'"),
        (["controls.independent_teacher=-1"], "controls.independent_teacher.seed: found -1"),
        (["controls.independent_teacher=x"], "it is true, false, a seed, or {checkpoint: PATH}"),
        (["controls.independent_teacher={sed: 1}"], "unknown field 'sed'. Did you mean 'seed'?"),
        (["controls.independent_teacher={seed: 1, checkpoint: a}"], "name a seed or a checkpoint, not both"),
        (["controls.randomteacher=true"], "Did you mean 'random_teacher'?"),
        (["controls.random_teacher=true", "methods=[scratch]"], "no method of the suite learns from logits"),
        (
            ["teachers=[cnn_4, cnn_2]", "students=[mlp_16]", "controls.independent_teacher={checkpoint: a}"],
            "one checkpoint cannot be the second training of all 2 teachers",
        ),
    ],
)
def test_wrong_controls_are_refused_in_one_line(
    small_suite: Load, overrides: list[str], expected: str
) -> None:
    with pytest.raises(UserError) as caught:
        make_plan(small_suite(*overrides))
    assert expected in str(caught.value) and "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Suite]:
    """Return a run with both controls, run once for this file, and its suite."""
    from tests.conftest import SMALL

    folder = tmp_path_factory.mktemp("controlled")
    (folder / "small.yaml").write_text(SMALL)
    suite = Suite.load(folder / "small.yaml", [BOTH, "students=[mlp_16]"])
    outcome = run(suite, folder / "run")
    assert (outcome.ok, outcome.failed, outcome.skipped) == (6, 0, 0)
    return outcome.path, suite


def logits(run_path: Path, id: str) -> tuple[np.ndarray, np.ndarray]:
    tensors = load_file(run_path / "nodes" / id / "predictions.safetensors")
    return tensors["test_logits"].argmax(1), tensors["test_labels"]


def test_every_student_is_scored_against_the_independent_teacher(finished: tuple[Path, Suite]) -> None:
    path, suite = finished
    plan = make_plan(suite)
    other = plan.idle_teachers[0].id
    theirs, labels = logits(path, other)
    records = list(RunDirectory.open(path).records())
    assert [record.role for record in records] == ["teacher"] + ["student"] * 6, "it is in no table itself"
    assert check(path) == []
    for record in records:
        guesses, _ = logits(path, record.id)
        metrics = record.metrics
        assert record.amendments["independent"] == other
        assert metrics["agreement_independent"] == pytest.approx(np.mean(guesses == theirs))
        assert metrics["cohen_kappa_independent"] == pytest.approx(cohen_kappa_score(guesses, theirs))
        right, others_right = guesses == labels, theirs == labels
        assert metrics["error_consistency_independent"] == pytest.approx(
            cohen_kappa_score(right, others_right)
        )
        assert metrics["kl_independent"] > 0
        if record.role == "teacher":
            assert record.reasons["agreement_excess"] == "it is the teacher"
        else:
            excess = metrics["agreement"] - metrics["agreement_independent"]
            assert metrics["agreement_excess"] == pytest.approx(excess)
    assert set(RunDirectory.open(path).columns()) >= NAMES


def test_a_control_cell_is_not_its_method(finished: tuple[Path, Suite]) -> None:
    records = [r for r in RunDirectory.open(finished[0]).records() if r.seed == 0 and r.method]
    by_method = {record.method: record for record in records}
    kd, control = by_method["kd(temperature=2)"], by_method["kd(temperature=2) (random teacher)"]
    assert control.control_of == "kd(temperature=2)" and kd.control_of is None
    assert control.method_name == "kd" and control.cohort == kd.cohort
    assert control.metrics["nll"] != kd.metrics["nll"]


def test_columns_follow_the_suite_without_any_training(finished: tuple[Path, Suite], tmp_path: Path) -> None:
    path, suite = finished
    copy = tmp_path / "run"
    shutil.copytree(path, copy)
    plain = suite.model_copy(update={"controls": Suite.model_fields["controls"].default})
    heard = Stages()
    run(plain, copy, progress=heard, teacher_store=path)
    directory = RunDirectory.open(copy)
    assert not NAMES & directory.columns().keys()
    assert all(not NAMES & (r.metrics.keys() | r.reasons.keys()) for r in directory.records())
    run(suite, copy, progress=heard, teacher_store=path)
    assert set(heard.begun) == {"comparing with independent teachers"}
    before = {r.id: r.metrics for r in RunDirectory.open(path).records()}
    assert {r.id: r.metrics for r in directory.records()} == before


def test_scoring_again_renews_what_rests_on_the_independent_teacher(
    finished: tuple[Path, Suite], tmp_path: Path
) -> None:
    directory = RunDirectory(Path(shutil.copytree(finished[0], tmp_path / "run")))
    expected = {record.id: record.metrics for record in directory.records()}
    (other,) = directory.supporting()
    for record in [*directory.records(), other]:
        stale = {name: 0.123 for name in (*NAMES, "top1", "agreement") if name in record.metrics}
        directory.amend(record, metrics=record.metrics | stale)
    assert rescore(directory.path) == 8, "the teacher, six students and the independent teacher"
    assert {record.id: record.metrics for record in directory.records()} == expected
    assert directory.record(other.id).metrics == other.metrics
    assert check(directory.path) == []


@pytest.mark.parametrize("again", ["rescore", "run"])
def test_damaged_logits_of_the_independent_teacher_are_refused(
    finished: tuple[Path, Suite], tmp_path: Path, again: str
) -> None:
    directory = RunDirectory(Path(shutil.copytree(finished[0], tmp_path / "run")))
    (other,) = directory.supporting()
    file = directory.folder(other.id) / "predictions.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    assert [directory.path / finding.path for finding in check(directory.path)] == [file]
    for record in directory.records():
        directory.amend(record, amendments=record.amendments | {"independent": "another"})
    with pytest.raises(UserError, match=r"predictions\.safetensors: changed since it was recorded"):
        if again == "run":
            run(finished[1], directory.path)
        else:
            rescore(directory.path)


def test_an_independent_teacher_that_is_lost_is_missed_and_made_again(
    finished: tuple[Path, Suite], tmp_path: Path
) -> None:
    directory = RunDirectory(Path(shutil.copytree(finished[0], tmp_path / "run")))
    (other,) = directory.supporting()
    shutil.rmtree(directory.folder(other.id))
    (finding,) = check(directory.path)
    assert (finding.path, finding.what) == (f"nodes/{other.id}", "teacher cnn_4, seed 1")
    run(finished[1], directory.path)
    assert check(directory.path) == []


def test_a_control_keeps_to_the_method_that_it_repeats_when_that_is_renamed(
    finished: tuple[Path, Suite], tmp_path: Path, small_suite: Load
) -> None:
    copy, heard = Path(shutil.copytree(finished[0], tmp_path / "run")), Stages()
    renamed = "methods=[scratch, {name: kd, label: soft, temperature: 2}]"
    run(small_suite(BOTH, "students=[mlp_16]", renamed), copy, progress=heard)
    repeated = {(record.method, record.control_of) for record in RunDirectory(copy).records()}
    assert heard.begun == [] and ("soft (random teacher)", "soft") in repeated
    assert {method for method, _ in repeated} == {None, "scratch", "soft", "soft (random teacher)"}


def test_without_saved_logits_the_columns_are_null_with_the_reason(
    finished: tuple[Path, Suite], tmp_path: Path
) -> None:
    path, suite = finished
    copy = tmp_path / "run"
    shutil.copytree(path, copy)
    directory = RunDirectory(copy)
    for record in directory.records():
        directory.amend(record, amendments=record.amendments | {"independent": "another"})
    for file in copy.glob("nodes/*/*.safetensors"):
        file.unlink()
    run(suite, copy, teacher_store=path)
    for record in RunDirectory.open(copy).records():
        if record.role == "student":
            assert {record.reasons.get(name) for name in NAMES} == {"the logits were not kept"}


def test_a_teacher_from_a_checkpoint_needs_another_checkpoint(small_suite: Load, tmp_path: Path) -> None:
    for seed in (0, 1):
        torch.manual_seed(seed)
        model: Any = build_model("cnn_4", inputs=InputSpec.image((1, 8, 8)), num_classes=10)
        safetensors.torch.save_file(model.state_dict(), tmp_path / f"{seed}.safetensors")
    base = (
        f"teachers=[{{name: cnn_4, checkpoint: {tmp_path}/0.safetensors}}]",
        "students=[mlp_16]",
        "methods=[scratch]",
        "seeds=[0]",
        "recipe.epochs=1",
    )
    with pytest.raises(UserError, match="the checkpoint is that of teacher 'cnn_4'"):
        same = f"controls.independent_teacher={{checkpoint: {tmp_path}/0.safetensors}}"
        make_plan(small_suite(*base, same))
    alone = small_suite(*base, "controls.independent_teacher=true")
    assert make_plan(alone).independent == {}
    record = list(RunDirectory.open(run(alone, tmp_path / "run").path).records())[-1]
    assert record.metrics["agreement_excess"] is None
    assert "comes from a checkpoint" in record.reasons["agreement_excess"]
    named = small_suite(*base, f"controls.independent_teacher={{checkpoint: {tmp_path}/1.safetensors}}")
    record = list(RunDirectory.open(run(named, tmp_path / "run").path).records())[-1]
    assert record.metrics["agreement_excess"] is not None
