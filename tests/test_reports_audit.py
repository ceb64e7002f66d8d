"""The audit page is what the published numbers give, and each check sees what it is for."""

import shutil
from itertools import pairwise
from pathlib import Path

import pandas as pd
import pytest

from sharpv.reports.audit.checks import LARGE, SMALL, dycoke_kept, eq5_tflops, load_paper
from sharpv.reports.audit.report import CHECKS, find, write_audit

ROOT = Path(__file__).parents[1]
TABLES = ROOT / "results" / "paper"


def test_the_committed_page_is_the_one_that_the_command_writes(tmp_path):
    write_audit(TABLES, tmp_path / "audit.md")
    assert (tmp_path / "audit.md").read_text(encoding="utf-8") == (ROOT / "docs" / "paper_audit.md").read_text(
        encoding="utf-8"
    )


def test_findings_carry_the_numbers_that_code_and_configurations_refer_to():
    found = [one.number for findings in find(load_paper(TABLES)).values() for one in findings]
    expected = {"A1", "A2", "A3", "A4", "A5", "A6", "A7", "A8", "A9", "A12", "A13", "A14", "A15", "A16"}
    assert set(found) == expected


def altered(tmp_path, file, change):
    shutil.copytree(TABLES, tmp_path / "paper")
    table = pd.read_csv(tmp_path / "paper" / file)
    change(table)
    table.to_csv(tmp_path / "paper" / file, index=False)
    return find(load_paper(tmp_path / "paper"))


def row(table, model, method):
    return table.index[(table["model"] == model) & (table["method"] == method)][0]


def test_a_mended_average_is_found_no_more_and_a_new_slip_is(tmp_path):
    def change(table):
        table.loc[row(table, SMALL, "SharpV (Manual)"), "avg_acc"] = 49.8
        table.loc[row(table, LARGE, "FastV"), "avg_acc"] = 61.0

    where = [one.where for one in altered(tmp_path, "table3.csv", change)["averages are the means of their cells"]]
    assert not any("0.5B, SharpV (Manual)" in place for place in where)
    assert "Table 3, LLaVA-OneVision 7B, FastV" in where


def test_a_copied_row_is_no_longer_found_once_one_number_differs(tmp_path):
    def change(table):
        table.loc[row(table, "LLaVA-OV 7B", "V-Random (dagger)"), "videomme_long"] = 40.0

    assert len(find(load_paper(TABLES))["no two models share a row of VideoMME"]) == 1
    assert altered(tmp_path, "table4.csv", change)["no two models share a row of VideoMME"] == []


@pytest.mark.parametrize(
    ("column", "value", "check"),
    [("token_budget_pct", 25, "token budgets are VR x MR"), ("ttft_speedup", 1.9, "speed-ups are ratios")],
)
def test_checks_that_hold_today_see_a_contradiction(tmp_path, column, value, check):
    def change(table):
        table.loc[row(table, LARGE, "SharpV (Adaptive)"), column] = value

    name = next(name for name in CHECKS if name.startswith(check))
    assert find(load_paper(TABLES))[name] == []
    assert len(altered(tmp_path, "table3.csv", change)[name]) == 1


def test_dycokes_count_is_that_of_a_walk_over_the_frames():
    def walk(frames, tokens, dropped):
        each, kept = int((1 - dropped) * tokens), dict.fromkeys(range(frames), tokens)
        kept |= {after: each for before, after in pairwise(range(frames)) if before % 2 == 0}
        kept |= {frame + 2: each for frame in range(0, frames - 4, 4)}
        return sum(kept.values())

    for frames in (8, 16, 32, 64):
        for dropped in (0.3, 0.5, 0.7):
            assert dycoke_kept(frames, 196, dropped) == walk(frames, 196, dropped)
    assert [dycoke_kept(32, 196, dropped) for dropped in (0.5, 0.7)] == [4018, 3098]


def test_the_formula_gives_the_papers_dense_cell():
    assert eq5_tflops(load_paper(TABLES), LARGE, [6272] * 28) == pytest.approx(41.4, abs=0.05)
