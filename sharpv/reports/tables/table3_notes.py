"""What has to be said under Table 3, and what has to be shouted above it. Plain text, for Markdown and LaTeX alike."""

from collections.abc import Mapping

import pandas as pd

from sharpv.answering.columns import ANSWER
from sharpv.reports.comparison import QUESTION, model_name
from sharpv.reports.store import Run
from sharpv.reports.tables.fingerprint import fingerprints
from sharpv.reports.tables.paper_names import of_paper
from sharpv.reports.tables.settings import mixed_scorers, open_answers
from sharpv.reports.tables.table3_columns import ACCURACIES, HEADINGS, SCORE, own_columns

MVBENCH_SUBTASKS = 20
DAMAGED_NAMED = 5
TIMED_APART = 0.1
TESTS = (
    "p sign flip: two-sided permutation test of that difference by video; p (Holm): corrected over all rows of this "
    "table; p McNemar: exact, over all 0/1 answers, videos not clustered, empty for rows of several seeds and where an "
    "answer scores something between. Smallest detectable: true difference in points found with 80% power at two-sided "
    "5%; four times as many videos halve it."
)
DEFINITIONS = (
    (
        "Accuracies in percent: MVBench is the mean over its sub-tasks, the others over questions unless a note says "
        "otherwise, Avg. the mean over the benchmarks. ActNet score runs from 0 to 5."
    ),
    (
        "Intervals: 95%, percentile bootstrap, 10,000 resamples of whole videos within each sub-task or "
        "benchmark. Δ dense: paired difference to dense on the same questions."
    ),
    TESTS,
    "Seeds are averaged per question before anything is resampled: intervals speak of videos, not of seeds.",
    (
        "Ratios are kept shares, means over the samples of each benchmark, then over benchmarks. VR: visual "
        "tokens fed to the LLM against dense. MR: visual KV entries read at decode, mean over layers, against "
        "those fed. Budget: VR times MR per sample. MR after layer: MR over the layers behind the pruning layer only."
        " KV held: what the cache still stores. VR asked: what the setting asks for at this number of frames, which for"
        " a budget-matched row is the nearest that its method reaches."
    ),
    (
        "TFLOPs: prefill of the LLM by 4nd^2 + 2n^2d + 2ndm with each layer's own n; exact: 2 per multiply-add "
        "with grouped attention, three FFN matrices and a causal mask. Both without the vision tower."
    ),
    (
        "TTFT: vision tower through first token, without video decoding and host preprocessing; median and "
        "quartiles over all samples. TPOT and prune: medians. Samples/s: 1 / median of a question's seconds from the "
        "vision tower through the last token, of this row alone, one after the other. Memory: peak of a question, "
        "weights included, GB of 1e9 bytes, median and largest over those on which it was measured (memory_every)."
    ),
    (
        "Vision bound: dense TTFT / dense vision time, the speed-up of a method that makes all but the vision "
        "tower free. A control that encodes fewer frames may exceed it."
    ),
)
PAPER_DIFFERS = (
    (
        "Against the paper (results/paper/, checked in the audit): its FastV MR is the share after the pruning "
        "layer (compare MR after layer); its DyCoke VR is 1 - K, not what the official code keeps; no single "
        "formula fits its TFLOPs column; its memory saving is far larger than the dense KV cache; it names "
        "neither harness version nor judge. Do not tune towards these cells."
    ),
)


def warnings(table: pd.DataFrame, runs: list[Run]) -> list[str]:
    """What makes the numbers of this table incomplete or not comparable, one sentence each; empty when nothing does."""
    found = unfinished(runs) + mixed_scorers(runs)
    for _, line in table.iterrows():
        row = f"{line['model']}, {line['method']}"
        if line["n_errors"]:
            reasons = [run.samples.loc[run.samples["row"] == line["row"], "error"].dropna() for run in runs]
            example = next((reason.iloc[0] for reason in reasons if len(reason)), "no reason stored")
            found.append(
                f"INCOMPLETE {row}: {line['n_errors']} failed samples count as wrong, so its accuracies are lower "
                f"bounds; first reason: {' '.join(str(example).split())}"
            )
        if line["n_missing"]:
            found.append(f"INCOMPLETE {row}: {line['n_missing']} answers that other rows have were not run.")
    for model in dict.fromkeys(model_name(run) for run in runs):
        infos = [run.info for run in runs if model_name(run) == model]
        for what in ("versions", "hardware"):
            for part in sorted({part for info in infos for part in info[what]}):
                values = sorted({str(info[what].get(part)) for info in infos})
                if len(values) > 1:
                    found.append(f"MIXED {what} of {model}: {part} is {' and '.join(values)} in different runs.")
        answers = [run.samples for run in runs if model_name(run) == model]
        named = [samples["device"].dropna().unique() for samples in answers if "device" in samples]
        devices = sorted({device for devices in named for device in devices})
        if len(devices) > 1:
            found.append(f"MIXED devices of {model}: answers come from {' and '.join(devices)}; do not compare times.")
        if apart := _timed_apart(answers):
            found.append(
                f"MIXED times of {model}: {', '.join(apart)} answered by another command than dense, maybe under other "
                "load: do not compare its times with dense's. In a new folder (SHARPV_RESULTS=FOLDER) all are answered "
                "together."
            )
    return found


