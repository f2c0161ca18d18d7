from __future__ import annotations

import csv
import io
import json
import re

import pytest
from rich.console import Console
from typer.testing import CliRunner

from kdbench.cli import app
from kdbench.report import compare, gallery, render, write_report

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
}
KD = {"name": "kd", "temperature": 4.0, "alpha": 0.9, "beta": 0.1}
CONFIG = {
    "scratch": {"name": "scratch"},
    "kd(temperature=1)": KD | {"temperature": 1.0},
    "kd(temperature=4)": KD,
    "logit_std": {"name": "logit_std"},
}
# Accuracies of CIFAR-100, far from those of the digits that the synthetic run is about.
TOP1 = {"scratch": 0.70, "kd(temperature=1)": 0.71, "kd(temperature=4)": 0.73, "logit_std": 0.76}


@pytest.fixture
def cifar_run(write_run):
    """A function that writes a synthetic run of resnet32x4 on CIFAR-100, trained as the papers do or not."""

    def write(*, recipe=None, teacher_recipe=None, train=45_000, student="resnet8x4", **fields):
        path = write_run(
            **{
                "teachers": ("resnet32x4",),
                "students": (student, "cnn_8"),
                "methods": tuple(CONFIG),
                "failing": frozenset(),
                "epochs": 1,
            }
            | fields
        )
        sizes = {"train": train, "validation": 50_000 - train, "test": 10_000}
        _change(
            path / "run.json",
            dataset="cifar100",
            classes=[f"c{i}" for i in range(100)],
            input_shape=[3, 32, 32],
            sizes=sizes,
        )
        dataset = {"name": "cifar100", "augment": {"crop_padding": 4, "flip": True}}
        files = sorted(path.glob("teachers/*/record.json"))
        ids = {json.loads(file.read_text())["teacher"]: file.parent.name for file in files}
        for file in files:
            model = {"name": json.loads(file.read_text())["teacher"], "args": {}}
            _change(
                file,
                config={
                    "dataset": dataset,
                    "model": model,
                    "recipe": RECIPE | (teacher_recipe or recipe or {}),
                },
            )
        for file in path.glob("cells/*/record.json"):
            record = json.loads(file.read_text())
            if record["metrics"]:
                value = TOP1[record["method"]] + 0.001 * record["seed"]
                record["metrics"] |= {"top1": value, "top1_best_val": value + 0.002}
            _change(
                file,
                metrics=record["metrics"],
                config={
                    "dataset": dataset,
                    "teacher": ids[record["teacher"]],
                    "student": {"name": record["student"], "args": {}},
                    "method": CONFIG[record["method"]],
                    "recipe": RECIPE | (recipe or {}),
                },
            )
        return path

    return write


def _change(file, **fields):
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


@pytest.fixture
def no_figures(monkeypatch):
    monkeypatch.setattr(gallery, "drawings", dict)


def printed(path, width=120):
    console = Console(width=width, file=io.StringIO())
    render(path, console, published=True)
    return console.file.getvalue()


def flat(text):
    return " ".join(text.split())


def row_of(text, student, method):
    lines = text.splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith(student))
    return next(line for line in lines[first:] if f" {method} " in line)


def test_published_figures_stand_beside_the_measured_ones(cifar_run):
    text = printed(cifar_run())
    # 73.00, 73.10 and 73.20 measured; CRD's table has 73.33 for KD and 72.50 for scratch, LSKD's 76.62
    assert re.search(
        r"73\.10 ± 0\.25 .* 73\.33 \(last\) +−0\.23 ", row_of(text, "resnet8x4", "kd(temperature=4)")
    )
    assert re.search(r"70\.10 ± 0\.25 .*72\.50 \(last\) +−2\.40 ", row_of(text, "resnet8x4", "scratch"))
    assert re.search(r"76\.10 ± 0\.25 .*76\.62 \(best\) +−0\.52 ", row_of(text, "resnet8x4", "logit_std"))
    assert "(" not in row_of(text, "cnn_8", "logit_std")
    assert "(best) of the epoch best on the test split, which flatters it" in flat(text)
    assert "Sources: CRD ICLR 2020, LSKD CVPR 2024 Tables 1-3." in flat(text)


