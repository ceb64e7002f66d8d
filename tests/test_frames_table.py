"""More frames at the budget of few: the grid of models, their rows, and the table that compares them with one dense."""

import pandas as pd
import pytest
from hydra import compose, initialize_config_dir
from report_runs import COLUMNS, DENSE, first_wrong, write_record, write_run

from sharpv.configuration import configure
from sharpv.paths import REPOSITORY
from sharpv.reports.figures.build import write_figures
from sharpv.reports.tables.frames import _off_budget
from sharpv.reports.write import write_report

PAPER = REPOSITORY / "results" / "paper"
EVS = {"row": "evs@0.5", "method": "EVS @50%", "kind": "method", "kept": 18}


@pytest.fixture(scope="module", autouse=True)
def _hydra():
    configure.register_resolvers()
    with initialize_config_dir(str(configure.CONFIGS), version_base="1.3"):
        yield


def rows_by_model(*overrides):
    config = compose("config", [*overrides])
    return {
        model.name: [row.name for row in configure.table_rows(config, model)[0]] for model in configure.models(config)
    }


def test_each_model_stands_at_each_number_of_frames_with_the_rows_at_the_budget_of_the_fewest():
    assert rows_by_model("model=tiny", "frames=[16,8,32]", "rows=[dense,evs]", "dense_frames=16") == {
        "tiny@16": ["dense", "evs@0.5"],
        "tiny@8": ["dense"],
        "tiny@32": ["evs@0.25"],
    }
    assert rows_by_model("model=tiny", "rows=[dense,evs]") == {"tiny": ["dense", "evs"]}


def test_rows_at_more_frames_are_compared_with_dense_at_the_fewest(tmp_path):
    few = write_run(tmp_path / "few", [(DENSE, first_wrong(2))])
    many = write_run(tmp_path / "many", [(DENSE, first_wrong(1)), (EVS, first_wrong(0))])
    told = {
        folder: {"model": {"name": f"made_up@{frames}", "display": f"M, {frames} frames", "frames": frames}}
        for folder, frames in ((few, 4), (many, 8))
    }
    for one in told.values():
        one["model"] |= {"paper_name": None, "path": "somewhere"}
    table = write_report("frames", [write_record(tmp_path / "a.json", told)], tmp_path, PAPER, COLUMNS)
    assert table[["method", "frames", "kind"]].values.tolist() == [
        ["Dense", 4, "dense"],
        ["EVS", 8, "method"],
        ["Dense", 8, "control"],
    ]
    assert set(table["model"]) == {"M"}
    assert (table["diff_to_dense"].iloc[1:] > 0).all()
    assert table["tokens_fed"].tolist() == [36, 18, 36]
    assert table["tower_pct"].iloc[0] == pytest.approx(50)
    assert table["tower_pct"].iloc[1] > 50
    assert "| EVS " in (tmp_path / "frames.md").read_text(encoding="utf-8")
    written, left_out = write_figures([tmp_path / "a.json"], tmp_path / "pictures", PAPER / "table3.csv", tmp_path)
    assert [path.name for path in written] == ["frames.svg", "frames.png"]
    assert not left_out


def test_runs_that_do_not_say_their_frames_are_refused(tmp_path):
    folder = write_run(tmp_path / "few", [(DENSE, first_wrong(2))])
    with pytest.raises(ValueError, match="experiment=frames"):
        write_report("frames", [write_record(tmp_path / "a.json", {folder: {}})], tmp_path, PAPER, COLUMNS)


def test_rows_that_miss_the_budget_by_more_than_a_tenth_are_told():
    lines = [("Dense", "dense", 8, 1.0), ("EVS", "method", 16, 1.05), ("HoliTom", "method", 16, 0.44)]
    lines += [("Dense", "control", 16, 2.5), ("FlashVID", "method", 16, 1.19)]
    table = pd.DataFrame(lines, columns=["method", "kind", "frames", "tflops"]).assign(model="M")
    (told,) = _off_budget(table)
    assert told.startswith("M: TFLOPs of HoliTom at 16 frames 44%, FlashVID at 16 frames 119% of those of dense")
    assert _off_budget(table.iloc[:2]) == []
