from __future__ import annotations

import csv
import json
from collections import Counter

import pytest

from kdbench.analysis import published as published_module
from kdbench.analysis.published import PublishedTable, find_published, published_tables
from kdbench.analysis.summary import summarise
from kdbench.errors import UserError

# The protocol of CRD (ICLR 2020), section 4, typed here a second time.
RECIPE = {
    "optimizer": "sgd",
    "lr": 0.05,
    "momentum": 0.9,
    "nesterov": False,
    "weight_decay": 5e-4,
    "clip_norm": None,
    "schedule": "step",
    "milestones": [150, 180, 210],
    "gamma": 0.1,
    "warmup": 0.0,
    "epochs": 240,
    "batch_size": 64,
    "precision": "auto",
}
MANIFEST = {
    "dataset": "cifar100",
    "classes": [f"c{i}" for i in range(100)],
    "input_shape": [3, 32, 32],
    "sizes": {"train": 50_000, "validation": 0, "test": 10_000},
}
AUGMENT = {"crop_padding": 4, "flip": True}
KD = {"name": "kd", "temperature": 4.0, "alpha": 0.9, "beta": 0.1}


@pytest.fixture
def found(write_records, record):
    """A function: the published figures of a run of one student, whose parts can be changed."""

    def find(
        *,
        teacher="resnet32x4",
        student="resnet8x4",
        method=KD,
        label="anything",
        top1=0.75,
        recipe=None,
        teacher_recipe=None,
        augment=AUGMENT,
        teacher_fields=None,
        student_fields=None,
        **manifest,
    ):
        dataset = {"name": "cifar100", "augment": augment}
        recipe = RECIPE | (recipe or {})
        model = {"name": teacher, "args": {}} | (teacher_fields or {})
        of_teacher = None if model.get("checkpoint") else RECIPE | (teacher_recipe or {})
        path = write_records(
            record(
                "teacher",
                None,
                None,
                0,
                method_name=None,
                metrics={"top1": 0.7900},
                config={"dataset": dataset, "model": model, "recipe": of_teacher},
            ),
            record(
                "student",
                "my student",
                label,
                0,
                method_name=method["name"],
                metrics={"top1": top1},
                reasons={} if top1 else {"top1": "unknown"},
                config={
                    "dataset": dataset,
                    "teacher": "teacher-None-None-0",
                    "student": {"name": student, "args": {}} | (student_fields or {}),
                    "method": method,
                    "recipe": recipe,
                },
            ),
        )
        file = path / "run.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | MANIFEST | manifest))
        summary = summarise(path)
        published = find_published(summary)
        return published, *(published.of(row) for row in summary.rows)

    return find


def test_a_row_is_found_by_the_names_of_its_models_and_method_and_not_by_labels(found):
    published, teacher, student = found(label="kd, as usual")
    assert published.reason is None
    assert (teacher.figure.top1, teacher.figure.epoch) == (pytest.approx(0.7942), "last")
    assert teacher.difference == pytest.approx(0.7900 - 0.7942)
    assert (student.figure.top1, student.figure.source) == (pytest.approx(0.7333), "CRD ICLR 2020")
    assert student.difference == pytest.approx(0.75 - 0.7333)


def test_the_recipe_of_the_papers_is_recognised(found):
    published, teacher, student = found()
    assert teacher.unlike == student.unlike == published.shared == ()


def test_what_differs_from_the_papers_is_told(found):
    published, teacher, student = found(
        recipe={"epochs": 10, "lr": 0.2, "schedule": "one_cycle", "clip_norm": 1.0, "batch_size": 256},
        augment={"crop_padding": 4, "flip": False},
        sizes={"train": 45_000, "validation": 5_000, "test": 1_000},
    )
    assert student.unlike == published.shared
    assert student.unlike == (
        "10 epochs instead of 240",
        "45,000 training images instead of 50,000",
        "1,000 test images instead of 10,000",
        "flip off instead of on",
        "batch size 256 instead of 64",
        "lr 0.2 instead of 0.05",
        "clip norm 1 instead of none",
        "schedule one-cycle instead of step",
    )
    assert not published.has_all_shared(teacher)
    assert published.not_shared(teacher) == (
        "45,000 training images instead of 50,000",
        "1,000 test images instead of 10,000",
        "flip off instead of on",
    )