def test_without_being_asked_for_nothing_is_shown_of_them(cifar_run):
    path = cifar_run()
    console = Console(width=120, file=io.StringIO())
    render(path, console)
    assert "publ" not in console.file.getvalue()
    assert not any(key.startswith("published") for row in compare(path) for key in row)


@pytest.mark.parametrize("width", [80, 100, 140])
def test_what_was_asked_for_fits_the_terminal(cifar_run, width):
    text = printed(cifar_run(), width)
    assert max(map(len, text.splitlines())) <= width
    assert "73.33 (last)" in text
    assert "−0.23" in text


def test_a_note_at_the_row_tells_other_hyper_parameters(cifar_run):
    text = printed(cifar_run())
    (mark,) = re.findall(r"([¹²³⁴⁵]) unlike in the paper: temperature 1 instead of 4", text)
    assert f"73.33 (last){mark}" in row_of(text, "resnet8x4", "kd(temperature=1)")
    assert f"73.33 (last){mark}" not in row_of(text, "resnet8x4", "kd(temperature=4)")


def test_json_has_the_figures_as_proportions(cifar_run):
    rows = compare(cifar_run(), published=True)
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
    by = {(row["student"], row["method"]): row for row in rows}
    found = by["resnet8x4", "logit_std"]
    assert found["published"] == pytest.approx(0.7662)
    assert found["published_epoch"] == "best-on-test"
    assert found["published_source"] == "LSKD CVPR 2024 Tables 1-3"
    assert found["published_difference"] == pytest.approx(found["top1"] - 0.7662)
    assert found["published_note"] == "unlike in the paper: 45,000 training images instead of 50,000"
    assert by[None, None]["published"] == pytest.approx(0.7942)
    none = by["cnn_8", "logit_std"]
    assert {none[key] for key in none if key.startswith("published")} == {None}


def test_the_difference_is_of_top1_whatever_the_metric(cifar_run):
    rows = compare(cifar_run(), metric="nll", published=True)
    found = next(
        row for row in rows if row["method"] == "kd(temperature=4)" and row["student"] == "resnet8x4"
    )
    assert found["published_difference"] == pytest.approx(0.731 - 0.7333)


def test_another_recipe_is_stated_plainly(cifar_run):
    text = flat(printed(cifar_run(recipe={"epochs": 30, "milestones": [19, 22, 26]})))
    assert (
        "Note: This run does not follow the recipe of the papers: 30 epochs instead of 240, 45,000 training "
        "images instead of 50,000. Notes at the rows say what else differs. Differences from published "
        "figures may be due to that alone."
    ) in text


def test_a_teacher_of_another_recipe_has_a_note_of_its_own(cifar_run):
    path = cifar_run(
        recipe={"epochs": 24, "milestones": [15, 18, 21]},
        teacher_recipe={"epochs": 48, "milestones": [30, 36, 42]},
    )
    text = flat(printed(path))
    assert "The students do not follow the recipe of the papers: 24 epochs instead of 240, 45,000" in text
    assert "unlike in the paper: 48 epochs instead of 240, 45,000 training images instead of 50,000" in text


def test_the_recipe_of_the_papers_is_stated_too(cifar_run):
    text = flat(printed(cifar_run(train=50_000, methods=("scratch", "kd(temperature=4)"))))
    assert "This run follows the recipe of the papers: 240 epochs on 50,000 training images" in text
    assert "unlike in the paper" not in text


def test_rows_that_differ_each_in_their_way_have_notes(cifar_run):
    text = flat(printed(cifar_run(train=50_000)))
    assert "Note: Rows with a note do not follow the recipe of the papers" in text


def test_a_run_on_other_data_says_that_nothing_is_published(synthetic_run):
    reason = "none are known for the dataset digits; there are figures for cifar100"
    text = printed(synthetic_run)
    assert flat(text).count(f"Note: No published figures: {reason}.") == 1
    assert "Δ publ." not in text
    rows = compare(synthetic_run, published=True)
    assert {row["published"] for row in rows} == {None}
    assert {row["published_note"] for row in rows} == {f"no published figures: {reason}"}


def test_a_run_of_other_models_says_that_nothing_matches(cifar_run):
    text = flat(printed(cifar_run(teachers=("cnn_64",), students=("mlp_64",))))
    assert "No published figures: those for cifar100 hold none of this run's teachers" in text


