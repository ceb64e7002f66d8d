"""LongVideoBench, MLVU and EgoSchema on fixture data in their own layouts, with the bundled model."""

import json
import shutil

import pandas as pd
import pytest
from golden_cases.llava_onevision import task_of
from hub_home import FIXTURES, run, run_once
from omegaconf import OmegaConf

from sharpv.benchmarks import long, submission, upstream
from sharpv.benchmarks.columns import require_columns
from sharpv.benchmarks.validation import problem
from sharpv.configuration import configure
from sharpv.files import read_jsonl

NAMES = ["mlvu_test", "longvideobench", "mlvu_dev", "egoschema"]
BASES = {
    "longvideobench": "_sharpv_longvideobench_base",
    "mlvu_dev": "_sharpv_mlvu_dev_base",
    "mlvu_test": "_sharpv_mlvu_test_base",
    "egoschema": "sharpv_egoschema",
    "egoschema_full": "sharpv_egoschema_full",
}
FILES = {
    "longvideobench": "longvideobench--LongVideoBench/snapshots/*/validation-*.parquet",
    "mlvu_dev": "sy1998--MLVU_dev/snapshots/*/mlvu/*.parquet",
    "mlvu_test": "sy1998--MLVU_Test/snapshots/*/mlvu_test/*.parquet",
    "egoschema": "lmms-eval--egoschema/snapshots/*/Subset/*.parquet",
    "egoschema_full": "lmms-eval--egoschema/snapshots/*/GENERATION/*.parquet",
}
FAILED = {"longvideobench": 3, "mlvu_dev": 2, "mlvu_test": 2, "egoschema": 2, "egoschema_full": 3}
"""Questions about the missing and the broken video."""


def docs(name):
    found = pd.read_parquet(next((FIXTURES / "hub").glob(f"datasets--{FILES[name]}"))).to_dict("records")
    assert found
    return [{key: None if value is pd.NA else value for key, value in doc.items()} for doc in found]


@pytest.mark.slow
def test_all_are_answered_in_one_table_whose_columns_stand_in_the_order_asked(home, tmp_path):
    asked = [
        f"benchmarks=[{','.join([*NAMES, 'egoschema_full'])}]",
        "rows=[dense,evs]",
        "warm_up=0",
        "memory_every=0",
        "scoring=upstream",
    ]
    ran = run(home, tmp_path, "model=tiny", *asked)
    failed = 2 * sum(FAILED.values())
    assert ran.returncode == 1, ran.stderr
    assert f"INCOMPLETE: {failed} answers failed" in ran.stdout
    stored = [line for path in tmp_path.glob("runs/*/samples*.jsonl") for line in read_jsonl(path)]
    reasons = {line["error"] for line in stored if line["status"] == "error"}
    assert sum(line["status"] == "error" for line in stored) == failed
    assert any("does not exist" in reason for reason in reasons)
    assert any("cannot be read" in reason for reason in reasons)

    table = pd.read_csv(tmp_path / "last.csv")
    assert table[NAMES].notna().all(axis=None)
    assert table["mvbench_acc"].isna().all()
    # Of EgoSchema's full set those with a public answer alone, none here, would count.
    assert table["n_questions"].eq(9 + 8 + 7 + 5).all()
    sent = json.loads((tmp_path / "last_egoschema_full_dense.json").read_text(encoding="utf-8"))
    assert set(sent) < {f"0a-fixture-{number}" for number in (0, 1, 2, 5)} | {"nothing"}
    assert set(sent.values()) <= set(range(5))
    heads = "| MLVU test | LongVideoBench | MLVU dev | EgoSchema | Avg. |"
    assert heads in " ".join((tmp_path / "last.md").read_text(encoding="utf-8").split())
    beside = pd.read_csv(tmp_path / "last_upstream.csv").set_index(["row", "benchmark"])
    assert beside["upstream"].notna().groupby("benchmark").all().to_dict() == {
        **dict.fromkeys(NAMES, True),
        "egoschema_full": False,
    }


