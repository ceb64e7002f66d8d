"""The columns of table3.csv: those of the paper, then ours; and the columns that other benchmarks bring along."""

from collections.abc import Mapping

from sharpv.reports.store import Run

ACCURACIES = ("mvbench_acc", "videomme_wo", "nextqa_mc", "actnetqa_acc")
SCORE = "actnetqa_score"
BENCHMARK_COLUMNS = (*ACCURACIES, SCORE)
HEADINGS = {
    "mvbench_acc": "MVBench",
    "videomme_wo": "VideoMME",
    "nextqa_mc": "NExT-QA",
    "actnetqa_acc": "ActNet-QA",
    SCORE: "ActNet score",
}
BY_SUB_TASK = "mvbench_acc"
PAPER = (
    *("model", "method", "token_budget_pct", *BENCHMARK_COLUMNS, "avg_acc", "memory_gb", "ttft_s", "ttft_speedup"),
    *("vr_pct", "mr_pct", "tflops"),
)
OURS = (
    *(
        "tpot_ms",
        "samples_per_s",
        "prune_ms",
        "memory_max_gb",
        "actnetqa_offline",
        "tflops_exact",
        "vision_bound_speedup",
        "n_questions",
        "n_videos",
        "unanswered",
    ),
    *("avg_acc_low", "avg_acc_high", "diff_to_dense", "diff_low", "diff_high", "p_sign_flip", "p_holm", "p_mcnemar"),
    *("smallest_detectable", "vr_requested", "kv_held_pct", "mr_after_layer_pct", "seeds", "kind", "paper_avg_acc"),
    *("gap_to_paper", "row", "n_errors", "n_missing", "ttft_q25_s", "ttft_q75_s"),
    *(f"{column}_{end}" for column in BENCHMARK_COLUMNS for end in ("low", "high")),
)


def own_columns(benchmarks: Mapping[str, str]) -> list[str]:
    """The columns asked for that are none of Table 3's, in the order asked."""
    return [column for column in benchmarks if column not in BENCHMARK_COLUMNS]


def headings(runs: list[Run], benchmarks: Mapping[str, str]) -> dict[str, str]:
    """How the columns asked for are called, in the order asked, where one is none of Table 3's; else empty.

    A run says the headings of its own columns, as `columns` of its benchmark's configuration has them.
    """
    if not own_columns(benchmarks):
        return {}
    told = HEADINGS | {column: heading for run in runs for column, heading in run.info.get("columns", {}).items()}
    return {column: str(told.get(column, column)) for column in benchmarks}


def printed_headings(runs: list[Run], benchmarks: Mapping[str, str]) -> dict[str, str]:
    """How all columns asked for are called, Table 3's own too, in the order asked."""
    return headings(runs, benchmarks) or {column: HEADINGS[column] for column in benchmarks}


def by_sub_task(runs: list[Run], benchmarks: Mapping[str, str]) -> set[str]:
    """The benchmarks whose number is the mean over their sub-tasks."""
    macro = {column for run in runs if run.info.get("macro") for column in run.info.get("columns", {})}
    return {benchmark for column, benchmark in benchmarks.items() if column == BY_SUB_TASK or column in macro}
