"""The released benchmarks on fixture data in their own layouts, with small checkpoints of both model families."""

import json
import re
import shutil
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
from checkpoints import TOWER, write_internvl, write_llava_onevision, write_llava_video, write_pllava, write_qwen
from hub_home import FIXTURES, run

from sharpv.benchmarks import released, upstream
from sharpv.configuration import configure
from sharpv.reports.store import read_jsonl

BENCHMARKS = "benchmarks=[mvbench,videomme,nextqa,actnetqa]"
ROWS = ["dense", "sharpv_adaptive", "fastv", "dycoke_k05"]
REVISION = "a" * 40
"""A commit of the hub, by which a snapshot's folder is named."""
UNREADABLE = 2 + 2
"""Questions of the missing VideoMME video and of the broken NExT-QA one."""


def family(name, folder):
    if name == "pllava_7b":
        write_pllava(folder)
        return ["model=pllava_7b", f"model.path={folder}", "model.dtype=float32"]
    if name.startswith("qwen"):
        write_qwen(folder, name[:-3])
        sizes = ["model.frames=16", "++model.min_pixels=2304", "++model.max_pixels=2304"]
        return [f"model={name}", f"model.path={folder}", "model.dtype=float32", *sizes]
    if name == "internvl3_8b":
        write_internvl(folder)
        return [f"model={name}", f"model.path={folder}", "model.dtype=float32", "model.frames=8"]
    if name == "llava_video_7b":
        write_llava_video(folder)
        tower = ",".join(f"{field}:{value}" for field, value in TOWER.items())
        small = ["model.frames=8", "model.dtype=float32", "model.stop_tokens=['<|im_end|>']"]
        return [f"model={name}", f"model.path={folder}", f"++model.tower={{{tower}}}", *small]
    write_llava_onevision(folder)
    return ["model=llava_ov_7b", f"model.path={folder}", "model.frames=8", "model.dtype=float32"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llava_ov_7b", "pllava_7b"])
def test_four_benchmarks_run_and_unreadable_videos_are_error_rows(home, tmp_path, name):
    arguments = [*family(name, tmp_path / "weights"), BENCHMARKS, f"rows=[{','.join(ROWS)}]", "warm_up=0"]
    ran = run(home, tmp_path, *arguments, "scoring=upstream")
    failed = UNREADABLE * len(ROWS)
    assert ran.returncode == 1, ran.stderr
    assert f"INCOMPLETE: {failed} answers failed" in ran.stdout
    assert "sharpv_mvbench_fine_grained_pose: n/a" in ran.stdout
    assert "fixture4.mp4" in ran.stdout
    assert re.search(r"on (mvbench|nextqa): .*mp4.*; all in .*runs", ran.stdout)

    stored = [line for path in tmp_path.glob("runs/*/samples*.jsonl") for line in read_jsonl(path)]
    reasons = {line["error"] for line in stored if line["status"] == "error"}
    assert sum(line["status"] == "error" for line in stored) == failed
    assert any("does not exist" in reason for reason in reasons)
    assert any("cannot be read" in reason for reason in reasons)
    assert {line["row"] for line in stored if line["status"] == "ok" and line["token_budget"] < 1} >= set(ROWS[1:])

    table = pd.read_csv(tmp_path / "last.csv")
    assert len(table) == len(ROWS)
    assert table["n_questions"].eq(38 + 10 + 6 + 4).all()
    beside = pd.read_csv(tmp_path / "last_upstream.csv").set_index(["row", "benchmark"])
    assert beside["upstream"].notna().groupby("benchmark").all().to_dict() == {
        "mvbench": True,
        "videomme": True,
        "nextqa": True,
        "actnetqa": False,
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llava_video_7b", "qwen2_5_vl_7b", "qwen3_vl_8b", "internvl3_8b"])
def test_the_newer_families_answer_two_benchmarks(home, tmp_path, name):
    rows = ["dense", "sharpv_adaptive", "fastv", "dycoke_k05", "vidcom2"]
    arguments = [*family(name, tmp_path / "weights"), "benchmarks=[videomme,nextqa]", f"rows=[{','.join(rows)}]"]
    ran = run(home, tmp_path, *arguments, "warm_up=0")
    stored = [line for path in tmp_path.glob("runs/*/samples*.jsonl") for line in read_jsonl(path)]
    assert ran.returncode == 1, ran.stderr
    assert f"INCOMPLETE: {UNREADABLE * len(rows)} answers failed" in ran.stdout, {line["error"] for line in stored}
    answered = [line for line in stored if line["status"] == "ok"]
    assert {line["row"] for line in answered if line["token_budget"] < 1} == set(rows[1:])
    assert all(line["flops"]["exact_vision"] > 0 for line in answered)
    # The fixtures have 8 frames, which are 4 pairs for Qwen.
    frames = 4 if name.startswith("qwen") else 8
    assert {(line["frames"], *line["grid"]) for line in answered} == {(frames, 6, 6)}


@pytest.fixture
def downloaded(home):
    """Small checkpoints of all three models where the hub puts theirs."""
    for name in ("llava_ov_0_5b", "llava_ov_7b", "pllava_7b"):
        root = home / "hub" / f"models--{configure.load('model', name).path.replace('/', '--')}"
        snapshot = root / "snapshots" / REVISION
        (root / "refs").mkdir(parents=True)
        (root / "refs" / "main").write_text(REVISION, encoding="utf-8")
        (write_pllava if name == "pllava_7b" else write_llava_onevision)(snapshot)
    yield home
    for root in (home / "hub").glob("models--*"):
        shutil.rmtree(root)


@pytest.mark.slow
def test_table_4_of_the_paper_runs_on_checkpoints_and_data_where_the_hub_puts_them(downloaded, tmp_path):
    quick = ["limit=1", "warm_up=0", "memory_every=0"]
    ran = run(downloaded, tmp_path, "experiment=table4", "profile=paper", *quick)
    assert "INCOMPLETE" not in ran.stdout
    assert ran.returncode == 0, ran.stderr
    table = pd.read_csv(tmp_path / "table4_partial.csv")
    models = ["LLaVA-OneVision 0.5B", "LLaVA-OneVision 7B", "PLLaVA 7B"]
    assert table.groupby("model")["method"].count().to_dict() == dict.fromkeys(models, 4)
    text = (tmp_path / "table4_partial.md").read_text(encoding="utf-8")
    assert "the mean over the 19 sub-tasks that the runs hold" in text


@pytest.mark.slow
def test_table_3_of_the_paper_runs_unchanged_too(downloaded, tmp_path):
    """One model, and without MVBench, whose 19 sub-tasks a test of Table 4 runs."""
    part = ["of_profile.paper_models=[llava_ov_7b]", "of_profile.paper_benchmarks=[videomme,nextqa,actnetqa]"]
    ran = run(downloaded, tmp_path, "experiment=table3", "profile=paper", *part, "limit=1", "warm_up=0")
    assert ran.returncode == 0, ran.stderr
    table = pd.read_csv(tmp_path / "table3_partial.csv")
    assert table.groupby("model")["method"].count().to_dict() == {"LLaVA-OneVision 7B": 14}
    assert table[["videomme_wo", "nextqa_mc", "actnetqa_acc", "actnetqa_score", "paper_avg_acc"]].notna().any().all()
    assert "actnetqa: answers scored by containment of the right answer" in (tmp_path / "table3_partial.md").read_text(
        encoding="utf-8"
    )


@pytest.mark.slow
def test_check_names_what_is_missing_and_what_is_there(home, tmp_path):
    ran = run(home, tmp_path, "check", "model=llava_ov_7b", "benchmarks=[videomme,nextqa]")
    assert ran.returncode == 1
    assert "hf download llava-hf/llava-onevision-qwen2-7b-ov-hf" in ran.stdout
    assert "1 of 5 missing (2 questions become errors)" in ran.stdout
    assert [
        Path(line).exists() for line in (tmp_path / "missing" / "videomme.txt").read_text(encoding="utf-8").splitlines()
    ] == [False]
    assert "ok       videos of nextqa: all 3, 6 questions" in ran.stdout
    ready = run(home, tmp_path, "check", "model=tiny", "benchmark=nextqa")
    assert (ready.returncode, ready.stdout.splitlines()[-1]) == (0, "a run can start")


def docs(benchmark):
    files = {
        "mvbench": "OpenGVLab--MVBench/snapshots/*/json/action_antonym.json",
        "videomme": "lmms-eval--Video-MME/snapshots/*/videomme/*.parquet",
        "nextqa": "lmms-eval--NExTQA/snapshots/*/MC/*.parquet",
        "actnetqa": "lmms-eval--ActivityNetQA/snapshots/*/data/*.parquet",
    }
    path = next((FIXTURES / "hub").glob(f"datasets--{files[benchmark]}"))
    if path.suffix == ".json":
        return json.loads(path.read_text(encoding="utf-8"))
    return pd.read_parquet(path).to_dict("records")


ASKED = {
    "mvbench": ("mvbench.utils", "mvbench_doc_to_text", {"post_prompt": "Only give the best option.\n"}),
    "videomme": (
        "videomme.utils",
        "videomme_doc_to_text",
        {"pre_prompt": "", "post_prompt": "\nAnswer with the option's letter from the given choices directly."},
    ),
    "nextqa": ("nextqa.utils", "nextqa_doc_to_text_mc", None),
    "actnetqa": (
        "activitynetqa.utils",
        "activitynetqa_doc_to_text",
        {"pre_prompt": "", "post_prompt": " Answer the question using a single word or phrase."},
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("benchmark", ASKED)
def test_requests_are_upstreams(benchmark):
    from golden_cases.llava_onevision import task_of

    module, function, settings = ASKED[benchmark]
    theirs = getattr(upstream.task_module(f"lmms_eval.tasks.{module}"), function)
    names = {"mvbench": "sharpv_mvbench_action_antonym", "videomme": "sharpv_videomme_long"}
    task = task_of(names.get(benchmark, f"sharpv_{benchmark}"))
    found = docs(benchmark)
    assert found
    for doc in found:
        assert task["doc_to_text"](doc, task["lmms_eval_specific_kwargs"]["default"]) == theirs(doc, settings)


def test_mvbench_folders_are_upstreams():
    from golden_cases.llava_onevision import task_of
    from lmms_eval.tasks.mvbench.utils import DATA_LIST

    for name, folder in DATA_LIST.items():
        task = task_of(f"sharpv_mvbench_{name}")
        assert {settings["folder"] for settings in task["lmms_eval_specific_kwargs"].values()} == {folder}
    assert len(task_of("sharpv_mvbench")["task"]) == len(DATA_LIST) == 20


def test_upstream_leaves_empty_answers_out_and_ours_counts_them():
    doc = docs("mvbench")[0]
    _, percent = upstream.score("mvbench", [doc] * 4, ["(B)", "", "", ""])
    assert percent == 100
    from sharpv.benchmarks.scoring import mvbench_results

    assert sum(mvbench_results(doc, [text])["accuracy"]["score"] for text in ["(B)", "", "", ""]) == 1


def test_upstream_has_no_offline_score_of_open_answers():
    with pytest.raises(ValueError, match="actnetqa.*there are: mvbench, videomme, nextqa"):
        upstream.score("actnetqa", [], [])


def test_videos_are_found_where_upstream_lays_them(home, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(home))
    assert released.videomme_video({"videoID": "fixture0"}) == [str(home / "videomme" / "data" / "fixture0.mp4")]
    assert released.nextqa_video({"video": 4010069381})[0].endswith("NExTVideo/4010069381.mp4")
    settings = {"folder": "tvqa/video_fps3_hq_segment"}
    assert Path(released.mvbench_video({"video": "clip_episodic_reasoning"}, settings)[0]).is_dir()


@pytest.mark.slow
def test_an_edited_answer_is_scored_anew_and_a_broken_one_is_an_error_row(home, tmp_path, request):
    path = next((home / "hub").glob("datasets--lmms-eval--NExTQA/snapshots/*/MC/*.parquet"))
    request.addfinalizer(partial(path.write_bytes, path.read_bytes()))
    arguments = [
        *family("llava_ov_7b", tmp_path / "weights"),
        "benchmark=nextqa",
        "rows=[dense]",
        "warm_up=0",
        "memory_every=0",
    ]
    checked = run(home, tmp_path / "results", "check", *arguments)
    assert checked.returncode == 0, checked.stdout
    run(home, tmp_path / "results", *arguments)
    rows = pd.read_parquet(path)
    answers = rows["answer"].tolist()
    rows.assign(answer=[(answers[0] + 1) % 5, 7, *answers[2:]]).to_parquet(path)
    ran = run(home, tmp_path / "results", *arguments)
    assert "1 of 6 questions become error rows; the first: sharpv_nextqa question 1: answer 7 is none" in ran.stdout
    scores = {
        line["doc_id"]: line for path in tmp_path.glob("results/runs/*/scores.jsonl") for line in read_jsonl(path)
    }
    assert scores[0]["gold"] == "ABCDE"[(answers[0] + 1) % 5]
    stored = [line for path in tmp_path.glob("results/runs/*/samples*.jsonl") for line in read_jsonl(path)]
    reasons = [line["error"] for line in stored if line["doc_id"] == 1 and line["status"] == "error"]
    assert reasons == ["sharpv_nextqa question 1: answer 7 is none of the numbers 0 to 4"]
    seen = next(line for line in stored if line["status"] == "ok")
    assert (seen["video_path"][:17], len(seen["frame_places"]), seen["decode_errors"]) == ("nextqa/NExTVideo/", 8, 0)
