"""The paper's numbers stand beside the paper's checkpoints on the paper's benchmarks, and beside nothing else."""

import json

import pandas as pd
import pytest
from report_runs import COLUMNS, DENSE, FASTV, QUESTIONS, VISUAL, first_wrong, write_run

from sharpv.configuration import configure
from sharpv.paths import REPOSITORY
from sharpv.reports.page.build import write_page
from sharpv.reports.tables.paper_names import BENCHMARKS, CHECKPOINTS, of_paper, published_beside
from sharpv.reports.tables.table2 import write_table2
from sharpv.reports.tables.table3 import write_table3
from sharpv.reports.tables.table4 import write_table4

PAPER = REPOSITORY / "results" / "paper"
NAME = "LLaVA-OneVision 7B"
ROWS = [(DENSE, first_wrong(1)), (FASTV, first_wrong(3)), (VISUAL, first_wrong(2))]
TINY = {"mvbench_acc": "tiny_mvbench", "videomme_wo": "tiny_videomme"}
OWN = {COLUMNS[column]: TINY[column] for column in COLUMNS}
TINY_QUESTIONS = [(OWN[benchmark], *question) for benchmark, *question in QUESTIONS]


def written(tmp_path, columns=COLUMNS, questions=QUESTIONS, **model):
    """All texts of the tables and the page of a run whose model is the paper's but for what is given."""
    run = write_run(tmp_path / "run", ROWS, paper_name=NAME, questions=questions)
    info = json.loads((run / "run.json").read_text(encoding="utf-8"))
    info["model"] |= model
    (run / "run.json").write_text(json.dumps(info), encoding="utf-8")
    write_table2([run], tmp_path, PAPER / "table2_models.csv")
    write_table3([run], tmp_path, PAPER / "table3.csv", columns)
    write_table4([run], tmp_path, PAPER / "table4.csv", columns)
    write_page([run], tmp_path / "page.html", tmp_path, tmp_path)
    return {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir() if path.is_file()}


def test_the_papers_checkpoint_on_its_benchmarks_has_the_papers_rows(tmp_path):
    texts = written(tmp_path)
    assert all("(paper)" in texts[f"table{number}.{end}"] for number in (2, 3, 4) for end in ("md", "tex"))
    assert f"<title>{NAME} " in texts["page.html"]


@pytest.mark.parametrize(
    ("model", "shown"),
    [
        ({"path": "/home/me/finetuned"}, f"{NAME} from /home/me/finetuned"),
        ({"path": "/home/me/finetuned", "display": "Mine7"}, "Mine7"),
        ({"display": "Mine7"}, "Mine7"),
        ({"path": CHECKPOINTS["LLaVA-OneVision 0.5B"]}, f"{NAME} from {CHECKPOINTS['LLaVA-OneVision 0.5B']}"),
    ],
)
def test_a_users_own_model_has_its_own_name_and_no_number_of_the_paper(tmp_path, model, shown):
    texts = written(tmp_path, **model)
    for number in (2, 3, 4):
        text = texts[f"table{number}.md"]
        assert shown in text
        assert "(paper)" not in text + texts[f"table{number}.tex"]
        assert "is none of the paper's models" in text
    assert "Against the paper" not in texts["table3.md"]
    assert pd.read_csv(tmp_path / "table3.csv")["gap_to_paper"].isna().all()
    assert f"<title>{shown} " in texts["page.html"]


def test_the_tiny_benchmarks_have_no_number_of_the_paper_whatever_the_model(tmp_path):
    texts = written(tmp_path, TINY, TINY_QUESTIONS)
    for number in (3, 4):
        assert "(paper)" not in texts[f"table{number}.md"] + texts[f"table{number}.tex"]
        assert f"{NAME}: these are not the paper's benchmarks" in texts[f"table{number}.md"]
    assert "(paper)" in texts["table2.md"]
    assert pd.read_csv(tmp_path / "table3.csv")[["paper_avg_acc", "gap_to_paper"]].isna().all(axis=None)


def test_a_table_has_only_the_columns_asked_for_unless_the_papers_rows_stand_in_it(tmp_path):
    one = {"videomme_wo": TINY["videomme_wo"]}
    alone = written(tmp_path / "own", one, [question for question in TINY_QUESTIONS if question[0] == "tiny_videomme"])
    assert "| Method " in alone["table3.md"]
    assert "VideoMME" in alone["table3.md"]
    assert not [text for name, text in alone.items() if name.startswith("table3.") and "NExT-QA" in text]
    beside = written(tmp_path / "paper", {"videomme_wo": COLUMNS["videomme_wo"]})
    assert all("NExT-QA" in beside[f"table3.{end}"] for end in ("md", "tex"))


def test_the_configured_models_and_benchmarks_of_the_paper_are_those(tmp_path):
    for name in ("llava_ov_0_5b", "llava_ov_7b", "pllava_7b"):
        assert of_paper(configure.load("model", name))
    columns = {}
    for name in ("mvbench", "videomme", "nextqa", "actnetqa"):
        benchmark = configure.load("benchmark", name)
        columns |= dict.fromkeys(benchmark.columns, benchmark.task)
    assert columns == BENCHMARKS
    paper = pd.read_csv(PAPER / "table3.csv")
    model = configure.load("model", "llava_ov_7b")
    assert set(published_beside(paper, [model], columns)["model"]) == {NAME}