@pytest.mark.parametrize(
    ("recipe", "told"),
    [
        ({"epochs": 24, "milestones": [15, 18, 21]}, ["24 epochs instead of 240"]),
        # 30/240 of 150, 180, 210 is 18.75, 22.5, 26.25: the nearest whole epochs are the same schedule.
        ({"epochs": 30, "milestones": [19, 22, 26]}, ["30 epochs instead of 240"]),
        (
            {"epochs": 30, "milestones": [10, 20]},
            ["30 epochs instead of 240", "steps after 10, 20 instead of 19, 22, 26"],
        ),
        ({"milestones": [100, 180, 210]}, ["steps after 100, 180, 210 instead of 150, 180, 210"]),
        ({"gamma": 0.2}, ["gamma 0.2 instead of 0.1"]),
        ({"nesterov": True}, ["nesterov on instead of off"]),
        # momentum means nothing beside another optimiser
        ({"optimizer": "adamw", "momentum": 0.5}, ["optimizer adamw instead of sgd"]),
        ({"precision": "bf16"}, []),
    ],
)
def test_a_changed_recipe_is_told_in_its_own_words(found, recipe, told):
    assert list(found(recipe=recipe)[2].unlike) == told


def test_the_input_and_the_classes_are_part_of_the_protocol(found):
    student = found(input_shape=[3, 16, 16], classes=["a", "b"])[2]
    assert student.unlike == ("2 classes instead of 100", "input 3 × 16 × 16 instead of 3 × 32 × 32")


def test_students_with_a_learning_rate_of_their_own_are_known(found):
    assert found(student="ShuffleV2", recipe={"lr": 0.01})[2].unlike == ()


def test_the_same_learning_rate_for_every_student_is_told(found):
    assert found(student="ShuffleV2")[2].unlike == ("lr 0.05 instead of 0.01",)


@pytest.mark.parametrize(
    ("method", "told"),
    [
        (KD | {"temperature": 1.0}, ("temperature 1 instead of 4",)),
        # methods.md: β is 8 for students of resnet32x4
        ({"name": "dkd", "beta": 8.0}, ()),
        ({"name": "dkd", "beta": 2.0}, ("beta 2 instead of 8",)),
    ],
)
def test_other_hyper_parameters_are_told(found, method, told):
    assert found(method=method)[2].unlike == told


def test_hyper_parameters_that_a_paper_sets_for_a_pair_are_preferred_to_the_usual_ones(found):
    unlike = found(teacher="wrn_40_2", student="wrn_16_2", method={"name": "dkd", "beta": 8.0})[2].unlike
    assert unlike == ("beta 8 instead of 6",)


def test_a_longer_training_in_the_paper_is_its_own(found):
    # LSKD's tables give MLKD 480 epochs.
    student = found(method={"name": "mlkd"})[2]
    assert student.figure.top1 == pytest.approx(0.7708)
    assert student.unlike[0] == "240 epochs instead of 480"


def test_a_loaded_teacher_has_no_recipe_to_compare(found):
    teacher, student = found(teacher_fields={"checkpoint": "0" * 64})[1:]
    assert teacher.unlike == ("a checkpoint whose training is not recorded",)
    assert student.unlike == ()


def test_a_student_that_begins_from_a_checkpoint_is_told(found):
    assert found(student_fields={"checkpoint": "0" * 64})[2].unlike == ("first weights from a checkpoint",)


@pytest.mark.parametrize(
    "changed",
    [
        {"student": "resnet14"},
        {"student": "student.py:resnet8x4"},
        # another model, whatever its name
        {"student_fields": {"args": {"width": 2}}},
        {"method": {"name": "mgd"}},
    ],
)
def test_what_no_table_holds_has_no_figure(found, changed):
    published, teacher, student = found(**changed)
    assert teacher is not None
    assert student is None
    assert published.reason is None


def test_the_names_of_models_are_not_guessed(found):
    # resnet50 is no ResNet50: the one would have basic blocks, the other has bottlenecks.
    assert found(teacher="resnet50", student="vgg8")[1:] == (None, None)


def test_the_control_has_its_figure_beside_any_teacher(found):
    teacher, student = found(teacher="cnn_64", method={"name": "scratch"})[1:]
    assert teacher is None
    assert student.figure.top1 == pytest.approx(0.7250)


def test_a_row_without_a_value_keeps_its_figure_but_has_no_difference(found):
    student = found(top1=None)[2]
    assert (student.figure.top1, student.difference) == (pytest.approx(0.7333), None)


def test_a_run_without_any_figure_says_why(found):
    published = found(teacher="cnn_64", student="cnn_8")[0]
    assert published.matches == {}
    assert published.reason == "those for cifar100 hold none of this run's teachers, students and methods"
    assert published.shared == ()


@pytest.mark.parametrize("dataset", ["digits", "parquet:cifar100", "../published/cifar100"])
def test_a_dataset_without_a_table_is_no_error(found, dataset):
    published = found(dataset=dataset)[0]
    assert published.matches == {}
    assert published.reason == (f"none are known for the dataset {dataset}; there are figures for cifar100")


