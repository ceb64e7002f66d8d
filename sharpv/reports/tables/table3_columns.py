"""The columns of table3.csv: those of the paper, then ours."""

ACCURACIES = ("mvbench_acc", "videomme_wo", "nextqa_mc", "actnetqa_acc")
SCORE = "actnetqa_score"
BENCHMARK_COLUMNS = (*ACCURACIES, SCORE)
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
