"""Figures from a made-up store: the numbers they draw, labels clear of each other, reasons for what is left out."""

import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest
from matplotlib.text import Text
from report_runs import COLUMNS, DAGGER, DENSE, FASTV, LAYERS, MATCHED, SHARPV, TOTAL, first_wrong, write_run

from sharpv.reports.figures import ablation, budget, cache_map, efficiency, labels, similarity, strips
from sharpv.reports.figures.build import write_figures
from sharpv.reports.figures.film_strip import film_strip
from sharpv.reports.figures.style import VERMILION, colour, new_figure, paper_style
from sharpv.reports.store import load_run
from sharpv.reports.tables.table3 import build_table3

PAPER_CSV = Path(__file__).parents[1] / "results" / "paper" / "table3.csv"
PAPER = pd.read_csv(PAPER_CSV)
ROWS = [
    (DENSE, first_wrong(1)),
    (FASTV, first_wrong(3)),
    (SHARPV, first_wrong(2)),
    (MATCHED, first_wrong(4)),
    *((DAGGER | {"seed": seed}, first_wrong(5)) for seed in range(2)),
]


def point(label, value_of, wrong):
    return {"row": label, "method": f"SharpV ({label})", "kind": "method", **value_of}, first_wrong(wrong)


ABLATION = [
    (DENSE, first_wrong(1)),
    point("M = 0.0", {"kept": 12}, 2),
    point("M = 0.2", {"kept": 12, "held": (12, 12, 0, 0)}, 2),
    point("K = 1.6", {"kept": 8}, 4),
    point("K = 0.8", {"kept": 20}, 3),
]


