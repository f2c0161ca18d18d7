from __future__ import annotations

import csv
import json
import re
import shutil
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kdbench.analysis.summary import summarise
from kdbench.cli import app
from kdbench.errors import UserError
from kdbench.report import gallery, write_report
from kdbench.report.answer import answer
from kdbench.report.registry import drawings


class Loads(HTMLParser):
    """Collects what a page loads, and its texts by element."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.tags: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        values = dict(attributes)
        if tag in {"script", "link", "img", "iframe", "source", "video", "object", "embed"}:
            self.sources += [values[key] for key in ("src", "href", "srcset", "data") if values.get(key)]


@pytest.fixture(scope="module")
def report(synthetic_run, tmp_path_factory) -> Path:
    """The complete report of the ordinary run, written beside it, with coarse pictures."""
    run = tmp_path_factory.mktemp("page") / "run"
    shutil.copytree(synthetic_run, run)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gallery, "DPI", 20)
        page = write_report(run)
    assert page == run / "report" / "index.html"
    return page.parent


@pytest.fixture
def one_figure(monkeypatch):
    """Draw one figure, coarsely: these tests are about the words and the files."""
    kept = {name: entry for name, entry in drawings().items() if name == "learning_curves"}
    monkeypatch.setattr(gallery, "drawings", lambda: kept)
    monkeypatch.setattr(gallery, "FORMATS", {"png": {}, "svg": {"Date": None}})
    monkeypatch.setattr(gallery, "DPI", 20)


def test_the_report_has_all_its_files(report):
    names = {path.relative_to(report).as_posix() for path in report.rglob("*") if path.is_file()}
    assert names == {
        "index.html",
        "report.md",
        "summary.csv",
        *(f"{table}.{suffix}" for table in ("results", "differences", "ranks") for suffix in ("csv", "tex")),
        *(f"figures/{name}.{suffix}" for name in drawings() for suffix in ("png", "svg", "pdf")),
    }


def test_the_page_loads_nothing_from_elsewhere(report):
    page = (report / "index.html").read_text()
    loads = Loads(page)
    assert len(loads.sources) == len(drawings())
    assert all(source.startswith("data:image/svg+xml;base64,") for source in loads.sources)
    assert "link" not in loads.tags
    styles = "".join(re.findall(r"<style>(.*?)</style>", page, flags=re.DOTALL))
    assert styles
    assert "url(" not in styles
    assert "@import" not in styles


def test_the_page_has_one_plotly_and_a_chart_of_every_cost(report):
    page = (report / "index.html").read_text()
    assert page.count("plotly.js v") == 1
    (text,) = re.findall(r'<script type="application/json" id="chart-data">(.*?)</script>', page)
    chart = json.loads(text)
    assert [cost["name"] for cost in chart["costs"]] == [
        "latency_cpu_b1_p50_ms",
        "latency_cpu_b256_p50_ms",
        "params",
        "macs",
        "size_bytes",
    ]
    traces = chart["figure"]["data"]
    assert [trace["name"] for trace in traces] == [
        "teacher",
        "scratch",
        "kd(temperature=1)",
        "kd(temperature=4)",
        "fitnet",
    ]
    for cost in chart["costs"]:
        assert [len(x) for x in cost["x"]] == [len(trace["y"]) for trace in traces]


def test_the_page_tells_what_the_run_was(report):
    page = (report / "index.html").read_text()
    for text in (
        "How to read this",
        "no difference shown",
        "loss is not finite at epoch 3 (nan)",
        "no CUDA device on this machine",
        "it is the teacher",
        "Example CPU &lt;8 cores&gt;",
        "sha256:00ff",
        "2.11.0",
        "360 test",
    ):
        assert text in page


def test_tables_of_the_page_can_be_sorted(report):
    page = (report / "index.html").read_text()
    table = page[page.index('<table class="sortable">') : page.index("</table>")]
    assert table.count("<button") == table.count("<th ")
    assert '<tr class="teacher">' in table
    keys = re.findall(r'data-sort="(0\.9\d+)"', table)
    assert len(keys) >= 17


def test_the_markdown_links_pictures_that_are_there(report):
    text = (report / "report.md").read_text()
    links = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text)
    assert len(links) == len(drawings())
    assert all((report / link).is_file() for link in links)
    assert "| mlp\\_64 | kd(temperature=4) | 3 | 96.5 ± 0.3 | +1.3 ▲ |" in text
    assert "**seeds**: 0, 1, 2" in text


def test_the_tables_are_written_with_raw_numbers(report):
    with (report / "differences.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12
    assert {row["verdict"] for row in rows} == {"better", "worse", "no difference shown"}
    assert all(float(row["p"]) <= float(row["p_holm"]) for row in rows)
    with (report / "summary.csv").open() as file:
        columns = next(csv.reader(file))
    assert {"top1", "top1_sd", "top1_low", "top1_high", "top1_n", "nll_best_val"} <= set(columns)


def test_page_and_document_open_with_the_answer(report, synthetic_run):
    sentences = answer(summarise(synthetic_run))
    page = unescape((report / "index.html").read_text()).replace("\u00a0", " ")
    document = re.sub(r"\\(.)", r"\1", (report / "report.md").read_text())
    for text, headings in (
        (page, ("<h2>Results", "<h2>How to read this")),
        (document, ("## Results", "## How")),
    ):
        places = [text.index(part) for part in (*sentences, *headings)]
        assert places == sorted(places)


def test_a_lean_page_links_its_figures_and_has_no_library(write_run, one_figure):
    run = write_run(students=("mlp_64",), methods=("scratch", "fitnet"), epochs=1)
    result = CliRunner().invoke(app, ["report", str(run), "--page", "lean"], catch_exceptions=False)
    assert result.exit_code == 0
    index = run / "report" / "index.html"
    page = index.read_text()
    assert len(page) < 100_000
    assert Loads(page).sources == ["figures/learning_curves.svg"]
    assert (index.parent / "figures" / "learning_curves.svg").is_file()
    assert "plotly" not in page.lower()
    assert "By its mean, the most accurate of 2 rows" in page


def test_names_cannot_become_markup(write_run, one_figure, tmp_path):
    evil = "</script><img src=x onerror=alert(1)>"
    path = write_run(students=(evil,), methods=("scratch", evil), epochs=1, failing=frozenset())
    page = write_report(path, tmp_path / "elsewhere").read_text()
    loads = Loads(page)
    assert all(source.startswith("data:") for source in loads.sources)
    assert "<img src=x" not in page
    assert loads.tags.count("script") == 4


def test_the_report_can_be_written_elsewhere_and_again(write_run, one_figure, tmp_path):
    run = write_run(students=("mlp_64",), methods=("scratch", "fitnet"), epochs=1)
    out = tmp_path / "a" / "b"
    first = write_report(run, out).read_bytes()
    assert not (run / "report").exists()
    assert write_report(run, out).read_bytes() == first


def test_a_folder_that_cannot_be_written_is_one_line(write_run, one_figure, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        write_report(
            write_run(students=("mlp_64",), methods=("scratch",), epochs=1), tmp_path / "file" / "out"
        )


def test_one_seed_gives_a_report_without_intervals(write_run, one_figure):
    page = write_report(write_run(seeds=(0,), students=("mlp_64", "cnn_4"), epochs=2))
    text = page.with_name("report.md").read_text()
    assert "There is one seed: no interval and no test is possible" in text
    assert "not tested" in text
    assert "n = 1" in text
    assert "±0" not in text
    assert not re.search(r"\bnan\b", text)


def test_a_run_in_which_everything_failed_gives_a_report_of_failures(write_run, one_figure):
    page = write_report(write_run(everything_fails=True))
    text = page.with_name("report.md").read_text()
    assert "No student finished: there is nothing to compare." in text
    assert text.count("loss is not finite at epoch 3 \\(nan\\)") + text.count("epoch 3 (nan)") >= 49
    assert "no student of cnn\\_64 has finished" in text
    assert "chart-data" not in page.read_text()
    assert not (page.parent / "figures").exists()


def test_a_run_without_validation_and_with_missing_cells_says_so(write_run, one_figure):
    page = write_report(write_run(validation=0, students=("mlp_64",), unfinished=2))
    text = page.with_name("report.md").read_text()
    assert "2 records of the plan are missing" in text
    assert "Training top-1 accuracy by epoch" in text


def test_every_teacher_has_figures_of_its_own(write_run, one_figure):
    page = write_report(write_run(teachers=("cnn_64", "vgg_13"), students=("mlp_64",), epochs=1))
    names = {path.name for path in (page.parent / "figures").glob("*.svg")}
    assert names == {"learning_curves-1-cnn_64.svg", "learning_curves-2-vgg_13.svg"}
    assert "are each a single trained teacher" in page.read_text()


def test_records_of_another_machine_are_reported(write_run, one_figure):
    run = write_run(students=("mlp_64",), methods=("scratch",), epochs=1)
    for path in (run / "cells").glob("*/record.json"):
        record = json.loads(path.read_text())
        record["provenance"] |= {"machine": {"cpu": "Other CPU"}, "device": "cuda"}
        path.write_text(json.dumps(record))
    text = write_report(run).with_name("report.md").read_text()
    assert "3 of 4 records come from another machine" in text
    assert "Records differ in device: cpu, cuda." in text
