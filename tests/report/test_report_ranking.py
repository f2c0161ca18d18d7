from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from rich.console import Console

from kdbench.analysis.ranks import rank_methods
from kdbench.analysis.summary import summarise
from kdbench.errors import UserError
from kdbench.report import compare, rank, render, render_ranks, style
from kdbench.report.claims import difference_table
from kdbench.report.content import gather
from kdbench.report.diagram import draw_ranking
from kdbench.report.figures import NothingToDraw
from kdbench.report.registry import drawings
from tests.documents import list_files

LONG = "interpolate(lam=0.9,teacher=alongside)"


def printed(paths, width=100, **arguments) -> str:
    console = Console(width=width, file=io.StringIO())
    render_ranks(paths, console, **arguments)
    return console.file.getvalue()


@pytest.fixture
def second_run(write_run) -> Path:
    return write_run(students=("mlp_128", "cnn_16"), failing=frozenset())


def store_outcomes(run: Path) -> None:
    """Give every finished cell predictions whose share of hits is its recorded accuracy."""
    labels = np.arange(1_000) % 10
    for path in run.glob("cells/*/record.json"):
        record = json.loads(path.read_text())
        if record["status"] != "ok":
            continue
        hits = round(1_000 * record["metrics"]["top1"])
        record["metrics"]["top1"] = hits / 1_000
        path.write_text(json.dumps(record))
        order = np.random.default_rng(record["seed"]).permutation(1_000)
        predicted = np.where(np.argsort(order) < hits, labels, (labels + 1) % 10)
        frame = pd.DataFrame({"label": labels, "predicted": predicted}).astype("uint16")
        frame.to_parquet(path.parent / "outcomes.parquet", index=False)
    list_files(run)


def test_rows_of_several_runs_are_what_json_can_hold(synthetic_run, second_run):
    rows = rank([synthetic_run, second_run])
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
    assert rows[0]["method"] == "kd(temperature=4)"
    assert rows[0]["mean_rank"] == 1
    assert rows[0]["iqm_low"] < rows[0]["iqm"] < rows[0]["iqm_high"]
    assert {row["tasks"] for row in rows} == {6}
    assert rows[0]["friedman_p"] < 0.05 < rows[0]["critical_difference"]


def test_the_terminal_says_what_was_shown_and_what_a_student_counts_for(synthetic_run, second_run):
    text = " ".join(printed([synthetic_run, second_run]).split())
    assert "Top-1 accuracy: methods by mean rank over 6 students" in text
    assert "Friedman's test: p < 0.001 over 6 students. Not told apart (Nemenyi, CD = 1.91):" in text
    assert "those of one dataset share its test set" in text
    assert "it is scratch" in text


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_the_diagram_is_written_in_the_format_of_its_name(synthetic_run, second_run, tmp_path, suffix):
    file = tmp_path / f"ranks.{suffix}"
    assert f"Wrote {file}." in printed([synthetic_run, second_run], width=400, figure=file)
    assert file.stat().st_size > 1_000


def test_a_diagram_that_cannot_be_drawn_is_refused(synthetic_run, second_run, write_run, tmp_path):
    with pytest.raises(UserError, match=r"cannot draw .*ranks.jpg: its name must end in .png, .svg, .pdf"):
        printed([synthetic_run, second_run], figure=tmp_path / "ranks.jpg")
    with pytest.raises(UserError, match="no diagram can be drawn: 2 students: Friedman's test needs"):
        printed([second_run], figure=tmp_path / "ranks.png")
    with pytest.raises(UserError, match="nothing to rank: both_right cannot be ranked"):
        printed([synthetic_run], metric="both_right")


@pytest.mark.parametrize("methods", [3, 8, 20])
def test_nothing_of_the_diagram_overlaps_or_is_cut_off(methods):
    names = [LONG, *(f"method_{index}" for index in range(methods - 1))]
    scores = np.random.default_rng(methods).normal(size=(9, methods)) + np.linspace(0, 2, methods)
    with style.styled():
        figure = draw_ranking(rank_methods(scores, names), "Methods by mean rank")
        renderer = FigureCanvasAgg(figure).get_renderer()
        figure.draw_without_rendering()
    (axes,) = figure.axes
    boxes = [text.get_window_extent(renderer) for text in axes.texts]
    for index, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[index + 1 :])
    tight = figure.get_tightbbox(renderer)
    assert tight.x0 > -0.01 and tight.y0 > -0.01
    assert tight.x1 < figure.get_figwidth() + 0.01 and tight.y1 < figure.get_figheight() + 0.01


