"""Claims that tie several of the paper's tables together, or a table and its text; from results/paper/*.csv."""

from collections.abc import Iterable

from sharpv.reports.audit.checks import (
    KV_WIDTH,
    LARGE,
    ROUNDING,
    SMALL,
    TEXT_TOKENS,
    Finding,
    Paper,
)

SHARPV = "SharpV (Adaptive)"
BENCHMARKS = {"mvbench_acc": "avg_mvbench", "videomme_wo": "avg_videomme"}
TABLE4 = {SMALL: "LLaVA-OV 0.5B", LARGE: "LLaVA-OV 7B"}
PRUNING_RATE = "around 12%"
LAYERS_ABOVE = (14, 28)
BELOW_A_TENTH = 0.54
"""Text to Fig. 3: similarity is below 0.2 after layer 14 (of 28); text to Fig. 5: 54% of the layers are below 0.1."""
HALF_BYTES = 2


def pruning_rate(paper: Paper) -> Iterable[Finding]:
    """The headline number."""
    vr, mr = (paper.cell(LARGE, SHARPV, column) / 100 for column in ("vr_pct", "mr_pct"))
    recomputed = f"VR x MR = {vr:.2f} x {mr:.2f} = {vr * mr:.1%} of the tokens kept"
    reading = "it is the retained budget, not the share pruned"
    yield Finding("A9", "abstract and conclusion, pruning rate", PRUNING_RATE, recomputed, reading)


def budgets(paper: Paper) -> Iterable[Finding]:
    """Budgets that are not VR x MR, whatever was rounded to whole percents."""
    for _, line in paper.table3.iterrows():
        product = line["vr_pct"] * line["mr_pct"] / 100
        slack = 0.5 + 0.5 * (line["vr_pct"] + line["mr_pct"]) / 100
        if abs(product - line["token_budget_pct"]) > slack:
            where = f"Table 3, {line['model']}, {line['method']}, token budget"
            recomputed = f"VR x MR = {line['vr_pct']:g}% x {line['mr_pct']:g}% = {product:.2f}%"
            yield Finding("A17", where, f"{line['token_budget_pct']:g}%", recomputed, "more than rounding")


def letters(paper: Paper) -> Iterable[Finding]:
    """Letter answers, which the memory stage cannot change, in Table 3 (both stages) and Table 4 (visual alone)."""
    for model, short in TABLE4.items():
        visual = paper.table4[(paper.table4["model"] == short) & (paper.table4["method"] == "Visual SharpV")].iloc[0]
        for both, alone in BENCHMARKS.items():
            full = paper.cell(model, SHARPV, both)
            if abs(full - visual[alone]) < ROUNDING / 2:
                continue
            where = f"Table 3 against Table 4, {model}, {both.split('_')[0]}"
            reading = (
                "the first token comes before any KV is dropped (A10), so a letter is the same with and without the "
                "memory stage; either prefill itself is cut or the runs differ: MemorySharpV.acts"
            )
            printed = f"SharpV {full:g}, Visual SharpV alone {visual[alone]:g}"
            yield Finding("A12", where, printed, f"difference {full - visual[alone]:+.1f}, expected 0", reading)


def memory(paper: Paper) -> Iterable[Finding]:
    """The memory saved against the size of the whole visual and text KV cache."""
    for model in (SMALL, LARGE):
        rows = paper.visual_tokens(model) + TEXT_TOKENS
        cache = 2 * paper.size(model, "layers") * KV_WIDTH[model] * rows * HALF_BYTES
        dense, ours = (paper.cell(model, method, "memory_gb") for method in ("Dense", SHARPV))
        recomputed = f"the dense KV cache of {rows} rows in fp16 is {cache / 1e6:.0f} MB"
        printed = f"{dense:g} to {ours:g} GB"
        reading = "what is saved is not the KV cache; do not chase it"
        yield Finding("A14", f"Table 3, {model}, memory", printed, recomputed, reading)


def layers_kept(paper: Paper) -> Iterable[Finding]:
    """MR against the paper's two statements about similarity per layer."""
    above, depth = LAYERS_ABOVE
    recomputed = (
        f"text to Fig. 3: below 0.2 only after layer {above} of {depth}, so at least {above / depth:.0%} of the layers "
        f"stay; text to Fig. 5: {BELOW_A_TENTH:.0%} are below 0.1, so at most {1 - BELOW_A_TENTH:.0%} stay at M = 0.1, "
        "and fewer at 0.2"
    )
    reading = "the three statements do not fit together: measure"
    yield Finding(
        "A15", "Table 3, SharpV, MR at M = 0.2", f"{paper.cell(LARGE, SHARPV, 'mr_pct'):g}%", recomputed, reading
    )


def first_token(paper: Paper) -> Iterable[Finding]:
    """TTFT of the small model, with the dense rows as two equations for a fixed time and a time per operation."""
    times = {model: paper.cell(model, "Dense", "ttft_s") for model in (SMALL, LARGE)}
    work = {model: paper.cell(model, "Dense", "tflops") for model in (SMALL, LARGE)}
    per_operation = (times[LARGE] - times[SMALL]) / (work[LARGE] - work[SMALL])
    fixed = times[SMALL] - per_operation * work[SMALL]
    expected = fixed + per_operation * paper.cell(SMALL, SHARPV, "tflops")
    recomputed = (
        f"the dense rows as two equations give {fixed:.2f} s that pruning does not touch, so {expected:.2f} s, "
        f"{times[SMALL] / expected:.2f}x"
    )
    ours, speed_up = (paper.cell(SMALL, SHARPV, column) for column in ("ttft_s", "ttft_speedup"))
    reading = "the vision tower's time bounds the speed-up; our tables print that bound beside every TTFT"
    printed = f"{times[SMALL]:g} to {ours:g} s, {speed_up:g}x"
    yield Finding("A16", f"Table 3, {SMALL}, {SHARPV}, TTFT", printed, recomputed, reading)


def speed_ups(paper: Paper) -> Iterable[Finding]:
    """Printed speed-ups that the printed times, whatever was rounded to 0.01 s, do not give."""
    for _, line in paper.table3.iterrows():
        dense_s, ours_s = paper.cell(line["model"], "Dense", "ttft_s"), line["ttft_s"]
        low, high = (dense_s - 0.005) / (ours_s + 0.005), (dense_s + 0.005) / (ours_s - 0.005)
        if not low - 0.005 <= line["ttft_speedup"] <= high + 0.005:
            where = f"Table 3, {line['model']}, {line['method']}, speed-up"
            recomputed = f"{dense_s / ours_s:.2f}x from the printed times"
            yield Finding("A18", where, f"{line['ttft_speedup']:g}x", recomputed, "more than rounding")
