from __future__ import annotations

import itertools
import json
import math
import pkgutil

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from kdbench.analysis.summary import summarise
from kdbench.report import figures, gallery, style
from kdbench.report.captions import seeds, truncation
from kdbench.report.figures import NothingToDraw
from kdbench.report.gallery import save
from kdbench.report.registry import drawings
from kdbench.report.scatter import scatter_json
from kdbench.report.style import label_rows, new_figure, styled

NAMES = tuple(drawings())


@pytest.fixture(scope="module")
def drawn(synthetic_run):
    summary = summarise(synthetic_run)
    with style.styled():
        return {name: (entry.draw(summary), entry.caption(summary)) for name, entry in drawings().items()}


def test_every_module_of_the_package_is_a_figure_in_its_order():
    assert set(NAMES) == {module.name for module in pkgutil.iter_modules(figures.__path__)}
    orders = [entry.order for entry in drawings().values()]
    assert orders == sorted(set(orders)), "a place of its own for each"


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_cut_off_at_the_edges(drawn, name):
    figure, _ = drawn[name]
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw_without_rendering()
    box = figure.get_tightbbox(renderer)
    assert box.x0 > -0.01
    assert box.y0 > -0.01
    assert box.x1 < figure.get_figwidth() + 0.01
    assert box.y1 < figure.get_figheight() + 0.01


@pytest.mark.parametrize("width", [4.0, 6.4, 12.0])
def test_a_long_title_is_broken_and_not_cut(width):
    title = (
        "Validation top-1 accuracy by epoch: students of cnn_32 on fashion-mnist (long tail of factor 100)"
    )
    with styled():
        figure = new_figure(title, width, 4.0)
        figure.draw_without_rendering()
        (text,) = (found for found in figure.texts if found.get_text() == figure.get_suptitle())
        box = text.get_window_extent(FigureCanvasAgg(figure).get_renderer())
    assert box.x0 >= 0 and box.x1 <= figure.bbox.width
    assert figure.get_suptitle().split() == title.split()
    assert ("\n" in figure.get_suptitle()) == (width < 12)


@pytest.mark.parametrize("name", NAMES)
def test_axes_are_labelled_with_units(drawn, name):
    figure, _ = drawn[name]
    labels = [text for axes in figure.axes for text in (axes.get_xlabel(), axes.get_ylabel()) if text]
    without = all(not axes.axison for axes in figure.axes)
    assert without or any(unit in label for label in labels for unit in ("(%)", "(points)"))
    assert figure.get_suptitle().endswith("students of cnn_64 on digits")


@pytest.mark.parametrize("name", ["accuracy_cost", "agreement"])
def test_names_of_students_do_not_overlap(drawn, name):
    figure, _ = drawn[name]
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw_without_rendering()
    named = 0
    for axes in figure.axes:
        boxes = []
        for text in axes.texts:
            text.update_positions(renderer)
            boxes.append(super(type(text), text).get_window_extent(renderer))
        named += len(boxes)
        for index, box in enumerate(boxes):
            assert not any(box.overlaps(other) for other in boxes[index + 1 :])
    assert named >= 5


def test_captions_say_n_whiskers_test_size_and_truncation(drawn):
    captions = {name: caption for name, (_, caption) in drawn.items()}
    assert "n = 2 to 3 seeds, whiskers their 95 % t intervals" in captions["accuracy_cost"]
    assert "The accuracy axis begins at 89 %, not at 0." in captions["accuracy_cost"]
    assert "Test set: 360 examples (one is 0.28 points)." in captions["agreement"]
    assert "both axes begin at 0" in captions["correctness"]
    assert "from the lowest to the highest" in captions["learning_curves"]
    assert "about 36 test examples a class" in captions["class_change"]
    assert "latency_cuda_b1_p50_ms (no CUDA device on this machine)" in captions["accuracy_cost"]


def test_costs_without_a_number_have_no_panel(drawn):
    figure, _ = drawn["accuracy_cost"]
    labels = [axes.get_xlabel() for axes in figure.axes if axes.axison]
    assert len(labels) == 5
    assert not any("CUDA" in label for label in labels)


