"""Table 3 from a synthetic store whose right and wrong answers are known beforehand."""

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sharpv.reports.store import load_run, read_jsonl
from sharpv.reports.tables import paper_names
from sharpv.reports.tables.table3 import write_table3

PAPER_CSV = Path(__file__).parents[1] / "results" / "paper" / "table3.csv"
TINY = {
    "mvbench_acc": "tiny_mvbench",
    "videomme_wo": "tiny_videomme",
    "nextqa_mc": "tiny_nextqa",
    "actnetqa_acc": "tiny_actnetqa",
    "actnetqa_score": "tiny_actnetqa",
}
COLOUR, COUNT = "tiny_mvbench_colour", "tiny_mvbench_count"
QUESTIONS = [
    *(("tiny_mvbench", COLOUR, doc, f"c{doc}.mp4") for doc in range(30)),
    *(("tiny_mvbench", COUNT, doc, f"n{doc}.mp4") for doc in range(10)),
    *(("tiny_videomme", "tiny_videomme", doc, f"v{doc // 3}.mp4") for doc in range(30)),
    *(("tiny_nextqa", "tiny_nextqa", doc, f"v{doc // 2}.mp4") for doc in range(20)),
    *(("tiny_actnetqa", "tiny_actnetqa", doc, f"a{doc // 5}.mp4") for doc in range(40)),
]
DENSE = {"row": "dense", "method": "Dense", "kind": "dense"}
SHARPV = {"row": "sharpv_adaptive", "method": "SharpV (Adaptive)", "kind": "method", "vr": 0.32, "mr": 0.4, "ttft": 0.3}
FASTV = {"row": "fastv", "method": "FastV", "kind": "method", "vr": 1.0, "mr": 0.375, "ttft": 0.4}
DAGGER = {"row": "random_frame", "method": "V-Random (dagger)", "kind": "control", "vr": 0.32, "mr": 0.4, "ttft": 0.3}
MATCHED = {
    "row": "divprune_32",
    "method": "DivPrune (32%)",
    "kind": "budget-matched",
    "vr": 0.32,
    "mr": 1.0,
    "ttft": 0.35,
}


def sample(question, row, method, kind, seed=0, vr=1.0, mr=1.0, ttft=0.5):
    benchmark, task, doc_id, video = question
    after_layer = 0.3 if method == "FastV" else None
    identity = {"row": row, "seed": seed, "benchmark": benchmark, "task": task, "doc_id": doc_id, "video": video}
    shown = {"schema": 1, "key": f"{row}-{seed}-{task}-{doc_id}", "status": "ok", "error": None, "model": "tiny"}
    text = {"method": method, "kind": kind, "prompt": "?", "raw": "A", "gold": "A", "grid": [6, 6], "frames": 8}
    tokens = {"visual_dense": 288, "visual_kept": round(288 * vr), "kept_bits": "", "kept_per_frame": [vr] * 8}
    ratios = {"vr": vr, "vr_requested": None, "mr": mr, "mr_after_layer": after_layer, "kv_held": mr}
    layers = {key: [] for key in ("visual_rows", "visual_kv", "cosine_visual", "cosine_system", "cosine_instruction")}
    flops = {"eq5_prefill": 2e9 * vr, "exact_vision": 5e8, "exact_prefill": 3e9 * vr, "exact_decode": 1e7}
    stages = ("decode_video", "preprocess", "prefill", "first_token", "decode")
    times = dict.fromkeys(stages, 0.01) | {"vision": 0.25, "prune": 0.0 if kind == "dense" else 0.004}
    memory = dict.fromkeys(("weights_bytes", "above_weights_bytes", "kv_bytes"), 1000)
    rest = {"token_budget": vr * mr, "prompt_tokens": 320, "output_tokens": 2, "ttft_s": ttft, "tpot_s": 0.02}
    memory["peak_bytes"] = 60_000_000 + doc_id
    nested = {"layers": layers, "flops": flops, "times_s": times, "memory": memory}
    return identity | shown | text | tokens | ratios | rest | nested