def write_video(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=4)
        stream.width = stream.height = 48
        for level in range(8):
            frame = av.VideoFrame.from_ndarray(np.full((48, 48, 3), 20 * level + 60, dtype=np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return load_run(write_run(tmp_path_factory.mktemp("run") / "run", ROWS))


@pytest.fixture(scope="module")
def table(run):
    return build_table3([run], PAPER, COLUMNS)


@pytest.fixture(autouse=True)
def _style():
    with paper_style():
        yield


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def test_every_method_is_named_at_its_place_in_the_picture_of_budgets(table):
    figure = budget.budget_figure(table)
    assert {"FastV", "SharpV (Adaptive)", "DyCoke (matched 30%)", "V-Random (dagger)"} <= set(texts(figure))
    drawn = sorted(tuple(bar[0].get_xydata()[0]) for bar in figure.axes[0].containers)
    expected = table[table["kind"] != "dense"][["token_budget_pct", "avg_acc"]]
    assert np.array(drawn) == pytest.approx(np.array(sorted(map(tuple, expected.to_numpy()))))


def test_without_intervals_the_picture_of_budgets_names_dense_and_promises_none(table):
    whole = budget.budget_figure(table)
    bare = budget.budget_figure(table.assign(avg_acc_low=np.nan, avg_acc_high=np.nan))
    (dense,) = [text for text in bare.axes[0].texts if text.get_text().startswith("Dense")]
    assert dense.get_text() == f"Dense {dense.get_position()[1]:.1f}"
    titles = [figure.axes[0].get_title("left") for figure in (whole, bare)]
    assert ["intervals" in title for title in titles] == [True, False]


def test_labels_of_crowded_points_do_not_overlap():
    figure = new_figure(5, 4)
    axes = figure.add_subplot()
    places = [(0.5 + 0.01 * index, 0.5 + 0.008 * (index % 3)) for index in range(8)]
    axes.plot(*zip(*places, strict=True), "o")
    axes.set(xlim=(0, 1), ylim=(0, 1))
    labels.label_points(axes, places, [f"method number {index}" for index in range(8)], ["black"] * 8)
    figure.draw_without_rendering()
    boxes = [Text.get_window_extent(text) for text in axes.texts]
    overlaps = [one.overlaps(other) for index, one in enumerate(boxes) for other in boxes[:index]]
    assert not any(overlaps)
    assert all(axes.bbox.contains(box.x0, box.y0) and axes.bbox.contains(box.x1, box.y1) for box in boxes)


def test_spread_moves_only_what_is_too_close():
    assert labels.spread([0.9, 0.1, 0.12], 0.1) == pytest.approx([0.9, 0.06, 0.16])
    assert labels.spread([3.0, 1.0, 2.0], 0.5) == [3.0, 1.0, 2.0]


def test_the_front_holds_what_nothing_cheaper_beats():
    rows = pd.DataFrame({"token_budget_pct": [10, 20, 30, 30], "avg_acc": [50, 40, 60, 70], "row": list("abcd")})
    assert list(budget.best_so_far(rows)["row"]) == ["a", "d"]


def test_costs_are_ratios_to_dense_on_the_same_question(run):
    ratios = efficiency.relative_to_dense(run.samples, "ttft_s")
    assert ratios.loc["dense"].tolist() == pytest.approx([1, 1, 1])
    assert ratios.loc["sharpv_adaptive", "middle"] == pytest.approx((0.2 + 0.2 * 12 / TOTAL) / 0.4)
    memory = efficiency.relative_to_dense(run.samples, "memory.peak_bytes")
    assert memory.loc["random_frame", "middle"] == pytest.approx((1 + 12 / TOTAL) / 2)


def test_a_cost_that_was_not_measured_is_said(run, table):
    bare = run.samples.assign(**{"memory.peak_bytes": None})
    figure = efficiency.efficiency_figure(bare, table, PAPER)
    assert texts(figure).count("not measured") == 1
    assert any("vision alone" in text for text in texts(figure))


def test_the_papers_ratio_stands_beside_ours_for_a_model_of_the_paper(run, table):
    ours = table.assign(model="LLaVA-OneVision 7B")
    panels = efficiency.efficiency_figure(run.samples, ours, PAPER).axes
    diamonds = [line.get_xdata()[0] for line in panels[0].lines if line.get_marker() == "D"]
    assert diamonds == pytest.approx([0.81 / 1.05, 0.64 / 1.05])
    assert not [line for line in panels[1].lines if line.get_marker() == "D"]


def test_the_heat_map_holds_the_share_of_dense_per_layer(run, table):
    ours = run.samples[run.samples["row"] == "sharpv_adaptive"]
    assert cache_map.held_per_layer(ours) == pytest.approx([1 / 3, 1 / 3, 0, 0])
    image = np.asarray(cache_map.cache_figure(run.samples, table).axes[0].images[0].get_array())
    assert image.shape == (len(table), LAYERS)
    assert image[list(table["row"]).index("fastv")] == pytest.approx([100, 100, 100 / 3, 100 / 3])


def test_cosines_are_averaged_per_kind_and_a_layer_without_one_is_left_out(run):
    figure = similarity.similarity_figure(run.samples, "Made-up model")
    lines = {line.get_color(): line.get_ydata() for line in figure.axes[0].lines if len(line.get_ydata()) == LAYERS}
    assert lines[similarity.TOKENS["visual"][1]] == pytest.approx([1.0, 0.8, 0.6, 0.5])
    assert {"Visual", "System", "Instruction"} <= set(texts(figure))
    with pytest.raises(ValueError, match="holds cosines"):
        similarity.similarity_figure(run.samples[run.samples["kind"] != "dense"], "Made-up model")


def test_ablation_points_are_read_from_the_methods_names_and_sorted(tmp_path):
    table = build_table3([load_run(write_run(tmp_path / "run", ABLATION))], PAPER, COLUMNS)
    points = ablation.ablation_points(table)
    assert points[["parameter", "value"]].to_numpy().tolist() == [["K", 0.8], ["K", 1.6], ["M", 0.0], ["M", 0.2]]
    assert points["ttft_pct"].iloc[1] == pytest.approx(100 * (0.2 + 0.2 * 8 / TOTAL) / 0.4)
    figure = ablation.ablation_figure(table)
    assert [axes.get_xlabel()[:2] for axes in figure.axes[2:]] == ["M,", "K,"]


def test_colours_tell_kinds_apart_and_sharpv_from_all():
    assert colour("method", "SharpV (Manual)") == VERMILION
    assert len({colour(kind, "x") for kind in ("dense", "method", "budget-matched", "control")} | {VERMILION}) == 5


def test_all_figures_are_written_and_the_others_named_with_the_reason(run, tmp_path):
    task, number = strips.choose_question(run.answers())
    write_video(tmp_path / "videos" / "deep" / "a9.mp4")
    written, left_out = write_figures(
        [run.folder], tmp_path, PAPER_CSV, tmp_path / "videos", ("sharpv_mvbench_action_antonym", 9)
    )
    names = {path.stem for path in written}
    assert names == {"film_strip", "similarity", "efficiency", "budget", "cache", "loss"}
    assert {path.suffix for path in written} == {".svg", ".png"}
    assert all(path.stat().st_size > 5000 for path in written)
    assert len(left_out) == 1
    assert "experiment=fig5" in left_out[0]
    assert run.scores[(run.scores["task"] == task) & (run.scores["doc_id"] == number)].iloc[0]["score"] == 1


def test_a_row_matched_to_a_budget_is_enough_for_a_strip(tmp_path):
    run = load_run(write_run(tmp_path / "run", [(DENSE, first_wrong(1)), (MATCHED, first_wrong(3))]))
    task, number = strips.choose_question(run.answers())
    video = run.answers().query("task == @task and doc_id == @number")["video"].iloc[0]
    write_video(tmp_path / video)
    assert "DyCoke" in " ".join(texts(strips.stored_strip(run.answers(), tmp_path, ["matched"], (task, number))))


def test_a_video_that_is_not_there_costs_only_its_strip(run, tmp_path):
    written, left_out = write_figures([run.folder], tmp_path, PAPER_CSV, tmp_path / "nowhere")
    assert "film_strip" not in {path.stem for path in written}
    assert any("pass --videos" in reason for reason in left_out)


def test_the_strip_shows_the_rows_asked_for_with_their_answers(run, tmp_path):
    write_video(tmp_path / "a1.mp4")
    question = ("sharpv_mvbench_action_antonym", 1)
    rows = ["random_frame", "sharpv_adaptive"]
    figure = strips.stored_strip(run.answers(), tmp_path, rows, question, rows)
    found = texts(figure)
    assert "V-Random (dagger)" in found
    assert any("wrong: B" in text for text in found)
    assert figure.texts[0].get_text() == "What is 1?  Right answer: A"
    with pytest.raises(ValueError, match="rows \\['nothing'\\] have no answer"):
        strips.stored_strip(run.answers(), tmp_path, rows, question, ["nothing"])
    with pytest.raises(ValueError, match="no answer to tiny/1"):
        strips.stored_strip(run.answers(), tmp_path, rows, ("tiny", 1))


def test_long_names_and_answers_stay_beside_the_strip():
    frames_THWC, kept_Thw = np.zeros((2, 8, 8, 3), np.uint8), np.ones((2, 2, 2), bool)
    name = "SharpV (Adaptive), positions not re-encoded"
    answer = "wrong: a person is riding a bicycle along the river"
    figure = film_strip(frames_THWC, {name: kept_Thw}, captions={name: answer})
    figure.draw_without_rendering()
    inside = [text.get_window_extent() for axes in figure.axes for text in axes.texts]
    assert min(box.x0 for box in inside) >= figure.bbox.x0
    assert any("wrong: a person" in text and text.endswith("…") for text in texts(figure))


def test_rows_of_a_sweep_are_left_to_the_ablation(run, tmp_path):
    sweep = [(SHARPV | {"row": f"k_{k}", "method": f"Visual SharpV (K = {k})"}, first_wrong(3)) for k in (1.2, 1.6)]
    swept = write_run(tmp_path / "run", [(DENSE, first_wrong(1)), *sweep])
    written, left_out = write_figures([swept], tmp_path / "figures", PAPER_CSV, tmp_path)
    assert "ablation" in {path.stem for path in written}
    assert any(reason.startswith("budget: only ['Dense']") for reason in left_out)


def test_the_heat_maps_title_stands_clear_of_its_column_names(run, table):
    figure = cache_map.cache_figure(run.answers(), table)
    figure.draw_without_rendering()
    axes = figure.axes[0]
    title = axes._left_title.get_window_extent()
    heads = [text.get_window_extent() for text in axes.texts if text.get_text() in ("held", "read")]
    assert len(heads) == 2
    assert not any(title.overlaps(head) for head in heads)


def test_figures_bring_in_no_torch():
    code = "import sys, sharpv.reports.figures.build, sharpv.reports.write, sharpv.reports.audit.report\n"
    code += "print([m for m in sys.argv[1:] if m in sys.modules])"
    command = [sys.executable, "-c", code, "torch", "transformers", "lmms_eval", "hydra"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "[]"
