"""Table 4 from a store whose right and wrong answers are known."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from report_runs import COLUMNS, DENSE, QUESTIONS, VISUAL, first_wrong, table4_rows, write_run

from sharpv.reports.comparison import paired, per_question
from sharpv.reports.store import load_run
from sharpv.reports.tables.paper_names import base_method, same_model
from sharpv.reports.tables.table4 import build_table4, write_table4

PAPER = Path(__file__).parents[1] / "results" / "paper" / "table4.csv"


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("table4")
    run = write_run(folder / "run", table4_rows(), paper_name="LLaVA-OneVision 7B")
    return write_table4([run], folder, PAPER, COLUMNS).set_index("method"), folder


def test_cells_are_the_accuracies_of_their_sub_tasks_under_the_papers_letters(written):
    table = written[0]
    assert table.loc["Dense", ["AA", "SC", "avg_mvbench"]].tolist() == pytest.approx([90, 90, 90])
    assert table.loc["Visual SharpV", ["AA", "videomme_short", "videomme_long"]].tolist() == pytest.approx([80, 75, 75])
    assert table.loc["V-Random (dagger)", "AA"] == pytest.approx((70 + 60) / 2)
    assert table.loc["Dense", ["AC", "videomme_medium"]].isna().all()
    assert table.loc["Dense", "AA_low"] < 90 < table.loc["Dense", "AA_high"]


def test_rows_and_columns_stand_as_in_the_paper(written):
    assert list(written[0].index) == ["Dense", "Visual SharpV", "V-Random (dagger)"]
    stored = pd.read_csv(written[1] / "table4.csv")
    assert list(stored.columns)[: len(pd.read_csv(PAPER).columns)] == list(pd.read_csv(PAPER).columns)


def test_differences_are_to_dense_and_to_visual_sharpv_with_their_own_correction(written):
    table = written[0]
    assert table.loc["Visual SharpV", "to_dense_diff"] == pytest.approx(-(10 + 12.5) / 2)
    assert table.loc["V-Random (dagger)", "to_visual_diff"] == pytest.approx(-(15 + 18.75) / 2)
    assert table.loc["Dense", "to_visual_diff"] == pytest.approx((10 + 12.5) / 2)
    assert np.isnan(table.loc["Dense", "to_dense_diff"])
    assert np.isnan(table.loc["Visual SharpV", "to_visual_diff"])
    for other in ("dense", "visual"):
        raw, corrected = table[f"to_{other}_p_sign_flip"].dropna(), table[f"to_{other}_holm"].dropna()
        assert sorted(corrected) == pytest.approx(sorted([min(1, raw.min() * 2), max(raw.max(), raw.min() * 2)]))
    assert table.loc["Visual SharpV", "to_dense_p_mcnemar"] == pytest.approx(2 * 0.5**4)
    assert np.isnan(table.loc["V-Random (dagger)", "to_dense_p_mcnemar"])


def test_the_papers_numbers_and_the_gap_stand_beside_ours(written):
    table = written[0]
    assert table.loc["Visual SharpV", ["paper_avg_mvbench", "gap_avg_mvbench"]].tolist() == pytest.approx([58.2, 21.8])
    text = (written[1] / "table4.md").read_text(encoding="utf-8")
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    place = next(index for index, line in enumerate(lines) if line[0] == "AA")
    assert lines[place][1].startswith("90.0 [")
    assert lines[place + 1] == ["*(paper)*", "*78*", "*81*", "*79.5*"]
    assert "PLLaVA 7B, LLaVA-OV 0.5B" in text
    assert "the mean over the 2 sub-tasks that the runs hold" in text
    assert "docs/paper_audit.md" in text


def test_latex_is_balanced_and_plain(written):
    text = (written[1] / "table4.tex").read_text(encoding="utf-8")
    assert text.isascii()
    assert re.findall(r"\\begin{(\w+\*?)}", text)[::2] == ["table*"] * 2
    bare = re.sub(r"\\[{}]", "", text)
    assert bare.count("{") == bare.count("}")
    for table in text.split(r"\begin{tabular}")[1:]:
        rows = [line for line in table.splitlines() if line.endswith(r"\\")]
        assert len({len(re.findall(r"(?<!\\)&", row)) for row in rows}) == 1
    assert r"\itshape (paper)" in text


def test_another_model_keeps_its_own_sub_tasks_and_no_paper_stands_beside_it(tmp_path):
    questions = [
        ("tiny_mvbench", f"tiny_mvbench_{kind}", doc, f"{kind}{doc}") for kind in ("hue", "size") for doc in range(5)
    ]
    questions += [("tiny_videomme", "tiny_videomme", doc, f"v{doc}") for doc in range(5)]
    rows = [(DENSE, first_wrong(1)), (VISUAL, first_wrong(2))]
    run = write_run(tmp_path / "run", rows, questions=questions)
    columns = {"mvbench_acc": "tiny_mvbench", "videomme_wo": "tiny_videomme", "nextqa_mc": "tiny_nextqa"}
    table = write_table4([run], tmp_path, PAPER, columns).set_index("method")
    assert table.loc["Visual SharpV", ["hue", "size", "avg_mvbench", "avg_videomme"]].tolist() == pytest.approx(
        [60] * 4
    )
    text = (tmp_path / "table4.md").read_text(encoding="utf-8")
    assert "(paper)" not in text
    assert "| AA" not in text
    assert "none of the paper's models" in text
    assert "tiny_videomme is one task in these runs, so there is no split by video length" in text


def test_a_missing_row_or_an_unfinished_run_is_said_and_never_filled(tmp_path):
    run = write_run(tmp_path / "run", [(DENSE, first_wrong(1)), table4_rows()[1]], status="incomplete")
    table = write_table4([run], tmp_path, PAPER, COLUMNS)
    assert table["to_visual_diff"].isna().all()
    text = (tmp_path / "table4.md").read_text(encoding="utf-8")
    assert "INCOMPLETE RUN run" in text
    assert "no row named Visual SharpV was run" in text


def test_without_both_benchmarks_the_way_out_is_named(tmp_path):
    run = load_run(write_run(tmp_path / "run", table4_rows()))
    with pytest.raises(ValueError, match="must map one of"):
        build_table4([run], pd.read_csv(PAPER), {"nextqa_mc": "tiny_nextqa"})


def test_paired_is_the_difference_of_macro_averages(tmp_path):
    answers = load_run(write_run(tmp_path / "run", table4_rows())).answers().assign(stratum=lambda a: a["task"])
    ours, dense = (per_question(answers[answers["row"] == row]) for row in ("visual_sharpv", "dense"))
    found = paired(ours, dense, one_seed=True)
    assert found["diff"] == pytest.approx(-(10 + 12.5) / 2)
    assert found["diff_low"] <= found["diff"] <= found["diff_high"]
    assert paired(ours, dense.iloc[:0], one_seed=True) == {}


def test_the_papers_names_of_one_model_and_method_meet():
    assert same_model("LLaVA-OneVision 7B", "LLaVA-OV 7B")
    assert same_model("LLaVAOV-0.5B", "LLaVA-OneVision 0.5B")
    assert same_model("PLLaVA-7B", "PLLaVA 7B")
    assert not same_model("LLaVA-OV 7B", "PLLaVA 7B")
    assert base_method("DyCoke (K=0.5)") == "DyCoke"
    assert len(QUESTIONS) == 36
