"""A report is about what its experiment asked for, whatever else lies in the same folders, and says what it is not."""

import json

import pytest
from report_runs import COLUMNS, DENSE, FASTV, QUESTIONS, SHARPV, first_wrong, score, write_record, write_run

from sharpv.paths import REPOSITORY
from sharpv.reports.__main__ import main
from sharpv.reports.markup import TIMES
from sharpv.reports.runs import marked
from sharpv.reports.store import load_run, load_runs
from sharpv.reports.terminal import essence
from sharpv.reports.write import write_report

PAPER = REPOSITORY / "results" / "paper"
ALL = [(DENSE, first_wrong(1)), (FASTV, first_wrong(3)), (SHARPV, first_wrong(2))]


def keys(row, questions=QUESTIONS):
    return [f"{row['row']}-0-{task}-{doc}" for _, task, doc, _ in questions]


def asked(*rows, questions=QUESTIONS):
    return [{"row": row["row"], "seed": 0, "settings": "", "keys": keys(row, questions)} for row in rows]


@pytest.fixture
def folder(tmp_path):
    return write_run(tmp_path / "runs" / "shared", ALL)


def test_two_records_of_one_folder_each_report_their_own_rows_and_questions(folder, tmp_path):
    one = write_record(tmp_path / "experiments" / "one.json", {folder: {"asked": asked(DENSE, FASTV)}})
    few = asked(SHARPV, DENSE, questions=QUESTIONS[:4])
    other = write_record(tmp_path / "experiments" / "deep" / "other.json", {folder: {"asked": few}})
    tables = {path: write_report("table3", [path], tmp_path, PAPER, COLUMNS, name=path.stem) for path in (one, other)}
    assert tables[one]["row"].tolist() == ["dense", "fastv"]
    assert tables[one]["n_questions"].tolist() == [36, 36]
    assert set(tables[other]["row"]) == {"dense", "sharpv_adaptive"}
    assert tables[other]["n_questions"].tolist() == [4, 4]
    assert tables[other]["n_missing"].tolist() == [0, 0]


