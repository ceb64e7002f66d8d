"""Where the paper's tables contradict themselves or plain arithmetic, recomputed from results/paper/*.csv.

Sizes that the tables lack are those of the released models' config.json (Qwen2-0.5B and 7B); what the paper says in its
text only is quoted where it is used. Numbers A1, A2, ... are those that code and configurations refer to.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations
from math import ceil
from pathlib import Path

import pandas as pd

ACCURACIES = ["mvbench_acc", "videomme_wo", "nextqa_mc", "actnetqa_acc"]
VIDEOMME = ["videomme_short", "videomme_medium", "videomme_long"]
ROUNDING = 0.1 + 1e-9
"""A mean of printed numbers and its printed mean may differ by 0.05 + 0.05."""
OTHER = "A19"
"""A mean that is off in a row where it was not when the numbers were given."""
TEXT_TOKENS = 80
FASTV_LAYER, FASTV_KEPT, DYCOKE_PRUNED = 3, 0.3, 0.7
"""From the paper's implementation details."""
SMALL, LARGE = "LLaVA-OneVision 0.5B", "LLaVA-OneVision 7B"
SPECIFICATIONS = {SMALL: "LLaVAOV-0.5B", LARGE: "LLaVAOV-7B"}
FFN_WIDTH = {SMALL: 4864, LARGE: 18944}
KV_WIDTH = {SMALL: 2 * 64, LARGE: 4 * 128}
"""Key heads times their width."""


@dataclass(frozen=True)
class Finding:
    """A contradiction: what is printed, what follows from other numbers, and how we read it."""

    number: str
    where: str
    printed: str
    recomputed: str
    reading: str


@dataclass(frozen=True)
class Paper:
    """The published tables."""

    models: pd.DataFrame
    table3: pd.DataFrame
    table4: pd.DataFrame

    @property
    def sub_tasks(self) -> list[str]:
        columns = list(self.table4.columns)
        return columns[columns.index("method") + 1 : columns.index(VIDEOMME[0])]

    def cell(self, model: str, method: str, column: str) -> float:
        """A number of Table 3."""
        line = self.table3[(self.table3["model"] == model) & (self.table3["method"] == method)]
        return float(line[column].iloc[0])

    def size(self, model: str, column: str) -> int:
        """A number of Table 2."""
        return int(self.models.loc[self.models["model"] == SPECIFICATIONS[model], column].iloc[0])

    def visual_tokens(self, model: str) -> int:
        return self.size(model, "frames") * self.size(model, "tokens_per_frame")


def load_paper(folder: Path) -> Paper:
    """Tables 2, 3 and 4 of a folder of published tables."""
    names = ("table2_models", "table3", "table4")
    return Paper(*(pd.read_csv(folder / f"{name}.csv") for name in names))


def averages(paper: Paper) -> Iterable[Finding]:
    """Printed averages that are not the mean of their own cells."""
    table3 = paper.table3.assign(own=paper.table3[ACCURACIES].mean(axis=1))
    yield from _off(
        table3,
        "own",
        "avg_acc",
        "Table 3",
        "Avg. Acc. is not the mean of its four cells",
        {f"{SMALL}, SharpV (Manual)": "A1"},
    )
    table4 = paper.table4.assign(
        mvbench=paper.table4[paper.sub_tasks].mean(axis=1), videomme=paper.table4[VIDEOMME].mean(axis=1)
    )
    numbers = {
        "LLaVA-OV 7B, V-Random (dagger)": "A2",
        "LLaVA-OV 0.5B, Visual SharpV": "A3",
        "LLaVA-OV 0.5B, V-Random (star)": "A4",
    }
    reading = f"the printed MVBench average is not the mean of its {len(paper.sub_tasks)} cells"
    yield from _off(table4, "mvbench", "avg_mvbench", "Table 4, MVBench", reading, numbers)
    reading = "the printed VideoMME average is not the mean of its three cells"
    yield from _off(table4, "videomme", "avg_videomme", "Table 4, VideoMME", reading, {})


def _off(table: pd.DataFrame, own: str, printed: str, where: str, reading: str, numbers: dict) -> Iterable[Finding]:
    for _, line in table[(table[own] - table[printed]).abs() > ROUNDING].iterrows():
        row = f"{line['model']}, {line['method']}"
        number = numbers.get(row, OTHER)
        yield Finding(number, f"{where}, {row}", f"{line[printed]:g}", f"{line[own]:.2f}", reading)


def copies(paper: Paper) -> Iterable[Finding]:
    """Rows of different models that agree in VideoMME's three lengths and in both averages."""
    columns = [*VIDEOMME, "avg_mvbench", "avg_videomme"]
    for (_, one), (_, other) in combinations(paper.table4.iterrows(), 2):
        if one["model"] == other["model"] or (one[columns] != other[columns]).any():
            continue
        printed = ", ".join(f"{one[column]:g}" for column in columns)
        where = f"Table 4, {one['model']}, {one['method']}"
        same = f"the same five numbers stand at {other['model']}, {other['method']}"
        reading = "copied; its own 20 MVBench cells are not affected, so only these five say nothing"
        yield Finding("A2", where, printed, same, reading)


