"""Accuracy by severity: means over corruptions, intervals over seeds, and what the figure and table show."""

from __future__ import annotations

import json

import numpy as np
import pytest

from kdbench.analysis.corruption import corrupted_examples, corruption_names, severity_curves
from kdbench.analysis.intervals import t_interval
from kdbench.analysis.summary import summarise
from kdbench.report import style
from kdbench.report.figures import NothingToDraw, corruption
from kdbench.report.headline import main_table


def test_curves_are_means_over_corruptions_with_intervals_over_seeds(synthetic_run):
    summary = summarise(synthetic_run)
    teacher, *students = severity_curves(summary)
    assert (teacher.student, teacher.method) == (None, None)
    assert len(students) == 16 and corruption_names(summary) == ("noise", "blur")
    assert corrupted_examples(summary) == (200,)
    for curve in students:
        (row,) = [r for r in summary.students if (r.student, r.method) == (curve.student, curve.method)]
        clean = np.array(list(row.values["top1"].values()))
        assert list(curve.accuracy) == [0, 1, 3, 5]
        for severity, found in curve.accuracy.items():
            expected = t_interval(clean - 0.02 * severity)
            assert found.mean == pytest.approx(expected.mean) and found.n == len(clean)
            assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_a_severity_that_has_no_mean_in_one_seed_rests_on_the_others(write_run):
    path = write_run(students=("mlp_64",), methods=("scratch",))
    file = sorted(path.glob("cells/*/record.json"))[0]
    record = json.loads(file.read_text())
    record["tables"]["corruptions"]["accuracy"]["blur"][1] = None
    file.write_text(json.dumps(record))
    _, curve = severity_curves(summarise(path))
    assert {severity: found.n for severity, found in curve.accuracy.items()} == {0: 3, 1: 3, 3: 2, 5: 3}


def test_the_figure_has_a_panel_a_student_and_a_line_a_method(synthetic_run):
    summary = summarise(synthetic_run)
    with style.styled():
        figure = corruption.draw(summary)
    panels = [axes for axes in figure.axes if axes.get_title(loc="left")]
    assert [axes.get_title(loc="left") for axes in panels] == list(summary.student_names)
    for axes in panels:
        assert len(axes.lines) == 1 + len(summary.methods)
        assert axes.get_xticks().tolist() == [0, 1, 3, 5]
        low, high = axes.get_ylim()
        assert all(low <= y <= high for line in axes.lines for y in line.get_ydata())
    text = corruption.caption(summary)
    assert "over 2 corruptions (noise, blur) of 200 test images" in text
    assert "n = 2 to 3 seeds, whiskers their 95 % t intervals" in text


def test_a_run_without_corruptions_has_no_figure_and_no_columns_of_them(write_run):
    summary = summarise(write_run(students=("mlp_64",), corrupted=False))
    with pytest.raises(NothingToDraw, match="no student was shown corrupted images"):
        corruption.draw(summary)
    assert not {"corrupted", "few-shot"} & {heading.title for heading in main_table(summary).headings}


def test_the_table_shows_columns_of_shift_where_there_are_numbers(write_run):
    path = write_run(students=("mlp_64",), methods=("scratch",))
    columns = json.loads((path / "columns.json").read_text())
    names = {"corruption_accuracy_mean": 0.8125, "agreement_corrupted": None, "accuracy_few": 0.25}
    common = {"family": "robustness", "direction": "higher", "unit": "", "range": "[0, 1]", "source": ""}
    columns += [{"name": name, "title": name, **common} for name in names]
    (path / "columns.json").write_text(json.dumps(columns))
    for file in path.glob("*/*/record.json"):
        record = json.loads(file.read_text())
        record["metrics"] |= names
        record["reasons"] |= {"agreement_corrupted": "it is the teacher"}
        file.write_text(json.dumps(record))
    table = main_table(summarise(path))
    shown = {heading.title: index for index, heading in enumerate(table.headings)}
    assert "agr. corrupted" not in shown and "medium-shot" not in shown
    assert table.lines[1].cells[shown["corrupted"]].text == "81.2"
    assert table.lines[1].cells[shown["few-shot"]].text == "25.0"