def failed(question, row, method, kind, seed=0, **_):
    whole = sample(question, row, method, kind, seed)
    kept = ("schema", "key", "model", "row", "seed", "method", "kind", "benchmark", "task", "doc_id", "video")
    return {name: whole[name] for name in kept} | {"status": "error", "error": "decoder: moov atom\nnot found"}


def score(question, row, right, seed=0, answered=True):
    benchmark, task, doc_id, video = question
    judge = (5.0 if right else 1.0) if benchmark == "tiny_actnetqa" else None
    identity = {"row": row, "seed": seed, "benchmark": benchmark, "task": task, "doc_id": doc_id, "video": video}
    return identity | {"score": float(right), "judge_score": judge, "answered": answered, "parsed": "A", "gold": "A"}


def wrong(*shares):
    """Wrong answers: the first `share` documents of colour, count, videomme, nextqa and actnetqa."""
    limits = dict(zip((COLOUR, COUNT, "tiny_videomme", "tiny_nextqa", "tiny_actnetqa"), shares, strict=True))
    return lambda question: question[2] >= limits[question[1]]


def write_run(folder, rows, paper_name=None, status="complete", versions=None, display="Tiny LLaVA-OV", facts=None):
    """`rows`: (row settings, question -> right, or None for a sample that fails, questions)."""
    folder.mkdir(parents=True)
    model = {"name": "tiny", "paper_name": paper_name, "display": paper_name or display}
    model["path"] = paper_names.CHECKPOINTS.get(paper_name, "somewhere")
    info = {"schema": 1, "model": model, "status": status}
    info |= {"versions": versions or {"lmms_eval": "0.7.3"}, "hardware": {"device": "cpu", "cores": 2}}
    info |= {"command": "python run.py", "created": "2026-11-21"} | (facts or {})
    (folder / "run.json").write_text(json.dumps(info), encoding="utf-8")
    samples, scores = [], []
    for settings, right, *questions in rows:
        for question in questions[0] if questions else QUESTIONS:
            answer = right(question)
            samples.append((failed if answer is None else sample)(question, **settings))
            if answer is not None:
                scores.append(score(question, settings["row"], answer, settings.get("seed", 0)))
    (folder / "samples.jsonl").write_text("".join(json.dumps(line) + "\n" for line in samples), encoding="utf-8")
    (folder / "scores.jsonl").write_text("".join(json.dumps(line) + "\n" for line in scores), encoding="utf-8")
    return folder


def full_run(folder, **options):
    dagger = [(DAGGER | {"seed": seed}, wrong(6 + 3 * seed, 3, 9, 6, 12)) for seed in range(3)]
    rows = [(DENSE, wrong(3, 2, 3, 2, 4)), *dagger, (MATCHED, wrong(4, 2, 4, 3, 6))]
    rows += [(SHARPV, wrong(3, 3, 3, 2, 8)), (FASTV, wrong(9, 4, 6, 5, 10))]
    return write_run(folder, rows, **options)


@pytest.fixture
def written(tmp_path):
    table = write_table3([full_run(tmp_path / "run")], tmp_path / "results", PAPER_CSV, TINY)
    return table.set_index("row"), tmp_path / "results"