def dycoke(paper: Paper) -> Iterable[Finding]:
    """DyCoke's retention: what its code keeps of these videos, and where the printed MR comes from."""
    tokens, frames = paper.size(LARGE, "tokens_per_frame"), paper.size(LARGE, "frames")
    for dropped in (0.5, 0.7):
        method = f"DyCoke (K={dropped:g})"
        kept = dycoke_kept(frames, tokens, dropped)
        printed = paper.cell(LARGE, method, "vr_pct")
        reading = "the printed VR is 1 - K, the share kept of a pruned frame, not of the video"
        recomputed = f"the official rule keeps {kept} of {frames * tokens} tokens, {kept / frames / tokens:.1%}"
        yield Finding("A5", f"Table 3, {method}, VR", f"{printed:g}%", recomputed, reading)
    for dropped in (0.5, 0.7):
        method = f"DyCoke (K={dropped:g})"
        budget = (0.25 + 0.75 * (1 - dropped)) * (1 - DYCOKE_PRUNED)
        recomputed = (
            f"DyCoke's own final ratio {budget:.2%}, divided by a VR of {1 - dropped:.0%}: {budget / (1 - dropped):.1%}"
        )
        reading = "an artefact of dividing by a VR that is not kept; MR as measured depends on the decode steps"
        yield Finding("A6", f"Table 3, {method}, MR", f"{paper.cell(LARGE, method, 'mr_pct'):g}%", recomputed, reading)


def dycoke_kept(frames: int, tokens: int, dropped: float) -> int:
    """Tokens that DyCoke's official temporal merging keeps (KD-TAO/DyCoke@dd74634): odd frames keep k of their tokens,
    every fourth frame all, those between k except in the last window."""
    each, half = int((1 - dropped) * tokens), frames // 2
    between = ceil(max(frames - 4, 0) / 4)
    return (half - between) * tokens + (half + between) * each


def fastv(paper: Paper) -> Iterable[Finding]:
    """FastV's MR over all layers."""
    for model in (SMALL, LARGE):
        layers = paper.size(model, "layers")
        share = (FASTV_LAYER + (layers - FASTV_LAYER) * FASTV_KEPT) / layers
        recomputed = f"with {FASTV_LAYER} full layers of {layers}: {share:.1%} over all layers"
        reading = "the printed MR is the share behind the pruning layer"
        yield Finding(
            "A7", f"Table 3, {model}, FastV, MR", f"{paper.cell(model, 'FastV', 'mr_pct'):g}%", recomputed, reading
        )


def eq5_tflops(paper: Paper, model: str, layer_tokens: Iterable[float]) -> float:
    """1e12 operations of a prefill by 4nd^2 + 2n^2d + 2ndm, n = visual tokens of the layer + the text's."""
    d, m = paper.size(model, "dimension"), FFN_WIDTH[model]
    return sum(4 * n * d**2 + 2 * n**2 * d + 2 * n * d * m for n in (v + TEXT_TOKENS for v in layer_tokens)) / 1e12


def operations(paper: Paper) -> Iterable[Finding]:
    """The TFLOPs column against the one formula that gives its dense 7B cell."""
    tokens, layers = paper.visual_tokens(LARGE), paper.size(LARGE, "layers")
    dense = eq5_tflops(paper, LARGE, [tokens] * layers)
    for method in ("SharpV (Manual)", "SharpV (Adaptive)"):
        share = paper.cell(LARGE, method, "vr_pct") / 100
        recomputed = (
            f"{eq5_tflops(paper, LARGE, [share * tokens] * layers):.1f} at its VR of {share:.0%}; dense {dense:.1f}"
        )
        printed = f"{paper.cell(LARGE, method, 'tflops'):g}; dense {paper.cell(LARGE, 'Dense', 'tflops'):g}"
        reading = "4nd^2 + 2n^2d + 2ndm gives the dense cell; no single formula gives the column"
        yield Finding("A8", f"Table 3, {LARGE}, {method}, TFLOPs", printed, recomputed, reading)
    kept = [tokens] * FASTV_LAYER + [FASTV_KEPT * tokens] * (layers - FASTV_LAYER)
    ours, other = paper.cell(LARGE, "FastV", "tflops"), paper.cell(LARGE, "DyCoke (K=0.7)", "tflops")
    reading = "equal to DyCoke's cell" if ours == other else "another formula"
    recomputed = f"{eq5_tflops(paper, LARGE, kept):.1f}; DyCoke (K=0.7) prints {other:g}"
    yield Finding("A13", f"Table 3, {LARGE}, FastV, TFLOPs", f"{ours:g}", recomputed, reading)
    small = eq5_tflops(paper, SMALL, [paper.visual_tokens(SMALL)] * paper.size(SMALL, "layers"))
    reading = "the formula that fits the dense 7B cell does not fit this one"
    printed = f"{paper.cell(SMALL, 'Dense', 'tflops'):g}"
    yield Finding("A13", f"Table 3, {SMALL}, Dense, TFLOPs", printed, f"{small:.2f}", reading)
