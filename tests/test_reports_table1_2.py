"""Tables 1 and 2: the paper's marks beside what a store shows."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from report_runs import DAGGER, DENSE, FASTV, FRAMES, LAYERS, QUESTIONS, SHARPV, WIDTH, first_wrong, sample, write_run

from sharpv.reports.store import load_run
from sharpv.reports.tables.table1 import build_table1, write_table1
from sharpv.reports.tables.table2 import build_table2, write_table2

PAPER = Path(__file__).parents[1] / "results" / "paper"
RIGHT = first_wrong(0)


def adaptive_run(folder, **options):
    """SharpV keeps more of odd videos and drops other layers there."""
    run = write_run(folder, [(DENSE, RIGHT), (SHARPV, RIGHT), (FASTV, RIGHT), (DAGGER, RIGHT)], **options)
    lines = (run / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    for index, question in enumerate(QUESTIONS, start=len(QUESTIONS)):
        if question[2] % 2:
            lines[index] = pd.Series(sample(question, **SHARPV | {"kept": 20, "held": (20, 0, 0, 0)})).to_json()
    (run / "samples.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return run


@pytest.fixture(scope="module")
def table1(tmp_path_factory):
    folder = tmp_path_factory.mktemp("table1")
    return write_table1([adaptive_run(folder / "run")], folder, PAPER / "table1_methods.csv").set_index("row"), folder


def test_adaptation_shows_in_what_the_answers_kept(table1):
    ours, fastv = table1[0].loc["sharpv_adaptive"], table1[0].loc["fastv"]
    assert ours["vr_low_pct"] < ours["vr_pct"] < ours["vr_high_pct"]
    assert fastv[["vr_low_pct", "vr_high_pct", "frame_spread_pct"]].tolist() == pytest.approx([100, 100, 0])
    assert ours["frame_spread_pct"] > 5
    assert [ours["layer_sets"], fastv["layer_sets"]] == [2, 1]
    assert fastv["kv_held_pct"] == pytest.approx(100 * (36 + 36 + 12 + 12) / 4 / 36)
    assert ours["prune_of_prefill_pct"] == pytest.approx(4)
    assert ours["attention"] == "sdpa"


def test_the_papers_marks_stand_beside_and_controls_do_not(table1):
    ours = table1[0].loc["sharpv_adaptive"]
    assert [ours["paper_pre_llm_adaptive_ratio"], ours["paper_intra_llm_flash_attention"]] == ["yes", "yes"]
    assert table1[0].loc["fastv", "paper_intra_llm_flash_attention"] == "no"
    assert "random_frame" not in table1[0].index
    text = (table1[1] / "table1.md").read_text(encoding="utf-8")
    before, inside = text.split("inside the language model", 1)
    assert "| SharpV (Adaptive)" in before
    assert "| FastV" not in before
    assert "| FastV" in inside
    assert "not in these runs: DivPrune, DyCoke" in text
    assert (table1[1] / "table1.tex").read_text(encoding="utf-8").count(r"\begin{tabular}") == 2


def test_an_unfinished_run_is_shouted(tmp_path):
    write_table1([adaptive_run(tmp_path / "run", status="incomplete")], tmp_path, PAPER / "table1_methods.csv")
    assert "> **INCOMPLETE RUN run" in (tmp_path / "table1.md").read_text(encoding="utf-8")


def test_a_run_of_dense_alone_has_no_table_1(tmp_path):
    run = load_run(write_run(tmp_path / "run", [(DENSE, RIGHT)]))
    with pytest.raises(ValueError, match="experiment=table1"):
        build_table1([run], pd.read_csv(PAPER / "table1_methods.csv"))


def test_the_specification_is_counted_in_the_answers_and_the_width_follows_from_their_operations(tmp_path):
    run = write_run(tmp_path / "run", [(DENSE, RIGHT)], paper_name="LLaVA-OneVision 7B")
    line = write_table2([run], tmp_path, PAPER / "table2_models.csv").iloc[0]
    assert line[["dimension", "layers", "tokens_per_frame", "frames"]].tolist() == [WIDTH, LAYERS, 9, FRAMES]
    assert line[["paper_dimension", "paper_layers"]].tolist() == [3584, 28]
    text = (tmp_path / "table2.md").read_text(encoding="utf-8")
    assert "*(paper)*" in text
    assert "dimension is 64, the paper prints 3584" in text
    assert "not in these runs: PLLaVA-7B, LLaVAOV-0.5B" in text


def test_prompts_of_one_length_give_no_width_and_the_note_says_so(tmp_path):
    run = write_run(tmp_path / "run", [(DENSE | {"prompt_tokens": 20}, RIGHT)])
    line = write_table2([run], tmp_path, PAPER / "table2_models.csv").iloc[0]
    assert np.isnan(line["dimension"])
    assert np.isnan(line["paper_layers"])
    text = (tmp_path / "table2.md").read_text(encoding="utf-8")
    assert "no dimension" in text
    assert "none of the paper's models" in text


def test_a_run_without_dense_has_no_table_2(tmp_path):
    run = load_run(write_run(tmp_path / "run", [(SHARPV, RIGHT)]))
    with pytest.raises(ValueError, match="no dense answer"):
        build_table2([run], pd.read_csv(PAPER / "table2_models.csv"))
