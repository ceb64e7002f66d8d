"""Pages of several runs: one a model."""

import json

import pytest
from page_runs import Elements, unpacked, write_run

from sharpv.reports.page.build import write_page, write_pages


def test_runs_of_one_model_make_one_page_and_of_two_models_none(tmp_path):
    write_run(tmp_path / "a", 4, 2)
    write_run(tmp_path / "b", 4, 2, first=4)
    write_page([tmp_path / "a", tmp_path / "b"], tmp_path / "page.html", tmp_path, tmp_path)
    index = unpacked(Elements((tmp_path / "page.html").read_text(encoding="utf-8")).data["index"])
    assert index["doc"] == list(range(8))
    assert [run["folder"] for run in index["runs"]] == ["a", "b"]
    info = json.loads((tmp_path / "b" / "run.json").read_text(encoding="utf-8"))
    (tmp_path / "b" / "run.json").write_text(
        json.dumps(info | {"model": info["model"] | {"name": "other"}}), encoding="utf-8"
    )
    with pytest.raises(ValueError, match=r"one model, these runs are of \['other', 'tiny'\]"):
        write_page([tmp_path / "a", tmp_path / "b"], tmp_path / "page.html", tmp_path, tmp_path)


def test_runs_of_two_models_make_two_pages_with_figures_of_their_own(tmp_path):
    for name, model in (("a", "small"), ("b", "large")):
        write_run(tmp_path / name, 4, 2)
        info = json.loads((tmp_path / name / "run.json").read_text(encoding="utf-8"))
        (tmp_path / name / "run.json").write_text(
            json.dumps(info | {"model": info["model"] | {"name": model}}), encoding="utf-8"
        )
    pages = write_pages([tmp_path / "a", tmp_path / "b"], tmp_path / "report.html", tmp_path)
    assert pages == {
        tmp_path / "report_small.html": [tmp_path / "a"],
        tmp_path / "report_large.html": [tmp_path / "b"],
    }
    for page in pages:
        drawn = {
            figure["name"] for figure in unpacked(Elements(page.read_text(encoding="utf-8")).data["index"])["figures"]
        }
        assert {"budget", "efficiency"} <= drawn