def test_a_report_says_why_it_has_no_diagram(second_run):
    with pytest.raises(NothingToDraw, match="2 students: Friedman's test needs at least 3"):
        drawings()["critical_difference"].draw(summarise(second_run))


def test_a_critical_difference_longer_than_the_axis_is_told():
    scores = np.random.default_rng(0).normal(size=(3, 3))
    with style.styled():
        ranking = rank_methods(scores, ["a", "b", "c"])
        (axes,) = draw_ranking(ranking, "Methods").axes
    beyond = ranking.critical_difference > 2
    assert any("more than the axis is long" in text.get_text() for text in axes.texts) == beyond


def test_the_claims_state_what_the_test_examples_add(write_run):
    run = write_run(students=("mlp_64",), failing=frozenset(), test=1_000)
    store_outcomes(run)
    table = difference_table(summarise(run))
    keys = [heading.key for heading in table.headings]
    assert {"both", "mcnemar", "detectable", "p_better"} < set(keys)
    assert any("seeds × examples" in line for line in table.legend)
    console = Console(width=300, file=io.StringIO())
    render(run, console)
    (claim,) = [line for line in console.file.getvalue().splitlines() if "kd(temperature=4) against" in line]
    # the predictions are so made that examples spread no more than seeds let expect
    same = "over seeds and examples the same"
    for part in ("n = 3 seeds × 1,000 examples", same, "McNemar p ", "could show "):
        assert part in claim
    assert any("the examples add no spread that shows" in note for note in table.notes)
    row = next(row for row in compare(run) if row["method"] == "kd(temperature=4)")
    assert row["difference_both_low"] <= row["difference_low"]
    assert len(row["mcnemar_p_by_seed"]) == 3
    assert row["top1_examples_low"] < row["top1"] < row["top1_examples_high"]
    assert row["detectable"] > 0
    assert row["p_better"] == 1


def test_one_seed_says_how_many_trained_models_differ(write_run):
    run = write_run(students=("mlp_64",), seeds=(0,), failing=frozenset(), test=1_000)
    store_outcomes(run)
    console = Console(width=200, file=io.StringIO())
    render(run, console)
    headings = difference_table(summarise(run)).headings
    assert "examples" in {heading.key for heading in headings}
    assert not {"both", "detectable", "p_better"} & {heading.key for heading in headings}
    assert "of 3 models differ from scratch on this test set (McNemar" in console.file.getvalue()


def test_without_predictions_the_columns_go_and_the_reason_stays(synthetic_run):
    table = difference_table(summarise(synthetic_run))
    assert not {"both", "examples", "mcnemar"} & {heading.key for heading in table.headings}
    assert not any("predictions" in note for note in table.notes)
    assert any("the run directory holds no test predictions" in line for line in table.legend)
    assert table.as_rows()[0]["mcnemar_p"] is None
    assert "no test predictions" in table.as_rows()[0]["examples_reason"]


def test_a_report_has_the_differences_from_plain_kd(write_run):
    run = write_run(methods=("scratch", "kd(temperature=4)", "fitnet"))
    content = gather(summarise(run))
    part, table = content.part("over_kd"), content.files["differences_from_kd"]
    assert part.title == "Top-1 accuracy: differences from kd(temperature=4)" and part.blocks == (table,)
    assert {row["method"] for row in table.as_rows()} == {"scratch", "fitnet"}


def test_two_forms_of_kd_or_none_beside_it_make_no_such_table(synthetic_run, write_run):
    assert "differences_from_kd" in gather(summarise(synthetic_run)).absent
    alone = write_run(methods=("scratch", "kd(temperature=4)"))
    assert gather(summarise(alone)).part("over_kd") is None
