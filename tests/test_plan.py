"""Plans: ids that follow the configuration, and requests that are refused before anything starts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from kdbench.code.factory import factory_fingerprint
from kdbench.errors import SharedFault, UserError
from kdbench.inputs import InputSpec
from kdbench.models import build_model
from kdbench.plan import Plan, make_plan
from kdbench.plan.code import refuse_edited, refuse_other_plan, user_files
from kdbench.suite import Suite

Load = Callable[..., Suite]


def ids(plan: Plan) -> dict[tuple[str, str, int], str]:
    return {(cell.student, cell.method, cell.seed): cell.id for cell in plan.cells}


def test_the_matrix_is_expanded_into_cohorts(small_suite: Load) -> None:
    plan = make_plan(small_suite())
    assert len(plan.cohorts) == 2 and len(plan.cells) == 2 * 2 * 2
    assert [cohort.seed for cohort in plan.cohorts] == [0, 1]
    assert {cell.method for cell in plan.cells} == {"scratch", "kd(temperature=2)"}
    assert len(set(ids(plan).values())) == 8
    row = plan.rows()[0]
    assert {"id", "teacher", "student", "method", "seed", "cohort"} <= set(row)


def test_a_list_of_values_is_a_grid(small_suite: Load) -> None:
    suite = small_suite("methods.1={name: kd, temperature: [1, 4], alpha: [0.5, 0.9]}")
    labels = {cell.method for cell in make_plan(suite).cells}
    assert labels == {
        "scratch",
        "kd(temperature=1,alpha=0.5)",
        "kd(temperature=1,alpha=0.9)",
        "kd(temperature=4,alpha=0.5)",
        "kd(temperature=4,alpha=0.9)",
    }


def test_ids_do_not_depend_on_names_seeds_or_neighbours(small_suite: Load) -> None:
    plan = ids(make_plan(small_suite()))
    same = [
        ids(make_plan(small_suite("name=other", "description=x", "seeds=[1]"))),
        ids(make_plan(small_suite("measure.batch_sizes=[1, 8]", "inapplicable=skip"))),
        ids(make_plan(small_suite("students=[cnn_2, gru_4]"))),
        ids(make_plan(small_suite("methods.1={name: kd, temperature: 2.0, alpha: 0.9}"))),
    ]
    for other in same:
        shared = plan.keys() & other.keys()
        assert shared and all(plan[key] == other[key] for key in shared)


@pytest.mark.parametrize(
    "override",
    [
        "recipe.lr=0.06",
        "recipe.epochs=3",
        "recipe.weight_decay=0",
        "dataset.validation_fraction=0.3",
        "dataset.split_seed=1",
        "dataset.augment.flip=true",
        "dataset.args.limit=200",
        "teachers.0.seed=1",
        "teachers.0.recipe.epochs=3",
        "teachers.0.name=cnn_2",
    ],
)
def test_ids_change_with_whatever_changes_a_result(small_suite: Load, override: str) -> None:
    before, after = make_plan(small_suite()), make_plan(small_suite(override))
    assert not set(ids(before).values()) & set(ids(after).values())


def test_a_students_own_recipe_changes_its_cells_only(small_suite: Load) -> None:
    before = ids(make_plan(small_suite()))
    after = ids(make_plan(small_suite("students.1={name: cnn_2, recipe: {lr: 0.01}}")))
    changed = {key for key in before if before[key] != after[key]}
    assert changed == {key for key in before if key[0] == "cnn_2"}
    with pytest.raises(UserError, match=r"recipe\.epochs is shared by the cohort"):
        make_plan(small_suite("students.1={name: cnn_2, recipe: {epochs: 3}}"))


def test_ids_follow_the_content_of_a_users_files(small_suite: Load, tmp_path: Path) -> None:
    file = tmp_path / "net.py"
    file.write_text(
        "from kdbench.models.zoo.mlp import MLP\n"
        "def net(num_classes):\n    return MLP(64, [4], num_classes)\n"
    )
    override = f"students=[{{name: '{file}:net', label: mine}}]"
    before = ids(make_plan(small_suite(override)))
    assert before == ids(make_plan(small_suite(override)))
    file.write_text(file.read_text().replace("[4]", "[5]"))
    after = ids(make_plan(small_suite(override)))
    assert before.keys() == after.keys() and not set(before.values()) & set(after.values())


def test_ids_follow_the_code_of_a_users_dataset(small_suite: Load, tmp_path: Path) -> None:
    file = tmp_path / "data.py"
    file.write_text(
        "import numpy as np\n"
        "def blobs():\n"
        "    labels = np.arange(40) % 2\n"
        "    images = (100 * labels[:, None, None] + np.zeros((40, 8, 8))).astype('uint8')\n"
        "    return (images, labels), (images[:20], labels[:20])\n"
    )
    override = f"dataset={{name: '{file}:blobs'}}"
    before = ids(make_plan(small_suite(override)))
    assert before == ids(make_plan(small_suite(override)))
    file.write_text(file.read_text().replace("100 *", "120 *"))
    assert not set(before.values()) & set(ids(make_plan(small_suite(override))).values())


def test_a_checkpoint_decides_the_teachers_id_by_its_content(small_suite: Load, tmp_path: Path) -> None:
    def teacher_id(seed: int) -> str:
        torch.manual_seed(seed)
        torch.save(
            build_model("cnn_4", inputs=InputSpec.image((1, 8, 8)), num_classes=10).state_dict(),
            tmp_path / "w.pth",
        )
        override = f"teachers=[{{name: cnn_4, checkpoint: {tmp_path / 'w.pth'}}}]"
        return make_plan(small_suite(override)).teachers[0].id

    assert teacher_id(0) == teacher_id(0) != teacher_id(1)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("students=[resnet2O]", "unknown model 'resnet2O'. Did you mean 'resnet20'?"),
        ("methods=[scrach]", "unknown method 'scrach'. Did you mean 'scratch'?"),
        ("dataset.name=digts", "Did you mean 'digits'?"),
        ("dataset.args={limt: 3}", "Did you mean 'limit'?"),
        ("methods.1={name: kd, temprature: 2}", "method 'kd' has no parameter 'temprature'. Did you mean"),
        (
            "methods.1={name: kd, temperature: 0}",
            "method 'kd': temperature: found 0; input should be greater",
        ),
        ("methods.1={name: kd, students: [mlp_61]}", "unknown student 'mlp_61'. Did you mean 'mlp_16'?"),
        ("methods=[scratch, {name: scratch, label: again}]", "duplicate cells"),
        ("methods=[{name: kd, temperature: [2, 2]}]", "duplicate cells"),
        ("methods=[scratch, {name: kd, temperature: []}]", "method 'kd': temperature: found []"),
        ("methods=[{name: kd, students: []}]", "methods.0.students: found []"),
        (
            "methods=[interpolate]",
            "method 'interpolate' cannot work with teacher 'cnn_4' and student 'mlp_16'",
        ),
        ("methods=[fitnet]", "student 'mlp_16' has no stages"),
        ("teachers=[{name: cnn_4, checkpoint: nowhere.pth}]", "nowhere.pth does not exist"),
        ("students=['torchvision:resnet18']", "cannot take inputs of 1 × 8 × 8"),
        ("students.0={name: cnn_2, label: x, args: {widht: 2}}", "takes no argument 'widht'"),
        (
            "students.0={name: cnn_4, label: x, taps: {stages: [stagse]}}",
            "no module 'stagse'. Did you mean 'stages'?",
        ),
        ("students.0={name: mlp_16, recipe: {lrr: 1}}", "unknown recipe field 'lrr'. Did you mean 'lr'?"),
        (
            "students.0={name: mlp_16, recipe: {lr: -1}}",
            "student 'mlp_16': recipe.lr: Input should be greater",
        ),
    ],
)
def test_what_cannot_be_run_is_refused_in_one_line(small_suite: Load, override: str, expected: str) -> None:
    with pytest.raises(UserError) as caught:
        make_plan(small_suite(override))
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_inapplicable_cells_can_be_skipped_with_their_reason(small_suite: Load) -> None:
    plan = make_plan(small_suite("methods=[scratch, fitnet]", "inapplicable=skip"))
    skipped = [cell for cell in plan.cells if cell.refusal]
    assert {cell.student for cell in skipped} == {"mlp_16"}
    assert plan.rows()[1]["status"] == "skipped" and "no stages" in plan.rows()[1]["reason"]
    with pytest.raises(UserError, match="no cells that can be run"):
        make_plan(small_suite("methods=[fitnet]", "students=[mlp_16]", "inapplicable=skip"))


def test_a_model_with_other_classes_than_the_data_is_refused(small_suite: Load, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "from kdbench.models.zoo.mlp import MLP\ndef net():\n    return MLP(64, [4], 7)\n"
    )
    with pytest.raises(UserError, match="gives 7 classes, the dataset has 10"):
        make_plan(small_suite(f"students=['{tmp_path}/net.py:net']"))


USERS = {
    "net.py": """
