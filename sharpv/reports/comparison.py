"""What all tables of answers share: one line a question, macro averages with intervals, paired differences, costs."""

from collections.abc import Collection, Iterable, Sequence
from math import nan

import numpy as np
import pandas as pd

from sharpv.benchmarks.submission import UNLABELLED
from sharpv.reports.statistics import (
    Interval,
    bootstrap_interval,
    clustered_standard_error,
    mcnemar_p,
    paired_interval,
    sign_flip_p,
    smallest_detectable_difference,
)
from sharpv.reports.store import Run
from sharpv.reports.tables.paper_names import shown_name

QUESTION = ["benchmark", "task", "doc_id"]
KINDS = ("dense", "method", "budget-matched", "control")


def by_model(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """The runs of each model, in their order; ValueError for none."""
    models: dict[str, list[Run]] = {}
    for run in runs:
        models.setdefault(run.info["model"]["name"], []).append(run)
    if not models:
        raise ValueError("no run given: pass at least one folder of results/runs/")
    return models


def model_name(run: Run) -> str:
    """What the run's model is called in reports."""
    return shown_name(run.info["model"])


def model_answers(runs: Sequence[Run], benchmarks: Collection[str], by_sub_task: Collection[str]) -> pd.DataFrame:
    """All answers of one model's runs to these benchmarks, failed ones as wrong, with `stratum` (the benchmark, or its
    task for those `by_sub_task`) and `video` made unique over benchmarks. Questions whose right answer is not public
    are left out.

    ValueError where there is none, or where an answer is in two runs.
    """
    answers = pd.concat([run.answers() for run in runs], ignore_index=True)
    answers = answers[answers["benchmark"].isin(list(benchmarks)) & (answers["gold"] != UNLABELLED)].copy()
    if answers.empty:
        raise ValueError(
            f"no answer of model {runs[0].info['model']['name']} is for one of {sorted(set(benchmarks))}: map others"
        )
    twice = answers.duplicated(["row", "seed", *QUESTION])
    if twice.any():
        rows = sorted(set(answers.loc[twice, "row"]))
        raise ValueError(
            f"{twice.sum()} answers of rows {rows} are in two of {[str(run.folder) for run in runs]}: pass one"
        )
    split = answers["benchmark"].isin(list(by_sub_task))
    answers["stratum"] = answers["benchmark"].where(~split, answers["benchmark"] + "/" + answers["task"])
    answers["video"] = answers["benchmark"] + "/" + answers["video"]
    for column, nothing in (("judge_score", answers["failed"]), ("offline_score", answers["offline_score"].isna())):
        scored = answers.groupby("benchmark")[column].transform("count") > 0
        answers.loc[nothing & scored, column] = 0.0
    return answers


def dense_answers(answers: pd.DataFrame) -> pd.DataFrame:
    """The answers of the dense row; ValueError unless there is exactly one."""
    rows = answers.loc[answers["kind"] == "dense", "row"].unique()
    if len(rows) != 1:
        raise ValueError(
            f"model {answers['model'].iloc[0]} has the dense rows {list(rows)}: run one, for the others to compare with"
        )
    return answers[answers["row"] == rows[0]]


def per_question(part: pd.DataFrame) -> pd.DataFrame:
    """One line a question, averaged over seeds (score and offline_score 0-1, judge_score 0-5, answered as a share)."""
    keys = [*QUESTION, "stratum", "video"]
    columns = ["score", "judge_score", "offline_score", "answered"]
    return part.astype({"answered": float}).groupby(keys, sort=True)[columns].mean().reset_index()


def paired(questions: pd.DataFrame, reference: pd.DataFrame, one_seed: bool) -> dict[str, float]:
    """Percent-point difference of the macro averages over the questions that both have, with its interval and tests.

    Positive means better than the reference. `p_mcnemar` is NaN unless each has `one_seed`. Empty without a common
    question.
    """
    pairs = questions.merge(reference[[*QUESTION, "score"]], on=QUESTION, suffixes=("", "_reference"))
    if pairs.empty:
        return {}
    ours, theirs = 100 * pairs["score"].to_numpy(), 100 * pairs["score_reference"].to_numpy()
    videos, strata, shares = pairs["video"].to_numpy(), pairs["stratum"].to_numpy(), weights(pairs)
    difference = paired_interval(ours, theirs, videos, groups_N=strata, weights=shares)
    return {
        "diff": difference.estimate,
        "diff_low": difference.low,
        "diff_high": difference.high,
        "p_sign_flip": sign_flip_p(ours - theirs, videos, strata, shares),
        "p_mcnemar": mcnemar_p(pairs["score"].to_numpy(), pairs["score_reference"].to_numpy()) if one_seed else nan,
        "smallest_detectable": smallest_detectable_difference(
            clustered_standard_error(ours - theirs, videos, strata, shares)
        ),
    }


def interval(values: pd.Series, questions: pd.DataFrame) -> Interval:
    """Macro average of the values of these questions with its 95% interval, in their unit."""
    return bootstrap_interval(
        values.to_numpy(dtype=float),
        questions["video"].to_numpy(),
        groups_N=questions["stratum"].to_numpy(),
        weights=weights(questions),
    )


def cell(column: str, value: Interval) -> dict[str, float]:
    """An interval as three columns of a table: <column>, <column>_low, <column>_high."""
    return {column: value.estimate, f"{column}_low": value.low, f"{column}_high": value.high}


def weights(questions: pd.DataFrame) -> dict[str, float]:
    """The share of each stratum in the macro average: benchmarks weigh the same, and sub-tasks within theirs."""
    strata = questions.drop_duplicates("stratum")
    siblings = strata.groupby("benchmark")["stratum"].transform("count")
    return dict(zip(strata["stratum"], 1 / (siblings * strata["benchmark"].nunique()), strict=True))


def counts(part: pd.DataFrame, questions: pd.DataFrame, expected: int) -> dict[str, float]:
    """How many questions, videos and seeds a row has, and how many answers were empty, failed or are missing."""
    return {
        "n_questions": len(questions),
        "n_videos": questions["video"].nunique(),
        "unanswered": round((1 - questions["answered"]).sum(), 2),
        "seeds": part["seed"].nunique(),
        "n_errors": int(part["failed"].sum()),
        "n_missing": expected * part["seed"].nunique() - len(part),
    }


def sort_rows(table: pd.DataFrame, methods: list[str]) -> pd.DataFrame:
    """The rows of one model: dense, methods in this order then the rest, budget-matched ones, controls."""
    unknown = sorted(set(table["kind"]) - set(KINDS))
    if unknown:
        raise ValueError(f"rows of kind {unknown}: kinds are {KINDS}")
    place = [methods.index(method) if method in methods else len(methods) for method in table["method"]]
    kinds = [KINDS.index(kind) for kind in table["kind"]]
    return table.iloc[np.lexsort(np.array([np.arange(len(table)), place, kinds]))].reset_index(drop=True)


def costs(part: pd.DataFrame, dense: pd.DataFrame) -> dict[str, float]:
    """Shares in percent, TFLOPs, GB of 1e9 bytes, seconds and milliseconds of a row over its answers that did not fail.

    NaN for what was not measured.
    """
    done, base = part[~part["failed"]], dense[~dense["failed"]]
    ttft_s = numbers(done, "ttft_s")
    return {
        "token_budget_pct": 100 * _benchmark_mean(done, "token_budget"),
        "vr_pct": 100 * _benchmark_mean(done, "vr"),
        "vr_requested": 100 * _benchmark_mean(done, "vr_requested"),
        "mr_pct": 100 * _benchmark_mean(done, "mr"),
        "mr_after_layer_pct": 100 * _benchmark_mean(done, "mr_after_layer"),
        "kv_held_pct": 100 * _benchmark_mean(done, "kv_held"),
        "tflops": _benchmark_mean(done, "flops.eq5_prefill") / 1e12,
        "tflops_exact": _benchmark_mean(done, "flops.exact_prefill") / 1e12,
        "memory_gb": numbers(done, "memory.peak_bytes").median() / 1e9,
        "memory_max_gb": numbers(done, "memory.peak_bytes").max() / 1e9,
        "ttft_s": ttft_s.median(),
        "ttft_q25_s": ttft_s.quantile(0.25),
        "ttft_q75_s": ttft_s.quantile(0.75),
        "ttft_speedup": numbers(base, "ttft_s").median() / ttft_s.median(),
        "vision_bound_speedup": numbers(base, "ttft_s").median() / numbers(base, "times_s.vision").median(),
        "tpot_ms": 1e3 * numbers(done, "tpot_s").median(),
        "samples_per_s": 1 / (ttft_s + numbers(done, "times_s.decode").fillna(0)).median(),
        "prune_ms": 1e3 * numbers(done, "times_s.prune").median(),
    }


def numbers(part: pd.DataFrame, column: str) -> pd.Series:
    """A column as floats; what was not measured is NaN."""
    return part[column].astype(float)


def _benchmark_mean(part: pd.DataFrame, column: str) -> float:
    """Mean over the benchmarks of the mean over their samples, as the paper averages its budgets."""
    return float(numbers(part, column).groupby(part["benchmark"]).mean().mean())