@pytest.mark.slow
def test_check_says_where_the_data_of_a_gated_benchmark_is_from_and_plan_knows_all_sizes(home, tmp_path):
    ran = run(home, tmp_path, "check", "model=tiny", "benchmarks=[longvideobench,mlvu_dev]")
    assert "1 of 5 missing (1 questions become errors)" in ran.stdout
    nowhere = run_once(tmp_path, tmp_path, "check", "model=tiny", "benchmark=longvideobench")
    assert "hf auth login && hf download --repo-type dataset longvideobench/LongVideoBench" in nowhere.stdout
    planned = run(home, tmp_path, "plan", "model=llava_ov_7b", f"benchmarks=[{','.join([*NAMES, 'egoschema_full'])}]")
    assert planned.returncode == 0, planned.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "video"),
    [
        ("longvideobench", "datasets/longvideobench/videos/fixture0.mp4"),
        ("mlvu_dev", "mlvu/anomaly_reco_1.mp4"),
        ("egoschema", "egoschema/videos/0a-fixture-0.mp4"),
    ],
)
def test_archives_are_unpacked_to_where_upstream_looks(tmp_path, name, video):
    shutil.copytree(FIXTURES / "hub", tmp_path / "hub")
    ran = run_once(tmp_path, tmp_path / "results", "unpack", f"benchmark={name}")
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / video).read_bytes() == (FIXTURES / video).read_bytes()


THEIRS = {
    "longvideobench": (
        "longvideobench.utils",
        "longvideobench_doc_to_text",
        {"pre_prompt": "", "post_prompt": "Answer with the option's letter from the given choices directly.\n"},
    ),
    "mlvu_dev": ("mlvu.utils", "mlvu_doc_to_text", {"post_prompt": "\nOnly give the best option.\nBest option: ("}),
    # Upstream's own settings of the test set are none; ours are those of dev.
    "mlvu_test": ("mlvu.utils", "mlvu_doc_to_text", {"post_prompt": "\nOnly give the best option.\nBest option: ("}),
    "egoschema": ("egoschema.utils", "egoschema_doc_to_text", None),
    "egoschema_full": ("egoschema.utils", "egoschema_doc_to_text", None),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BASES)
def test_requests_are_upstreams(name):
    module, function, settings = THEIRS[name]
    theirs = getattr(upstream.task_module(f"lmms_eval.tasks.{module}"), function)
    task = task_of(BASES[name])
    for doc in docs(name):
        assert task["doc_to_text"](doc, task["lmms_eval_specific_kwargs"]["default"]) == theirs(doc, settings)


@pytest.mark.parametrize("name", BASES)
def test_pllava_is_asked_in_its_own_form_with_every_option_once(name):
    task = task_of(BASES[name])
    for doc in docs(name):
        text = task["doc_to_text"](doc, task["lmms_eval_specific_kwargs"]["pllava"])
        assert text.count("<video>") == 1
        assert text.count("(A) ") == 1
        assert text.endswith("Best option:(")


def right(name, text, at=0):
    return task_of(BASES[name])["process_results"](docs(name)[at], [text])["accuracy"]


def test_options_are_those_of_the_question_and_na_fills_none():
    counts = [len(long.longvideobench_options(doc)) for doc in docs("longvideobench")]
    assert set(counts) == {3, 4, 5}
    assert {len(long.mlvu_options(doc)) for doc in docs("mlvu_test")} == {6}
    assert long.mlvu_options(docs("mlvu_dev")[0])[:2] == ["1 boats", "2 boats"]
    assert long.egoschema_options(docs("egoschema")[0])[0] == "C cooks."


@pytest.mark.slow
def test_upstream_guesses_where_it_finds_no_option_and_ours_does_not():
    for name in ("longvideobench", "egoschema"):
        doc = docs(name)[0]
        items, _ = upstream.score(name, [doc] * 12, [""] * 12)
        guessed = {item.get("parsed_pred", item.get("pred")) for item in items}
        assert len(guessed) > 1, name
        assert right(name, "") == {**right(name, ""), "score": 0.0, "answered": False, "parsed": ""}


@pytest.mark.slow
def test_upstream_takes_any_capital_letter_of_longvideobench_and_ours_takes_a_letter_that_is_meant():
    doc = docs("longvideobench")[1]
    items, _ = upstream.score("longvideobench", [doc], ["I think it shows Elephants"])
    assert items[0]["parsed_pred"] == "E"
    assert right("longvideobench", "I think it shows Elephants", 1)["answered"] is False


@pytest.mark.slow
def test_upstream_never_counts_the_fifth_and_sixth_option_of_mlvu_and_ours_does():
    doc = docs("mlvu_test")[0]
    assert doc["answer"] == "F"
    items, _ = upstream.score("mlvu_test", [doc], ["F"])
    assert items[0]["pred_answer"] == ""
    assert right("mlvu_test", "F")["score"] == right("mlvu_test", "F) 6 boats")["score"] == 1.0


@pytest.mark.slow
def test_upstream_counts_kinds_of_questions_that_are_not_there_as_0_and_ours_leaves_them_out():
    three = docs("mlvu_dev")[:3]
    _, percent = upstream.score("mlvu_dev", three, [doc["answer"] for doc in three])
    assert percent == pytest.approx(300 / 7)
    assert all(right("mlvu_dev", doc["answer"], at)["score"] == 1.0 for at, doc in enumerate(three))