def _timed_apart(answers: list[pd.DataFrame]) -> list[str]:
    """Methods of which more than TIMED_APART of the questions were answered by another command than for the dense row,
    with that share."""
    named = [one for one in answers if "command" in one]
    if not named:
        return []
    given = pd.concat([one.loc[one["status"] == "ok", [*ANSWER, "method", "kind", "command"]] for one in named])
    dense = given.loc[given["kind"] == "dense", [*QUESTION, "command"]].drop_duplicates(QUESTION)
    both = given.merge(dense, on=QUESTION, suffixes=("", "_dense")).dropna(subset=["command", "command_dense"])
    share = (both["command"] != both["command_dense"]).groupby(both["method"], sort=False).mean()
    return [f"{method} ({value:.0%})" for method, value in share.items() if value > TIMED_APART]


def unfinished(runs: list[Run]) -> list[str]:
    """A sentence for each run that did not end well."""
    return [
        f"INCOMPLETE RUN {run.folder.name} of {model_name(run)}: its status is {run.info['status']}."
        for run in runs
        if run.info["status"] != "complete"
    ]


def notes(table: pd.DataFrame, paper: pd.DataFrame, runs: list[Run], benchmarks: Mapping[str, str]) -> list[str]:
    """Definitions, versions, hardware, seeds, empty cells, and what differs from the paper; one paragraph each.

    paper: the published lines that stand beside these runs.
    """
    found = [*DEFINITIONS, *dict.fromkeys(f"{run.info['note']}." for run in runs if run.info.get("note"))]
    found += [*open_answers(runs), *fingerprints(table, [run.info for run in runs])]
    asked = [column for column in benchmarks if column != SCORE]
    columns = asked if paper.empty or own_columns(benchmarks) else ACCURACIES
    for model, lines in table.groupby("model", sort=False):
        of_model = [run for run in runs if model_name(run) == model]
        for what in ("versions", "hardware"):
            stated = dict.fromkeys(listed(run.info[what]) for run in of_model)
            found.append(f"{model}, {what}: {' / '.join(stated)}.")
        several = lines[lines["seeds"] > 1]
        seeds = dict.fromkeys(f"{line['method']} {line['seeds']:g}" for _, line in several.iterrows())
        if seeds:
            found.append(f"{model}, seeds: {', '.join(seeds)}; all other rows 1.")
        for column in columns:
            empty = lines.loc[lines[column].isna(), "method"]
            if len(empty):
                what = "measured for no row" if len(empty) == len(lines) else f"not measured for {', '.join(empty)}"
                named = benchmarks.get(column, HEADINGS.get(column, column))
                found.append(f"{model}: {named} was {what}; Avg. is over the others.")
        if len(wide := lines.loc[lines["avg_acc"].notna() & lines["avg_acc_low"].isna(), "method"]):
            found.append(
                f"{model}: no interval and no test for {', '.join(wide)}: all questions of a benchmark or sub-task are "
                "about one video, and intervals are over videos."
            )
        held = {
            task
            for run in of_model
            for task in run.samples.loc[run.samples["benchmark"] == benchmarks.get("mvbench_acc"), "task"]
        }
        if 0 < len(held) < MVBENCH_SUBTASKS:
            found.append(
                f"{model}: {benchmarks['mvbench_acc']} is the mean over the {len(held)} sub-tasks that the runs hold; "
                f"MVBench has {MVBENCH_SUBTASKS} in the paper."
            )
        found += _concealed(str(model), of_model)
        stored = {name for run in of_model for name in run.samples["benchmark"].unique()}
        if others := sorted(stored - set(benchmarks.values())):
            found.append(f"{model}: also in the runs, not in this table: {', '.join(others)}.")
        found += _about_paper(str(model), paper, any(of_paper(run.info["model"]) for run in of_model))
    return list(dict.fromkeys(found))


def _concealed(model: str, runs: list[Run]) -> list[str]:
    """Which videos are damaged, so that their decoder made frames up or left some out: those of rows that count it."""
    damaged: dict[str, int] = {}
    answers = 0
    for samples in (run.samples for run in runs if "decode_errors" in run.samples):
        rows = samples[pd.to_numeric(samples["decode_errors"]) > 0]
        answers += len(rows)
        damaged |= {f"{row['benchmark']}/{row['video']}": int(row["decode_errors"]) for _, row in rows.iterrows()}
    if not damaged:
        return []
    named = ", ".join(f"{video} ({errors})" for video, errors in sorted(damaged.items())[:DAMAGED_NAMED])
    more = ", ..." if len(damaged) > DAMAGED_NAMED else ""
    return [
        f"{model}: {answers} answers are about {len(damaged)} damaged videos, whose decoding errors were concealed "
        f"(frames made up or left out): {named}{more}."
    ]


def _about_paper(model: str, paper: pd.DataFrame, is_papers: bool) -> list[str]:
    lines = paper[paper["model"] == model]
    if lines.empty and is_papers:
        return [f"{model}: these are not the paper's benchmarks, so no row of the paper stands beside its own."]
    if lines.empty:
        return [
            (
                f"{model} is none of the paper's models. Its numbers are far from theirs and say only how the "
                "methods differ on this model and these questions, so no row of the paper stands beside them."
            )
        ]
    found = [*PAPER_DIFFERS]
    lines = lines.assign(own=lines[list(ACCURACIES)].mean(axis=1))
    for _, line in lines[(lines["own"] - lines["avg_acc"]).abs() > 0.101].iterrows():
        found.append(
            f"{model}, {line['method']}: the paper prints Avg. {line['avg_acc']}, the mean of its own four cells is "
            f"{line['own']:.2f}; the gap is against the printed number."
        )
    return found


def listed(values: Mapping) -> str:
    """Names with their values, as in "torch 2.11, numpy 2.4"."""
    return ", ".join(f"{name} {value}" for name, value in values.items())