def test_an_answer_or_a_score_that_was_asked_for_and_is_not_there_is_refused(folder, tmp_path, capsys):
    record = write_record(tmp_path / "a.json", {folder: {}}, command="python run.py mine")
    content = (folder / "scores.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (folder / "scores.jsonl").write_text("".join(content[1:]), encoding="utf-8")
    assert main(["table3", str(record), "--output", str(tmp_path)]) == 2
    assert "lacks 1 of 108 answers or scores" in (error := capsys.readouterr().err)
    assert "run its command again: python run.py mine" in error
    assert not list(tmp_path.glob("last_*"))
    (folder / "scores.jsonl").write_text("".join(content), encoding="utf-8")
    gone = write_record(tmp_path / "b.json", {folder: {"asked": [{"row": "x", "seed": 0, "keys": ["gone"]}]}})
    with pytest.raises(ValueError, match="lacks 1 of 1 answers"):
        load_runs([gone])


def test_a_score_of_another_scoring_is_not_taken_for_it(folder, tmp_path):
    lines = [
        json.loads(line) | {"scoring": "judge", "score": 1.0}
        for line in (folder / "scores.jsonl").open(encoding="utf-8")
    ]
    with (folder / "scores.jsonl").open("a", encoding="utf-8") as file:
        file.write("".join(json.dumps(line) + "\n" for line in lines))
    plain, judged = (write_record(tmp_path / f"{way}.json", {folder: {"scoring": way}}) for way in (None, "judge"))
    assert load_runs([plain])[0].answers()["score"].mean() < 1
    assert load_runs([judged])[0].answers()["score"].mean() == 1


def test_records_of_a_sweep_make_one_table(folder, tmp_path):
    records = [
        write_record(tmp_path / f"last_job{number}.json", {folder: {"asked": asked(DENSE, row)}})
        for number, row in enumerate((FASTV, SHARPV))
    ]
    table = write_report("table3", records, tmp_path, PAPER, COLUMNS)
    assert table["row"].tolist() == ["dense", "fastv", "sharpv_adaptive"]


def test_a_folder_that_holds_two_settings_of_a_row_shows_the_one_scored_last(folder):
    lines = [json.loads(line) for line in (folder / "samples.jsonl").open(encoding="utf-8")]
    of_row = [line for line in lines if line["row"] == "fastv"]
    changed = [line | {"key": f"new-{line['key']}", "settings": "new", "vr": 0.5} for line in of_row]
    with (folder / "samples.jsonl").open("a", encoding="utf-8") as file:
        file.write("".join(json.dumps(line) + "\n" for line in changed[:3]))
    with (folder / "scores.jsonl").open("a", encoding="utf-8") as file:
        for line, question in zip(changed[:3], QUESTIONS, strict=False):
            file.write(json.dumps(score(question, "fastv", True) | {"key": line["key"]}) + "\n")
    answers = load_run(folder).answers()
    assert answers[answers["row"] == "fastv"]["vr"].tolist() == [0.5] * 3
    assert len(answers) == 36 + 36 + 3


@pytest.mark.parametrize(
    ("facts", "said", "title"),
    [
        ({}, {}, "T"),
        ({"limit": 2}, {}, "T (at most 2 questions a task)"),
        ({"part": True}, {}, "T (a part of the experiment)"),
        ({"limit": 1}, {"errors": 3}, "T (at most 1 questions a task; INCOMPLETE)"),
    ],
)
def test_the_title_says_what_a_table_is_not(folder, tmp_path, facts, said, title):
    record = write_record(tmp_path / "a.json", {folder: said}, **facts)
    assert marked("T", load_runs([record])) == title
    for kind in ("table1", "table2", "table3", "categories"):
        write_report(kind, [record], tmp_path, PAPER, COLUMNS, "T", name=kind)
        heading = (tmp_path / f"{kind}.md").read_text(encoding="utf-8").splitlines()[0]
        assert heading.endswith(title.removeprefix("T"))


def test_the_settings_of_a_record_are_those_of_its_rows_whatever_run_json_says(folder, tmp_path):
    stages = {"visual": None, "memory": "FastV(keep_ratio=0.3)"}
    record = write_record(tmp_path / "a.json", {folder: {"rows": {"fastv": stages}}})
    write_report("table3", [record], tmp_path, PAPER, COLUMNS)
    assert "FastV(keep_ratio=0.3)" in (tmp_path / "table3.md").read_text(encoding="utf-8")


def test_any_row_can_be_the_reference_of_the_paired_tests(folder, tmp_path):
    table = write_report("table3", [folder], tmp_path, PAPER, COLUMNS, reference="fastv")
    assert "ref_diff" not in table
    text = (tmp_path / "table3.md").read_text(encoding="utf-8")
    section = text[text.index("Against FastV") :].split("\n\n")[1].splitlines()
    assert [line.split("|")[1].strip() for line in section[2:]] == ["Dense", "SharpV (Adaptive)"]
    assert section[2].split("|")[2].strip().startswith("+22.5")
    assert "ref_p_holm" in (tmp_path / "table3.csv").read_text(encoding="utf-8").splitlines()[0]
    with pytest.raises(ValueError, match=r"reference='fast' is no row of Made-up model; there are: dense, fastv"):
        write_report("table3", [folder], tmp_path, PAPER, COLUMNS, reference="fast")


def test_sub_tasks_of_any_run_have_a_table(folder, tmp_path, capsys):
    assert main(["categories", str(folder), "--output", str(tmp_path)]) == 0
    text = (tmp_path / "last_categories.md").read_text(encoding="utf-8")
    assert text.startswith("# Accuracy by sub-task")
    row = next(line for line in text.splitlines() if "action antonym" in line)
    assert [cell.strip().split(" ")[0] for cell in row.split("|")[3:7]] == ["10", "90.0", "70.0", "80.0"]


def test_a_terminal_shows_one_narrow_line_a_row(folder, tmp_path):
    shown = essence(write_report("table3", [folder], tmp_path, PAPER, COLUMNS)).splitlines()
    assert shown[0].split() == f"Made-up model Avg. % Δ dense VR {TIMES} MR %".split()
    assert shown[3].split() == ["FastV", "66.2", "-22.5", "66.7"]
    assert max(map(len, shown)) < 80