HEAD = "teacher,student,method,top1_percent,epoch_reported,epochs,settings,own_paper,source,method_in_source"
FIRST = "T,S,m,70.00,last,240,,no,Some ICML 2023,M"
COMMON = "T,S,m,71.00,last,240,,no,CRD ICLR 2020,M"
OWN = "T,S,m,72.00,best-on-test,240,beta=2 layer=pooled,yes,Own CVPR 2021,M"


@pytest.fixture
def write_table(tmp_path):
    def write(*lines):
        path = tmp_path / "cifar100.csv"
        path.write_text("\n".join([HEAD, *lines]) + "\n")
        protocol = published_tables()["cifar100"].with_suffix(".yaml").read_text()
        path.with_suffix(".yaml").write_text(protocol)
        return path

    return write


@pytest.mark.parametrize(
    ("lines", "source"),
    [
        ((FIRST, COMMON, OWN), "Own CVPR 2021"),
        ((FIRST, COMMON), "CRD ICLR 2020"),
        ((FIRST, FIRST.replace("70.00", "69.00").replace("Some", "Other")), "Some ICML 2023"),
    ],
)
def test_of_several_papers_the_methods_own_comes_first_and_then_crd(write_table, lines, source):
    assert PublishedTable.read(write_table(*lines)).find("T", "S", "m").source == source


def test_settings_are_read_as_values(write_table):
    assert PublishedTable.read(write_table(OWN)).find("T", "S", "m").settings == {
        "beta": 2,
        "layer": "pooled",
    }


@pytest.mark.parametrize(
    "line",
    [
        FIRST.replace("70.00", "170"),
        FIRST.replace("70.00", "n/a"),
        FIRST.replace("last", "first"),
        FIRST.replace(",no,", ",,"),
        FIRST.replace("240,,", "240,beta,"),
        "T,S,m",
    ],
)
def test_a_line_that_cannot_be_understood_is_named(write_table, line):
    with pytest.raises(UserError, match=r"cifar100\.csv:3: not a published figure"):
        PublishedTable.read(write_table(COMMON, line))


def test_a_table_without_its_protocol_is_named(write_table):
    path = write_table(COMMON)
    path.with_suffix(".yaml").unlink()
    with pytest.raises(UserError, match=r"cifar100\.yaml is not the protocol"):
        PublishedTable.read(path)


def test_an_installation_without_tables_still_reads_runs(found, monkeypatch, tmp_path):
    monkeypatch.setattr(published_module, "suite_folder", lambda: tmp_path)
    assert found()[0].reason == "none are known for the dataset cifar100"


@pytest.fixture(scope="module")
def shipped():
    with published_tables()["cifar100"].open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_shipped_table_holds_each_figure_once_and_only_what_can_be_read(shipped):
    table = PublishedTable.read(published_tables()["cifar100"])
    assert len(shipped) == 297
    assert sum(len(figures) for figures in table.figures.values()) == 297
    repeated = Counter((row["teacher"], row["student"], row["method"]) for row in shipped)
    assert set(repeated.values()) == {1}
    assert {row["source"] for row in shipped if row["epoch_reported"] == "last"} == {"CRD ICLR 2020"}


def test_the_control_is_the_same_beside_every_teacher_in_the_shipped_table(shipped):
    values = {(row["student"], row["top1_percent"]) for row in shipped if row["method"] == "scratch"}
    assert len(values) == len({student for student, _ in values}) == 9


@pytest.mark.parametrize(
    ("teacher", "student", "method", "top1"),
    [
        # The README of CRD's code (github.com/HobbitLong/RepDistiller).
        ("vgg13", None, None, 0.7464),
        ("wrn_40_2", "wrn_40_1", "nst", 0.7224),
        ("resnet110", "resnet32", "fsp", 0.7189),
        ("ResNet50", "MobileNetV2", "at", 0.5858),
        ("wrn_40_2", "ShuffleV1", "crd", 0.7605),
        # The README of LSKD's code (github.com/sunshangquan/logit-standardization-KD).
        ("vgg13", "vgg8", "logit_std", 0.7436),
        ("resnet56", "resnet20", "dkd", 0.7197),
        ("resnet32x4", "ShuffleV2", "mlkd+logit_std", 0.7876),
    ],
)
def test_shipped_figures_are_those_of_the_authors(teacher, student, method, top1):
    table = PublishedTable.read(published_tables()["cifar100"])
    assert table.find(teacher, student, method).top1 == pytest.approx(top1, abs=1e-9)


def test_the_models_and_settings_of_the_shipped_table_are_those_of_kdbench(shipped):
    from kdbench.methods import methods
    from kdbench.models.registry import find_builder

    for name in {row["teacher"] for row in shipped} | {row["student"] for row in shipped} - {""}:
        find_builder(name)
    known = methods()
    for row in shipped:
        if row["settings"] and row["method"] in known:
            names = {pair.split("=")[0] for pair in row["settings"].split()}
            assert names <= set(known[row["method"]].parameters.model_fields)