def test_the_bracket_that_the_prompt_opens_is_closed_by_an_answer():
    assert right("mlvu_dev", "D)")["parsed"] == right("mlvu_dev", "D) 4 boats")["parsed"] == "D"


def test_a_person_called_c_is_an_options_text_and_no_letter():
    assert right("egoschema", "C sleeps somewhere")["answered"] is False
    assert right("egoschema", "C sits.")["parsed"] == "D"
    assert right("egoschema", "C")["parsed"] == "C"


def test_gold_answers_are_read_as_text_or_number_and_only_where_they_are_public():
    public = docs("egoschema")[3]
    assert long.egoschema_target(public) == long.egoschema_target(public | {"answer": 3}) == "D"
    hidden = docs("egoschema_full")[0]
    assert long.egoschema_target(hidden) == submission.UNLABELLED
    assert right("egoschema_full", "A")["score"] == 0.0


def test_gold_answers_that_are_none_of_the_options_are_told():
    dev, val, ego = docs("mlvu_dev")[0], docs("longvideobench")[0], docs("egoschema")[0]
    assert "none of the letters ABCD" in problem(dev | {"answer": "4 boats"})
    assert "none of the numbers 0 to 4" in problem(val | {"correct_choice": -1})
    assert "none of the numbers 0 to 4" in problem(ego | {"answer": "7"})
    assert "holds no lines of options" in problem(dev | {"question": "How many?"})
    assert [problem(doc) for doc in (dev, val, ego)] == [None] * 3


def test_questions_of_an_unknown_kind_are_told_and_not_left_out():
    from datasets import Dataset

    known = Dataset.from_list([{"task_type": "count"}, {"task_type": "ego"}])
    assert long.dev_count(known)["task_type"] == ["count"]
    with pytest.raises(ValueError, match="cooking"):
        long.dev_count(Dataset.from_list([{"task_type": "count"}, {"task_type": "cooking"}]))


def test_questions_about_one_video_are_one_cluster_across_kinds():
    first, second = docs("mlvu_dev")[:2]
    assert first["task_type"] != second["task_type"]
    assert right("mlvu_dev", "A", 0)["video"] == right("mlvu_dev", "A", 1)["video"] == first["video_name"]


def test_videos_are_found_where_upstream_lays_them_and_nowhere_else(home, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(home))
    assert long.egoschema_video({"video_idx": "0a-fixture-1"})[0].endswith("0a-fixture-1.MP4")
    assert long.mlvu_test_video({"video_name": "ego_1.mp4"}) == [str(home / "mlvu_test" / "ego_1.mp4")]
    with pytest.raises(ValueError, match="outside"):
        long.longvideobench_video({"video_path": "../../../secret.mp4"})


def test_a_video_that_is_linked_into_its_folder_from_elsewhere_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    (tmp_path / "blob").write_bytes(b"a video")
    folder = tmp_path / "home" / "mlvu"
    folder.mkdir(parents=True)
    (folder / "1.mp4").symlink_to(tmp_path / "blob")
    assert long.mlvu_dev_video({"video_name": "1.mp4"}) == [str(folder / "1.mp4")]


def test_a_submission_leaves_unread_answers_out_and_has_a_file_a_row(tmp_path):
    lines = [
        {"row": row, "seed": 0, "video": f"v{number}", "parsed": parsed, "task": "t", "doc_id": number}
        for row in ("dense", "evs")
        for number, parsed in enumerate(("A", "", "E"))
    ]
    written = submission.write("egoschema", lines, tmp_path, "tables/mine", "egoschema_full")
    assert [path.name for path in written] == ["mine_egoschema_full_dense.json", "mine_egoschema_full_evs.json"]
    assert json.loads(written[0].read_text(encoding="utf-8")) == {"v0": 0, "v2": 4}
    with pytest.raises(ValueError, match="no form of a submission"):
        submission.write("csv", lines, tmp_path, "mine", "egoschema_full")


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        (["mine"], "give it a heading"),
        ({"mine": "Mine", "more": "More"}, "name one column"),
        ({"mvbench_acc": "Mine"}, "name one column"),
    ],
)
def test_columns_that_no_table_could_print_are_told_before_anything_runs(columns, told):
    with pytest.raises(ValueError, match=told):
        require_columns([OmegaConf.create({"name": "mine", "columns": columns})])


def test_two_benchmarks_do_not_fill_one_column():
    with pytest.raises(ValueError, match="both fill"):
        require_columns([configure.load("benchmark", name) for name in ("mvbench", "tiny_mvbench")])
    require_columns([configure.load("benchmark", name) for name in [*NAMES, "mvbench", "actnetqa"]])
