"""Table 3 from stored runs: accuracy, budget and cost of every row, with statistics, beside the paper's numbers."""

from collections.abc import Mapping
from math import nan
from pathlib import Path

import numpy as np
import pandas as pd

from sharpv.reports import table3_notes, table3_text
from sharpv.reports.statistics import (
    Interval,
    bootstrap_interval,
    clustered_standard_error,
    holm,
    mcnemar_p,
    paired_interval,
    sign_flip_p,
    smallest_detectable_difference,
)
from sharpv.reports.store import Run, load_run
from sharpv.reports.table3_columns import ACCURACIES, BENCHMARK_COLUMNS, BY_SUB_TASK, KINDS, OURS, PAPER, SCORE

QUESTION = ["benchmark", "task", "doc_id"]


def write_table3(
    run_dirs: list[Path], output: Path, paper_csv: Path, benchmarks: Mapping[str, str], name: str = "table3"
) -> pd.DataFrame:
    """Write <name>.md, <name>.csv and <name>.tex into the folder `output`; return the table, one line a row.

    `benchmarks` maps the paper's columns (`BENCHMARK_COLUMNS`) to the benchmarks of the runs. Several runs of one model
    make one table as long as no answer is in two of them.
    """
    runs, paper = [load_run(Path(folder)) for folder in run_dirs], pd.read_csv(paper_csv)
    table = build_table3(runs, paper, benchmarks)
    (output / name).parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(output / f"{name}.csv", index=False, float_format="%.6g")
    warnings, notes = table3_notes.warnings(table, runs), table3_notes.notes(table, paper, runs, benchmarks)
    (output / f"{name}.md").write_text(table3_text.markdown(table, paper, warnings, notes))
    (output / f"{name}.tex").write_text(table3_text.latex(table, paper, warnings, notes))
    return table


def build_table3(runs: list[Run], paper: pd.DataFrame, benchmarks: Mapping[str, str]) -> pd.DataFrame:
    """The table with the columns `PAPER` then `OURS`: accuracies, ratios and differences in percent (points), GB of 1e9
    bytes, seconds or milliseconds as named, 1e12 floating-point operations. An empty cell was not measured.

    High is good for accuracies, speed-ups and diff_to_dense (ours - dense); ratios are kept shares. Models in the order
    of the runs; their rows dense, methods as in the paper, budget-matched ones, controls.
    """
    unknown = set(benchmarks) - set(BENCHMARK_COLUMNS)
    if unknown or not set(benchmarks) & set(ACCURACIES):
        raise ValueError(f"benchmarks {dict(benchmarks)} must map some of {BENCHMARK_COLUMNS} to the runs' benchmarks")
    models: dict[str, list[Run]] = {}
    for run in runs:
        models.setdefault(run.info["model"]["name"], []).append(run)
    if not models:
        raise ValueError("no run given: pass at least one folder of results/runs/")
    table = pd.concat([_model_table(group, paper, benchmarks) for group in models.values()], ignore_index=True)
    table["p_holm"] = holm(table["p_sign_flip"].to_numpy(dtype=float))
    return table


def _model_table(runs: list[Run], paper: pd.DataFrame, benchmarks: Mapping[str, str]) -> pd.DataFrame:
    model = runs[0].info["model"]
    answers = pd.concat([run.answers() for run in runs], ignore_index=True)
    answers = answers[answers["benchmark"].isin(list(benchmarks.values()))].copy()
    if answers.empty:
        raise ValueError(
            f"no answer of model {model['name']} is for one of {sorted(set(benchmarks.values()))}: map others"
        )
    twice = answers.duplicated(["row", "seed", *QUESTION])
    if twice.any():
        rows = sorted(set(answers.loc[twice, "row"]))
        raise ValueError(
            f"{twice.sum()} answers of rows {rows} are in two of {[str(run.folder) for run in runs]}: pass one"
        )
    split = answers["benchmark"] == benchmarks.get(BY_SUB_TASK)
    answers["stratum"] = answers["benchmark"].where(~split, answers["benchmark"] + "/" + answers["task"])
    answers["video"] = answers["benchmark"] + "/" + answers["video"]
    judged = answers.groupby("benchmark")["judge_score"].transform("count") > 0
    answers.loc[answers["failed"] & judged, "judge_score"] = 0.0

    dense_rows = answers.loc[answers["kind"] == "dense", "row"].unique()
    if len(dense_rows) != 1:
        raise ValueError(
            f"model {model['name']} has the dense rows {list(dense_rows)}: run one, for the others to compare with"
        )
    dense = answers[answers["row"] == dense_rows[0]]
    expected = len(answers.drop_duplicates(QUESTION))
    name = model["paper_name"] or model["display"]
    lines = [
        {"model": name, **_line(part, dense, benchmarks), **_missing(part, expected)}
        for _, part in answers.groupby("row", sort=False)
    ]
    table = pd.DataFrame(lines).reindex(columns=[*PAPER, *OURS])
    published = paper.set_index(["model", "method"])["avg_acc"]
    table["paper_avg_acc"] = [published.get((name, method), nan) for method in table["method"]]
    complete = table[list(ACCURACIES)].notna().all(axis=1)
    table["gap_to_paper"] = (table["avg_acc"] - table["paper_avg_acc"]).where(complete)
    return _sorted(table, list(dict.fromkeys(paper["method"])))


