"""Names are text wherever they are written: no break ends a table, no HTML begins, no spreadsheet sees a formula."""

import csv
import io

import pandas as pd
import pytest
from report_runs import COLUMNS, DENSE, FASTV, first_wrong, write_run

from sharpv.paths import REPOSITORY
from sharpv.reports.markup import csv_text, fixed, latex_text, markdown_table, markdown_text, text_table
from sharpv.reports.write import write_report

PAPER = REPOSITORY / "results" / "paper"
BREAKS = ["\n", "\r", "\r\n", "\x0b", "\x0c", "\x85", "\u2028", "\u2029"]
EVIL = "<img src=x onerror=alert(1)>"


@pytest.mark.parametrize("broken", BREAKS)
def test_a_line_break_in_a_cell_is_a_space(broken):
    for write in (markdown_table, text_table):
        assert len(write(["a", "b"], [[f"x{broken}y", "1"]]).splitlines()) == 3
    assert markdown_text(f"x{broken}y") == latex_text(f"x{broken}y") == "x y"


def test_html_does_not_begin_and_a_comparison_stays():
    assert markdown_text(f"{EVIL}</td><!-- <?x p <0.001 a<b") == (
        "&lt;img src=x onerror=alert(1)>&lt;/td>&lt;!-- &lt;?x p <0.001 a&lt;b"
    )


def test_what_rounds_to_nothing_has_no_minus():
    assert (fixed(-0.04), fixed(-0.04, sign=True), fixed(-0.05001)) == ("0.0", "+0.0", "-0.1")


@pytest.mark.parametrize("name", ["=HYPERLINK(1)", "+1", "-1+2", "@SUM(A1)", "\t=1"])
def test_a_text_that_begins_like_a_formula_has_an_apostrophe_and_numbers_have_none(name):
    text = csv_text(pd.DataFrame({"method": [name, "plain"], "diff": [-1.5, 2.0]}))
    rows = list(csv.reader(io.StringIO(text)))
    assert rows[1:] == [[f"'{name}", "-1.5"], ["plain", "2"]]


@pytest.mark.parametrize("kind", ["table1", "table2", "table3", "table4", "categories"])
def test_hostile_names_of_methods_models_and_titles_stay_text_in_every_table(kind, tmp_path):
    method = {"method": f"=A1\r\n| {EVIL}"}
    rows = [(DENSE, first_wrong(1)), (FASTV | method, first_wrong(3))]
    run = write_run(tmp_path / "run", rows, display=f"mine\n{EVIL}")
    write_report(kind, [run], tmp_path, PAPER, COLUMNS, f"title\r{EVIL}", name="out")
    text = (tmp_path / "out.md").read_bytes().decode()
    assert "<img" not in text
    assert "\r" not in text
    tables = [part for part in text.split("\n\n") if part.startswith("|")]
    assert tables
    for table in tables:
        assert all(line.startswith("|") and line.endswith("|") for line in table.strip().splitlines())
    assert "=A1" not in [cell[:3] for line in csv.reader((tmp_path / "out.csv").open(newline="")) for cell in line]