import json
from pathlib import Path
from torch import nn
from layers import head
def build(input_shape, num_classes):
    width = json.loads(Path(__file__).with_name('width.json').read_text())
    return nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), head(width, num_classes))
""",
    "layers.py": "from torch import nn\nhead = nn.Linear\n",
    "width.json": "4",
    "loss.py": """
from kdbench.methods import Combined, method
from strength import WEIGHT
@method("own", title="own", source="this file", year=2026)
class Own(Combined):
    def terms(self, student, teacher, batch):
        return {}
""",
    "strength.py": "WEIGHT = 1\n",
    "data.py": """
import numpy as np
def make():
    from grey import level
    images = np.full((40, 8, 8), level(), np.uint8)
    return (images, np.arange(40) % 2), (images, np.arange(40) % 2)
""",
    "grey.py": "def level(): return 7\n",
}


@pytest.mark.parametrize(
    ("file", "text", "changed"),
    [
        ("layers.py", "from torch import nn\nhead = nn.Linear  # edited\n", {"net", "net by own"}),
        ("width.json", "5", {"net", "net by own"}),  # data, told by the shapes of the parameters
        ("strength.py", "WEIGHT = 2\n", {"net by own", "mlp_16 by own"}),
        ("grey.py", "def level(): return 8\n", {"net", "net by own", "mlp_16", "mlp_16 by own"}),
    ],
)
def test_ids_change_with_whatever_a_users_code_consists_of(
    file: str,
    text: str,
    changed: set[str],
    small_suite: Load,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, content in USERS.items():
        (tmp_path / name).write_text(content)
    suite = small_suite(
        "dataset={name: 'data.py:make'}",
        "students=[{name: 'net.py:build', label: net}, mlp_16]",
        "methods=[scratch, {name: 'loss.py:Own', label: own}]",
        "seeds=[0]",
    )
    before = ids(make_plan(suite))
    (tmp_path / file).write_text(text)
    after = ids(make_plan(suite))
    differing = {key for key in before if before[key] != after[key]}
    assert {f"{student}{' by own' if method == 'own' else ''}" for student, method, _ in differing} == changed


def test_code_of_a_users_own_is_named_with_what_it_was(small_suite: Load, tmp_path: Path) -> None:
    for name, content in USERS.items():
        (tmp_path / name).write_text(content)
    net, own, data = (f"{tmp_path}/{name}" for name in ("net.py:build", "loss.py:Own", "data.py:make"))
    plan = make_plan(
        small_suite(
            f"dataset={{name: '{data}'}}",
            f"students=[mlp_16, {{name: '{net}', label: net}}]",
            f"methods=['{own}']",
        )
    )
    assert user_files(plan) == {name: factory_fingerprint(name) for name in (net, own, data)}
    refuse_edited(plan)
    (tmp_path / "strength.py").write_text("WEIGHT = 2\n")
    with pytest.raises(SharedFault, match=r"^\S+loss\.py:Own, or code .* was edited"):
        refuse_edited(plan)
    (tmp_path / "loss.py").unlink()
    with pytest.raises(SharedFault, match=r"^\S+loss\.py:Own, or code .* was edited"):
        refuse_edited(plan)
    with pytest.raises(UserError, match="the plan is not what it was"):
        refuse_other_plan(plan, {"another"}, user_files(plan))


def test_a_checkpoint_that_is_replaced_is_noticed_as_edited_code_is(
    small_suite: Load, tmp_path: Path
) -> None:
    weights = tmp_path / "weights.pt"
    student = build_model("mlp_16", inputs=InputSpec.image((1, 8, 8)), num_classes=10)
    torch.save(student.state_dict(), weights)
    plan = make_plan(small_suite(f"students=[{{name: mlp_16, checkpoint: '{weights}'}}]"))
    refuse_edited(plan)
    torch.save({name: 2 * value for name, value in student.state_dict().items()}, weights)
    with pytest.raises(UserError, match=r"weights\.pt, .* was edited"):
        refuse_edited(plan)


def test_a_suite_that_spans_more_cells_than_anybody_trains_is_refused(small_suite: Load) -> None:
    seeds = ", ".join(map(str, range(10_000)))
    suite = small_suite(f"seeds=[{seeds}]", "methods=[{name: kd, alpha: [1, 2, 3, 4, 5, 6]}]")
    with pytest.raises(UserError, match="the suite spans up to 120,000 cells"):
        make_plan(suite)