def _line(part: pd.DataFrame, dense: pd.DataFrame, benchmarks: Mapping[str, str]) -> dict:
    questions, reference = _per_question(part), _per_question(dense)
    line = {name: part[name].iloc[0] for name in ("row", "method", "kind")}
    for column, benchmark in benchmarks.items():
        here = questions[questions["benchmark"] == benchmark]
        values = here["judge_score"] if column == SCORE else 100 * here["score"]
        if values.notna().any():
            line |= _cell(column, _interval(values, here))
    line |= _cell("avg_acc", _interval(100 * questions["score"], questions))
    line |= _costs(part, dense)
    line |= {
        "n_questions": len(questions),
        "n_videos": questions["video"].nunique(),
        "unanswered": round((1 - questions["answered"]).sum(), 2),
        "seeds": part["seed"].nunique(),
    }
    return line if line["kind"] == "dense" else line | _against_dense(questions, reference, part["seed"].nunique() == 1)


def _per_question(part: pd.DataFrame) -> pd.DataFrame:
    """One line a question, its scores averaged over seeds (score 0-1, judge_score 0-5, answered as a share)."""
    keys = [*QUESTION, "stratum", "video"]
    columns = ["score", "judge_score", "answered"]
    return part.astype({"answered": float}).groupby(keys, sort=True)[columns].mean().reset_index()


def _against_dense(questions: pd.DataFrame, reference: pd.DataFrame, one_seed: bool) -> dict:
    pairs = questions.merge(reference[[*QUESTION, "score"]], on=QUESTION, suffixes=("", "_dense"))
    if pairs.empty:
        return {}
    ours, dense = 100 * pairs["score"].to_numpy(), 100 * pairs["score_dense"].to_numpy()
    videos, strata, weights = pairs["video"].to_numpy(), pairs["stratum"].to_numpy(), _weights(pairs)
    difference = paired_interval(ours, dense, videos, groups_N=strata, weights=weights)
    return {
        "diff_to_dense": difference.estimate,
        "diff_low": difference.low,
        "diff_high": difference.high,
        "p_sign_flip": sign_flip_p(ours - dense, videos, strata, weights),
        "p_mcnemar": mcnemar_p(pairs["score"].to_numpy(), pairs["score_dense"].to_numpy()) if one_seed else nan,
        "smallest_detectable": smallest_detectable_difference(
            clustered_standard_error(ours - dense, videos, strata, weights)
        ),
    }


def _costs(part: pd.DataFrame, dense: pd.DataFrame) -> dict:
    done, base = part[~part["failed"]], dense[~dense["failed"]]
    ttft_s = _numbers(done, "ttft_s")
    return {
        "token_budget_pct": 100 * _benchmark_mean(done, "token_budget"),
        "vr_pct": 100 * _benchmark_mean(done, "vr"),
        "vr_requested": 100 * _benchmark_mean(done, "vr_requested"),
        "mr_pct": 100 * _benchmark_mean(done, "mr"),
        "mr_after_layer_pct": 100 * _benchmark_mean(done, "mr_after_layer"),
        "kv_held_pct": 100 * _benchmark_mean(done, "kv_held"),
        "tflops": _benchmark_mean(done, "flops.eq5_prefill") / 1e12,
        "tflops_exact": _benchmark_mean(done, "flops.exact_prefill") / 1e12,
        "memory_gb": _numbers(done, "memory.peak_bytes").max() / 1e9,
        "ttft_s": ttft_s.median(),
        "ttft_q25_s": ttft_s.quantile(0.25),
        "ttft_q75_s": ttft_s.quantile(0.75),
        "ttft_speedup": _numbers(base, "ttft_s").median() / ttft_s.median(),
        "vision_bound_speedup": _numbers(base, "ttft_s").median() / _numbers(base, "times_s.vision").median(),
        "tpot_ms": 1e3 * _numbers(done, "tpot_s").median(),
        "prune_ms": 1e3 * _numbers(done, "times_s.prune").median(),
    }


def _numbers(part: pd.DataFrame, column: str) -> pd.Series:
    return part[column].astype(float)


def _benchmark_mean(part: pd.DataFrame, column: str) -> float:
    """Mean over the benchmarks of the mean over their samples, as the paper averages its budgets."""
    return float(_numbers(part, column).groupby(part["benchmark"]).mean().mean())


def _interval(values: pd.Series, questions: pd.DataFrame) -> Interval:
    return bootstrap_interval(
        values.to_numpy(dtype=float),
        questions["video"].to_numpy(),
        groups_N=questions["stratum"].to_numpy(),
        weights=_weights(questions),
    )


def _weights(questions: pd.DataFrame) -> dict[str, float]:
    """The share of each stratum in the macro average: benchmarks weigh the same, and sub-tasks within theirs."""
    strata = questions.drop_duplicates("stratum")
    siblings = strata.groupby("benchmark")["stratum"].transform("count")
    return dict(zip(strata["stratum"], 1 / (siblings * strata["benchmark"].nunique()), strict=True))


def _cell(column: str, interval: Interval) -> dict[str, float]:
    return {column: interval.estimate, f"{column}_low": interval.low, f"{column}_high": interval.high}


def _missing(part: pd.DataFrame, expected: int) -> dict[str, int]:
    return {"n_errors": int(part["failed"].sum()), "n_missing": expected * part["seed"].nunique() - len(part)}


def _sorted(table: pd.DataFrame, methods: list[str]) -> pd.DataFrame:
    unknown = sorted(set(table["kind"]) - set(KINDS))
    if unknown:
        raise ValueError(f"rows of kind {unknown}: kinds are {KINDS}")
    place = [methods.index(method) if method in methods else len(methods) for method in table["method"]]
    kinds = [KINDS.index(kind) for kind in table["kind"]]
    return table.iloc[np.lexsort(np.array([np.arange(len(table)), place, kinds]))].reset_index(drop=True)