def test_the_csv_has_the_papers_columns_first_and_rows_in_the_papers_order(written):
    with (written[1] / "table3.csv").open(encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    with PAPER_CSV.open(encoding="utf-8") as file:
        papers = next(csv.reader(file))
    assert list(lines[0])[: len(papers)] == papers
    methods = ["Dense", "FastV", "SharpV (Adaptive)", "DivPrune (32%)", "V-Random (dagger)"]
    assert [line["method"] for line in lines] == methods
    assert {line["model"] for line in lines} == {"Tiny LLaVA-OV"}
    assert float(lines[0]["mvbench_acc"]) == pytest.approx(85)
    assert lines[0]["diff_to_dense"] == ""
    assert lines[0]["vr_requested"] == ""


def test_accuracies_are_means_over_sub_tasks_questions_and_benchmarks(written):
    dense, sharpv = written[0].loc["dense"], written[0].loc["sharpv_adaptive"]
    assert dense["mvbench_acc"] == pytest.approx((90 + 80) / 2)
    assert [dense["videomme_wo"], dense["nextqa_mc"], dense["actnetqa_acc"]] == pytest.approx([90, 90, 90])
    assert dense["actnetqa_score"] == pytest.approx(0.9 * 5 + 0.1 * 1)
    assert dense["avg_acc"] == pytest.approx((85 + 90 + 90 + 90) / 4)
    assert sharpv["avg_acc"] == pytest.approx((80 + 90 + 90 + 80) / 4)
    assert sharpv["diff_to_dense"] == pytest.approx(-15 / 4)
    assert sharpv["diff_low"] < sharpv["diff_to_dense"] < sharpv["diff_high"] <= 0
    assert dense["avg_acc_low"] < dense["avg_acc"] < dense["avg_acc_high"]
    assert [dense["n_questions"], dense["n_videos"]] == [130, 30 + 10 + 10 + 10 + 8]


def test_seeds_are_averaged_before_the_statistics(written):
    dagger = written[0].loc["random_frame"]
    assert dagger["seeds"] == 3
    assert dagger["n_questions"] == 130
    assert dagger["mvbench_acc"] == pytest.approx(((80 + 70 + 60) / 3 + 70) / 2)
    assert np.isnan(dagger["p_mcnemar"])
    assert 0 < dagger["p_sign_flip"] <= dagger["p_holm"] <= 1


def test_tests_and_their_correction_stand_in_every_row_but_dense(written):
    table = written[0]
    others = table.drop("dense")
    assert table.loc["dense", ["p_sign_flip", "p_holm", "p_mcnemar", "diff_low", "smallest_detectable"]].isna().all()
    assert (others["p_holm"] >= others["p_sign_flip"]).all()
    assert others["p_holm"].max() <= 1
    assert table.loc["sharpv_adaptive", "p_mcnemar"] == pytest.approx(2 * 0.5**5)
    assert (others["smallest_detectable"] > 0).all()


def test_costs_have_the_stated_units(written):
    sharpv, dense = written[0].loc["sharpv_adaptive"], written[0].loc["dense"]
    assert [sharpv["vr_pct"], sharpv["mr_pct"], sharpv["token_budget_pct"]] == pytest.approx([32, 40, 12.8])
    assert [sharpv["ttft_s"], sharpv["tpot_ms"], sharpv["prune_ms"]] == pytest.approx([0.3, 20, 4])
    assert [dense["ttft_speedup"], sharpv["ttft_speedup"]] == pytest.approx([1, 0.5 / 0.3])
    assert sharpv["vision_bound_speedup"] == pytest.approx(0.5 / 0.25)
    assert [sharpv["tflops"], sharpv["tflops_exact"]] == pytest.approx([0.00064, 0.00096])
    assert sharpv["memory_gb"] == pytest.approx(0.060000039)
    assert written[0].loc["fastv", "mr_after_layer_pct"] == pytest.approx(30)
    assert np.isnan(sharpv["mr_after_layer_pct"])


def test_markdown_shows_intervals_groups_and_notes_but_no_paper_row_for_the_tiny_model(written):
    text = (written[1] / "table3.md").read_text(encoding="utf-8")
    dense = next(line for line in text.splitlines() if line.startswith("| Dense"))
    assert re.search(r"\| 90\.0 \[\d\d\.\d, \d{2,3}\.\d\] \|", dense)
    assert (
        text.index("*Budget-matched*") < text.index("| DivPrune") < text.index("*Controls*") < text.index("| V-Random")
    )
    assert "(paper)" not in text
    assert "gap to paper" not in text
    assert "INCOMPLETE" not in text
    assert "MIXED" not in text
    assert "versions: lmms_eval 0.7.3." in text
    assert "hardware: device cpu, cores 2." in text
    assert "seeds: V-Random (dagger) 3" in text
    assert "none of the paper's models" in text
    assert len({line.count("|") for line in tables(text)[0]}) == 1


def tables(text):
    return [part.splitlines() for part in text.split("\n\n") if part.startswith("|")]


def test_a_model_of_the_paper_gets_its_printed_rows_and_the_gap_on_the_papers_benchmarks(tmp_path, monkeypatch):
    monkeypatch.setattr(paper_names, "BENCHMARKS", TINY)
    name = "LLaVA-OneVision 0.5B"
    table = write_table3([full_run(tmp_path / "run", paper_name=name)], tmp_path, PAPER_CSV, TINY).set_index("row")
    assert table.loc["dense", "model"] == name
    assert table.loc["dense", ["paper_avg_acc", "gap_to_paper"]].tolist() == pytest.approx([49.5, 88.75 - 49.5])
    assert np.isnan(table.loc["random_frame", "paper_avg_acc"])
    text = (tmp_path / "table3.md").read_text(encoding="utf-8")
    below = {
        line.split("|")[1].strip(): after for line, after in zip(tables(text)[0], tables(text)[0][1:], strict=False)
    }
    assert "*46.6*" in below["Dense"]
    assert "*(paper)*" in below["Dense"]
    assert "(paper)" not in below["DivPrune (32%)"]
    assert "SharpV (Manual): the paper prints Avg. 50.4, the mean of its own four cells is 49.77" in text
    latex = (tmp_path / "table3.tex").read_text(encoding="utf-8")
    assert r"\itshape (paper) & \itshape 100 & \itshape 46.6" in latex
    assert "$-$15.0" in latex


def test_latex_is_balanced_escaped_and_needs_only_booktabs(written):
    text = (written[1] / "table3.tex").read_text(encoding="utf-8")
    assert text.isascii()
    assert re.findall(r"\\begin{(\w+\*?)}", text) == list(reversed(re.findall(r"\\end{(\w+\*?)}", text)))
    bare = re.sub(r"\\[{}]", "", text)
    assert bare.count("{") == bare.count("}")
    assert not re.search(r"(?<!\\)[%#](?! needs)", text)
    assert not re.search(r"(?<!\\)[_^](?!\{)", re.sub(r"\\textasciicircum", "", text))
    cells = [line for line in text.splitlines() if line.endswith(r"\\") and "multicolumn" not in line]
    assert {len(re.findall(r"(?<!\\)&", line)) for line in cells} == {13}
    assert text.count("$") % 2 == 0
    assert text.index(r"\toprule") < text.index(r"\midrule") < text.index(r"\bottomrule")
    assert "includegraphics" not in text
    assert "resizebox" not in text
    assert r"DivPrune (32\%)" in text
    assert not re.search(r"\\\\\s*\n?\s*\[", text), "a bracket after a line end is read as its option"


def test_a_failed_sample_stays_in_the_denominator_and_the_report_says_so_loudly(tmp_path):
    broken = wrong(3, 3, 3, 2, 8)
    rows = [
        (DENSE, wrong(3, 2, 3, 2, 4)),
        (SHARPV, lambda question: None if question[1:3] == ("tiny_nextqa", 19) else broken(question)),
    ]
    folder = write_run(tmp_path / "run", rows, status="incomplete")
    table = write_table3([folder], tmp_path, PAPER_CSV, TINY).set_index("row")
    assert table.loc["sharpv_adaptive", ["n_errors", "n_questions"]].tolist() == [1, 130]
    assert table.loc["sharpv_adaptive", "nextqa_mc"] == pytest.approx(85)
    assert table.loc["sharpv_adaptive", "ttft_s"] == pytest.approx(0.3)
    text = (tmp_path / "table3.md").read_text(encoding="utf-8")
    assert text.index("> **INCOMPLETE RUN run") < text.index("## Tiny")
    assert "SharpV (Adaptive): 1 failed samples count as wrong" in text
    assert "first reason: decoder: moov atom not found" in text
    assert r"\textbf{INCOMPLETE" in (tmp_path / "table3.tex").read_text(encoding="utf-8")


def test_a_failed_open_answer_has_judge_score_zero(tmp_path):
    rows = [(DENSE, lambda question: None if question[1:3] == ("tiny_actnetqa", 0) else True)]
    table = write_table3([write_run(tmp_path / "run", rows)], tmp_path, PAPER_CSV, TINY)
    assert table.loc[0, "actnetqa_score"] == pytest.approx(5 * 39 / 40)


def test_a_retried_failure_counts_once_as_its_last_line_has_it(tmp_path):
    question = QUESTIONS[0]
    folder = write_run(tmp_path / "run", [(DENSE, lambda _: True)])
    lines = (folder / "samples.jsonl").read_text(encoding="utf-8")
    (folder / "samples.jsonl").write_text(json.dumps(failed(question, **DENSE)) + "\n" + lines, encoding="utf-8")
    answers = load_run(folder).answers()
    assert len(answers) == len(QUESTIONS)
    assert not answers["failed"].any()


def test_a_missing_benchmark_leaves_its_cell_empty_and_a_footnote(tmp_path):
    some = [question for question in QUESTIONS if question[0] in ("tiny_mvbench", "tiny_videomme")]
    rows = [(DENSE, wrong(3, 2, 3, 2, 4), some), (SHARPV, wrong(3, 3, 3, 2, 8), some[:40])]
    run = write_run(tmp_path / "run", rows, paper_name="LLaVA-OneVision 7B")
    table = write_table3([run], tmp_path, PAPER_CSV, TINY).set_index("row")
    assert table.loc["dense", ["nextqa_mc", "actnetqa_acc", "actnetqa_score", "gap_to_paper"]].isna().all()
    assert table.loc["dense", "avg_acc"] == pytest.approx((85 + 90) / 2)
    assert table.loc["sharpv_adaptive", "diff_to_dense"] == pytest.approx(-5)
    text = (tmp_path / "table3.md").read_text(encoding="utf-8")
    assert "tiny_nextqa was measured for no row; Avg. is over the others" in text
    assert "tiny_videomme was measured for not SharpV (Adaptive)" not in text
    assert "tiny_videomme was not measured for SharpV (Adaptive)" in text
    assert "INCOMPLETE LLaVA-OneVision 7B, SharpV (Adaptive): 30 answers that other rows have were not run" in text


def test_rows_of_one_model_may_lie_in_several_runs_but_mixed_versions_are_shouted(tmp_path):
    first = write_run(tmp_path / "a", [(DENSE, wrong(3, 2, 3, 2, 4))])
    second = write_run(tmp_path / "b", [(SHARPV, wrong(3, 3, 3, 2, 8))], versions={"lmms_eval": "0.7.4"})
    table = write_table3([first, second], tmp_path, PAPER_CSV, TINY)
    assert list(table["row"]) == ["dense", "sharpv_adaptive"]
    assert "MIXED versions of Tiny LLaVA-OV: lmms_eval is 0.7.3 and 0.7.4" in (tmp_path / "table3.md").read_text(
        encoding="utf-8"
    )
    with pytest.raises(ValueError, match="are in two of"):
        write_table3([first, second, write_run(tmp_path / "c", [(SHARPV, lambda _: True)])], tmp_path, PAPER_CSV, TINY)


def test_only_a_torn_last_line_is_forgiven(tmp_path):
    path = tmp_path / "samples.jsonl"
    path.write_bytes(b'{"a": 1}\n{"a": 2}\n{"a": "\xc3')
    assert read_jsonl(path) == [{"a": 1}, {"a": 2}]
    path.write_bytes(b'{"a": 1}\n{"a": 2}')
    assert read_jsonl(path) == [{"a": 1}, {"a": 2}]
    path.write_bytes(b'{"a": 1}\n{"a": \n{"a": 3}\n')
    with pytest.raises(ValueError, match="line 2: is broken"):
        read_jsonl(path)


def test_a_torn_last_sample_leaves_the_same_table(tmp_path, written):
    torn = full_run(tmp_path / "torn")
    with (torn / "samples.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"schema": 1, "key": "x", "sta')
    write_table3([torn], tmp_path / "again", PAPER_CSV, TINY)
    for name in ("table3.md", "table3.csv", "table3.tex"):
        assert (tmp_path / "again" / name).read_text(encoding="utf-8") == (written[1] / name).read_text(
            encoding="utf-8"
        )


def test_a_store_that_does_not_fit_is_refused_with_the_way_out(tmp_path):
    with pytest.raises(ValueError, match=r"holds no run\.json"):
        load_run(tmp_path)
    folder = write_run(tmp_path / "run", [(DENSE, lambda _: True)])
    lines = (folder / "scores.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (folder / "scores.jsonl").write_text("".join(lines[:-2]), encoding="utf-8")
    with pytest.raises(ValueError, match="2 samples have no score"):
        load_run(folder).answers()
    with pytest.raises(ValueError, match="must map some of"):
        write_table3([folder], tmp_path, PAPER_CSV, {"mvbench": "tiny_mvbench"})
    bare = json.loads((folder / "samples.jsonl").read_text(encoding="utf-8").splitlines()[0])
    del bare["times_s"]["prune"]
    (folder / "samples.jsonl").write_text(json.dumps(bare) + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"lacks \['times_s.prune'\]"):
        load_run(folder)
    with pytest.raises(ValueError, match="dense rows"):
        write_table3([write_run(tmp_path / "b", [(SHARPV, lambda _: True)])], tmp_path, PAPER_CSV, TINY)


def test_unanswered_questions_are_counted(tmp_path):
    folder = write_run(tmp_path / "run", [(DENSE, lambda _: True)])
    scores = pd.DataFrame(read_jsonl(folder / "scores.jsonl"))
    scores.loc[:3, ["answered", "score"]] = [False, 0.0]
    scores.to_json(folder / "scores.jsonl", orient="records", lines=True)
    assert write_table3([folder], tmp_path, PAPER_CSV, TINY).loc[0, "unanswered"] == 4


def test_memory_that_was_not_measured_leaves_an_empty_cell_and_may_be_measured_on_some_samples(tmp_path):
    folder = write_run(tmp_path / "run", [(DENSE, lambda _: True), (SHARPV, lambda _: True)])
    samples = read_jsonl(folder / "samples.jsonl")
    for row in samples:
        row["memory"] = row["memory"] if row["row"] == "dense" and row["doc_id"] == 7 else None
    (folder / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in samples), encoding="utf-8")
    table = write_table3([folder], tmp_path, PAPER_CSV, TINY).set_index("row")
    assert table.loc["dense", "memory_gb"] == pytest.approx(0.060000007)
    assert np.isnan(table.loc["sharpv_adaptive", "memory_gb"])


def test_reports_bring_in_no_torch():
    code = "import sys, sharpv.reports.tables.table3; print([m for m in sys.argv[1:] if m in sys.modules])"
    command = [sys.executable, "-c", code, "torch", "transformers", "lmms_eval", "hydra"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_sub_tasks_of_mvbench_that_are_missing_are_counted(tmp_path):
    tasks = [f"sharpv_mvbench_{name}" for name in ("action_antonym", "unexpected_action")]
    questions = [("sharpv_mvbench", task, 0, f"{task}.mp4") for task in tasks]
    run = write_run(tmp_path / "run", [(DENSE, lambda question: question[1] == tasks[0], questions)])
    write_table3([run], tmp_path, PAPER_CSV, TINY | {"mvbench_acc": "sharpv_mvbench"})
    printed = (tmp_path / "table3.md").read_text(encoding="utf-8")
    assert "sharpv_mvbench is the mean over the 2 sub-tasks that the runs hold; MVBench has 20 in the paper" in printed


def test_columns_of_other_benchmarks_stand_in_the_order_asked_under_their_own_headings(tmp_path):
    folder = write_run(tmp_path / "run", [(DENSE, lambda _: True), (SHARPV, lambda _: True)])
    info = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    (folder / "run.json").write_text(
        json.dumps(info | {"columns": {"mine": "My videos"}, "note": "Mine: ours"}), encoding="utf-8"
    )
    first, second = "tiny_videomme", "tiny_mvbench"
    table = write_table3([folder], tmp_path, PAPER_CSV, {"mine": first, "mvbench_acc": second}, "mine")
    assert table["mine"].notna().all()
    assert table["gap_to_paper"].isna().all()
    page = (tmp_path / "mine.md").read_text(encoding="utf-8")
    assert page.index("My videos |") < page.index("MVBench |")
    assert "VideoMME" not in page.split("## Notes")[0]
    assert "- Mine: ours." in page
    assert "My videos" in (tmp_path / "mine.tex").read_text(encoding="utf-8")