def test_the_stacked_bars_hold_the_four_shares(drawn):
    figure, _ = drawn["correctness"]
    whole, apart = figure.axes
    widths = [bar.get_width() for bar in whole.patches]
    assert len(widths) == 16 * 4
    assert sum(widths) == pytest.approx(16 * 100)
    assert whole.get_xlim()[0] == apart.get_xlim()[0] == 0
    assert len(apart.patches) == 16 * 3


def test_saving_gives_the_same_sharp_files_twice(write_run):
    summary = summarise(write_run(students=("mlp_64",), methods=("scratch",), epochs=1))
    entry = drawings()["correctness"]
    with style.styled():
        figure = entry.draw(summary)
        first, second = save(figure), save(entry.draw(summary))
    assert set(first) == {"png", "svg", "pdf"}
    assert first == second
    assert first["png"].startswith(b"\x89PNG\r\n\x1a\n")
    assert int.from_bytes(first["png"][16:20], "big") == pytest.approx(200 * figure.get_figwidth(), abs=1)


@pytest.mark.parametrize("name", NAMES)
def test_every_figure_can_be_drawn_of_one_seed_and_one_student_or_says_why_not(write_run, name):
    summary = summarise(write_run(students=("mlp_64",), seeds=(0,), epochs=1))
    entry = drawings()[name]
    try:
        with style.styled():
            assert entry.draw(summary).axes
    except NothingToDraw as reason:
        assert "1 method" in str(reason) or "1 student" in str(reason)
    else:
        assert "n = 1" in entry.caption(summary)


def test_a_large_suite_keeps_the_control_and_the_best_of_each_student(write_run):
    students = [f"{kind}_{width}" for kind in ("cnn", "mlp", "gru") for width in range(8)]
    methods = ("scratch", *(f"kd(temperature={t})" for t in range(1, 9)))
    summary = summarise(
        write_run(students=students, methods=methods, seeds=(0,), epochs=1, failing=frozenset())
    )
    rows, note = style.rows_shown(summary, 64)
    assert len(rows) == 2 * len(students)
    assert "48 of 216 rows" in note
    for name in students:
        kept = [row for row in rows if row.student == name]
        others = [r.mean("top1") for r in summary.students if r.student == name and r.method != "scratch"]
        assert {row.method for row in kept} > {"scratch"}
        assert max(row.mean("top1") for row in kept if row.method != "scratch") == max(others)


def test_a_hundred_classes_have_a_column_and_a_name_each(write_run):
    classes = [f"class_{index:02d}" for index in range(100)]
    summary = summarise(write_run(classes=classes, students=("mlp_64",), epochs=1))
    with style.styled():
        figure = drawings()["class_change"].draw(summary)
    axes = figure.axes[0]
    names = [text.get_text() for text in axes.get_xticklabels()]
    assert sorted(names) == classes
    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw_without_rendering()
    boxes = [text.get_window_extent(renderer) for text in axes.get_xticklabels()]
    assert all(left.x1 <= right.x0 + 1 for left, right in itertools.pairwise(boxes))


def test_curves_fall_back_to_training_where_there_is_no_validation_split(write_run):
    summary = summarise(write_run(validation=0, students=("mlp_64",), methods=("scratch",)))
    entry = drawings()["learning_curves"]
    assert entry.title(summary).startswith("Training top-1")
    assert "no validation split" in entry.caption(summary)
    with style.styled():
        (axes,) = entry.draw(summary).axes
    assert len(axes.lines[0].get_xdata()) == 12


def test_a_figure_without_data_says_what_is_missing(write_run):
    path = write_run(students=("mlp_64",), methods=("scratch",))
    for history in path.glob("*/*/history.csv"):
        history.unlink()
    with pytest.raises(NothingToDraw, match="no student has a learning curve"):
        drawings()["learning_curves"].draw(summarise(path))


def test_styles_tell_many_methods_apart(write_run):
    methods = ("scratch", *(f"m{index}" for index in range(24)))
    run = write_run(students=("mlp_64",), methods=methods, seeds=(0,), epochs=1)
    styles = style.method_styles(summarise(run))
    assert len({(look.color, look.face) for look in styles.values()}) == 25
    assert len({(look.color, look.dashes) for look in styles.values()}) == 25