def test_a_failed_row_keeps_its_figure_and_has_a_dash_for_the_difference(cifar_run, no_figures):
    failing = frozenset(("resnet8x4", "logit_std", seed) for seed in range(3))
    path = cifar_run(failing=failing)
    row = next(row for row in compare(path, published=True) if row["method"] == "logit_std")
    assert (row["top1"], row["published_difference"]) == (None, None)
    assert row["published"] == pytest.approx(0.7662)
    document = write_report(path).with_name("report.md").read_text()
    line = next(line for line in document.splitlines() if "logit\\_std" in line and "76.62" in line)
    assert "| – | LSKD" in line


def test_the_command_line_offers_it(cifar_run):
    path = cifar_run()
    rows = json.loads(CliRunner().invoke(app, ["compare", str(path), "--published", "--json"]).stdout)
    assert rows[0]["published"] == pytest.approx(0.7942)
    text = flat(CliRunner().invoke(app, ["compare", "--help"]).stdout)
    assert "that of the paper that proposes the method, else of CRD's table" in text


def test_the_report_has_a_table_of_measured_and_published(cifar_run, no_figures):
    page = write_report(cifar_run(recipe={"epochs": 30, "milestones": [19, 22, 26]}))
    html = page.read_text()
    section = html[html.index('<section id="published">') :]
    section = section[: section.index("</section>")]
    assert "<h2>Measured and published</h2>" in section
    assert "<strong>This run does not follow the recipe of the papers: 30 epochs instead of 240" in section
    # the teacher and four methods of resnet8x4; no paper has cnn_8
    assert section.count("<tr") == 1 + 5
    assert section.count("best on test</td>") == 1
    assert "5 of the 9 rows of this run have a published figure." in section
    text = page.with_name("report.md").read_text()
    assert (
        "| resnet8x4 | kd(temperature=4) | 3 | 73.10 ± 0.25 | 73.30 ± 0.25 | 73.33 | last | −0.23 | "
        "CRD ICLR 2020 |"
    ) in text
    assert "**This run does not follow the recipe of the papers: 30 epochs" in text
    with page.with_name("published.csv").open() as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    assert rows["logit_std"]["published_epoch"] == "best-on-test"
    assert float(rows["logit_std"]["published_difference"]) == pytest.approx(0.761 - 0.7662)
    assert "Measured and published" in page.with_name("published.tex").read_text()


def test_with_several_teachers_the_table_names_them(cifar_run, no_figures):
    page = write_report(cifar_run(teachers=("resnet32x4", "wrn_40_2"), students=("ShuffleV2",)))
    text = page.with_name("report.md").read_text()
    assert "| teacher | student | method | n | measured, last epoch (%) |" in text
    # KD's figure is that of each teacher; scratch is the same beside both
    assert re.search(r"\| resnet32x4 \| ShuffleV2 \| kd\(temperature=4\) .* 74\.45 \|", text)
    assert not re.search(r"\| wrn\\_40\\_2 \| ShuffleV2 \| kd", text.split("## Measured and published")[1])
    assert re.search(r"\| wrn\\_40\\_2 \| ShuffleV2 \| scratch .* 71\.82 \|", text)


def test_without_a_validation_split_that_column_says_why(cifar_run, no_figures):
    path = cifar_run()
    for file in path.glob("*/*/record.json"):
        record = json.loads(file.read_text())
        why = record["reasons"] | {"top1_best_val": "there is no validation split"}
        _change(file, metrics=record["metrics"] | {"top1_best_val": None}, reasons=why)
    text = write_report(path).with_name("report.md").read_text().split("## Measured and published")[1]
    assert re.search(r"\| 73\.10 ± 0\.25 \| –<sup>(\d)</sup> \| 73\.33 ", text)
    assert "there is no validation split" in text


def test_a_report_of_other_data_has_no_such_section(write_run, no_figures):
    page = write_report(write_run(students=("mlp_64",), methods=("scratch",), epochs=1))
    assert "Measured and published" not in page.read_text()
    assert "ublished" not in page.with_name("report.md").read_text()
    assert not page.with_name("published.csv").exists()