def test_a_method_and_a_student_look_the_same_in_every_chart(write_run):
    methods = ("scratch", "kd (random teacher)", "kd(temperature=4)", "fitnet")
    path = write_run(
        teachers=("cnn_64", "vgg_13"), methods=methods, seeds=(0,), epochs=1, failing=frozenset()
    )
    for file in path.glob("cells/*/record.json"):
        record = json.loads(file.read_text())
        if record["method"] == "kd (random teacher)":
            record["control_of"] = "kd(temperature=4)"
        # The second teacher has a method and a student fewer.
        absent = "kd" in record["method"] or record["student"] == "mlp_64"
        if record["teacher"] == "vgg_13" and absent:
            file.unlink()
        else:
            file.write_text(json.dumps(record))
    summary = summarise(path)
    _, part = list(summary.without_repeats().by_teacher())[1]
    assert (part.methods, "mlp_64" in part.student_names) == (("scratch", "fitnet"), False)
    looks, markers = style.method_styles(summary), style.kind_markers(summary)
    assert style.method_styles(part) == looks
    assert style.kind_markers(part) == markers
    figure = [handle for handle in style.legend_handles(part, part.rows) if handle.get_label() == "fitnet"]
    assert [handle.get_color() for handle in figure] == [looks["fitnet"].color]
    chart = json.loads(scatter_json(summary))["figure"]["data"]
    drawn = {trace["name"]: trace["marker"]["color"] for trace in chart}
    assert drawn == {"teacher": style.INK} | {
        method: looks[method].color for method in methods if "random" not in method
    }
    assert looks["kd(temperature=4)"].color == style.PALETTE[0]


@pytest.mark.parametrize(
    ("student", "kind"),
    [
        ("mlp_64", "mlp"),
        ("resnet8x4", "resnet"),
        ("mobilenetv2_half", "mobilenet"),
        ("torchvision:resnet18", "resnet"),
        ("nets/tiny.py:make_net", "make"),
        ("wrn_16_1", "wrn"),
        ("8bit", "8bit"),
    ],
)
def test_students_of_one_family_share_a_marker(student, kind):
    assert style.kind_of(student) == kind


def test_a_truncated_axis_is_never_narrower_than_two_points(synthetic_run):
    summary = summarise(synthetic_run)
    (row,) = [r for r in summary.students if (r.model, r.method) == ("mlp_64", "scratch")]
    low, high = style.limits([row], summary.headline_column)
    assert high - low >= 2.0
    assert low <= 100 * row.metrics["top1"].low
    assert (
        truncation(low, summary.headline_column)
        == f"The accuracy axis begins at {math.floor(low + 0.5)} %, not at 0."
    )
    assert truncation(0.0, summary.headline_column) == ""


def test_seeds_are_counted_in_words(write_run):
    assert seeds(summarise(write_run(seeds=(0,), failing=frozenset()))) == "n = 1 seed"


def test_pictures_of_figures_that_are_no_longer_drawn_are_removed(synthetic_run, tmp_path, monkeypatch):
    entry = drawings()["correctness"]
    monkeypatch.setattr(gallery, "FORMATS", {"png": {}, "svg": {}})
    monkeypatch.setattr(gallery, "drawings", lambda: {"correctness": entry})
    for stale in ("correctness-2-gone.png", "correctness-1-gone.svg"):
        (tmp_path / stale).write_text("old")
    (tmp_path / "mine.png").write_text("not ours")
    gallery.make_plates(summarise(synthetic_run), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"correctness.png", "correctness.svg", "mine.png"}


def test_labels_of_rows_that_differ_only_in_the_middle_stay_apart() -> None:
    axes = Figure().subplots()
    names = [f"interpolate(lam=0.{digit},teacher=alongside)" for digit in (1, 5, 9)]
    label_rows(axes, [(0.0, "mlp_128", True), *((float(y), name, False) for y, name in enumerate(names, 1))])
    shown = [text.get_text() for text in axes.get_yticklabels()]
    assert shown[0] == "mlp_128" and len(set(shown)) == 4
