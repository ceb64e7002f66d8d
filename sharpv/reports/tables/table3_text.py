"""How Table 3 looks: Markdown with all columns in three tables a model, LaTeX (booktabs) with the paper's columns."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import cast

import pandas as pd

from sharpv.reports.document import Section
from sharpv.reports.markup import (
    EMPTY,
    TIMES,
    ends,
    fixed,
    latex_row,
    latex_text,
    markdown_table,
    markdown_text,
    p_value,
    significant,
    text_table,
)
from sharpv.reports.tables.table3_columns import ACCURACIES, BENCHMARK_COLUMNS, HEADINGS, SCORE

NUMBERED = re.compile(r"^Table \d+: ")
GROUPS = {"budget-matched": "Budget-matched", "control": "Controls"}


@dataclass(frozen=True)
class Column:
    """A printed column: its head, the table's column, how a value is written, and whether an interval stands by it."""

    head: str
    name: str
    write: Callable[[float], str] = fixed
    digits: int | None = None
    sign: bool = False
    prefix: str = ""

    def value(self, line: pd.Series) -> str:
        return self.write(float(line[self.name]))

    def printed(self, line: pd.Series) -> str:
        """The paper's number with the digits that it has; a dash where it has none."""
        return f"{line[self.name]:g}" if self.name in line else EMPTY

    def interval(self, line: pd.Series) -> str:
        """The 95% interval in brackets; empty for a column without one."""
        if self.digits is None:
            return ""
        prefix = self.prefix or self.name
        return ends(line[f"{prefix}_low"], line[f"{prefix}_high"], self.digits, self.sign)


def _signed(value: float) -> str:
    return fixed(value, 1, sign=True)


def _two(value: float) -> str:
    return fixed(value, 2)


def _times(value: float) -> str:
    return f"{fixed(value, 2)}{TIMES}" if pd.notna(value) else EMPTY


def _whole(value: float) -> str:
    return f"{value:g}"


BENCHMARKS = (
    *(Column(HEADINGS[name], name, digits=1) for name in ACCURACIES),
    Column(HEADINGS[SCORE], SCORE, _two, digits=2),
    Column("Avg.", "avg_acc", digits=1),
    Column("Δ dense", "diff_to_dense", _signed, digits=1, sign=True, prefix="diff"),
)
IF_ANY = ("gap_to_paper", "actnetqa_offline")
"""Columns that are printed only where some row fills them."""
ACCURACY = (
    *BENCHMARKS,
    Column("p (Holm)", "p_holm", p_value),
    Column("gap to paper", "gap_to_paper", _signed),
    Column("ActNet offline", "actnetqa_offline"),
)
COST = (
    Column("budget %", "token_budget_pct"),
    Column("VR %", "vr_pct"),
    Column("VR asked %", "vr_requested"),
    Column("MR %", "mr_pct"),
    Column("MR after layer %", "mr_after_layer_pct"),
    Column("KV held %", "kv_held_pct"),
    Column("TFLOPs", "tflops", significant),
    Column("TFLOPs exact", "tflops_exact", significant),
    Column("memory GB", "memory_gb", significant),
    Column("largest", "memory_max_gb", significant),
    Column("TTFT s", "ttft_s", significant),
    Column("quartiles", "ttft_q25_s", significant),
    Column("speed-up", "ttft_speedup", _times),
    Column("vision bound", "vision_bound_speedup", _times),
    Column("TPOT ms", "tpot_ms", significant),
    Column("prune ms", "prune_ms", significant),
    Column("samples/s", "samples_per_s", significant),
)
EVIDENCE = (
    Column("questions", "n_questions", _whole),
    Column("videos", "n_videos", _whole),
    Column("seeds", "seeds", _whole),
    Column("unanswered", "unanswered", _whole),
    Column("failed", "n_errors", _whole),
    Column("missing", "n_missing", _whole),
    Column("p sign flip", "p_sign_flip", p_value),
    Column("p (Holm)", "p_holm", p_value),
    Column("p McNemar", "p_mcnemar", p_value),
    Column("smallest detectable", "smallest_detectable"),
)
PRINTED = (
    Column("Budget", "token_budget_pct"),
    *BENCHMARKS,
    Column("VR", "vr_pct"),
    Column("MR", "mr_pct"),
    Column("TFLOPs", "tflops", significant),
    Column("Mem.", "memory_gb", significant),
    Column("TTFT", "ttft_s", significant),
)


def markdown(
    table: pd.DataFrame,
    paper: pd.DataFrame,
    warnings: list[str],
    notes: list[str],
    title: str,
    settings: Mapping[str, Section],
    compared: Mapping[str, Section],
    headings: Mapping[str, str],
) -> str:
    """The page: title and warnings first, then per model accuracy, cost, evidence, what is `compared` with another row
    than dense, and settings, then the notes.

    headings: of the benchmarks' columns, in their order; empty for Table 3's own.
    """
    published = paper.set_index(["model", "method"])
    parts = [f"# {markdown_text(title)}"]
    parts += ["\n".join(f"> **{markdown_text(text)}**  " for text in warnings)] if warnings else []
    for model, lines in table.groupby("model", sort=False):
        accuracy = _used(_benchmarks(ACCURACY, headings), lines)
        parts += [
            f"## {markdown_text(str(model))}",
            "Accuracy in percent with 95% intervals, difference to dense in points.",
            markdown_table(["Method", *_heads(accuracy)], list(_rows(lines, accuracy, published))),
            "Budget and cost.",
            markdown_table(["Method", *_heads(COST)], list(_rows(lines, COST, published))),
            "What stands behind the accuracies.",
            markdown_table(["Method", *_heads(EVIDENCE)], list(_rows(lines, EVIDENCE))),
        ]
        if section := compared.get(str(model)):
            rows = [line.cells for line in section.lines]
            parts += [f"{markdown_text(section.heading)}. {section.sentence}", markdown_table(section.header, rows)]
        if section := settings.get(str(model)):
            parts += [
                f"{section.heading}. {section.sentence}",
                text_table(section.header, [line.cells for line in section.lines]),
            ]
    parts += ["## Notes", "\n".join(f"- {markdown_text(note)}" for note in notes)]
    return "\n\n".join(parts) + "\n"


def latex(
    table: pd.DataFrame,
    paper: pd.DataFrame,
    warnings: list[str],
    notes: list[str],
    title: str,
    headings: Mapping[str, str],
    label: str,
) -> str:
    """One `table*` that needs only booktabs: the paper's columns, the intervals in a second, smaller line."""
    published = paper.set_index(["model", "method"])
    printed = _benchmarks(PRINTED, headings)
    width = len(printed) + 1
    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{table*}[t]",
        r"\centering\scriptsize\setlength{\tabcolsep}{2.5pt}",
        rf"\begin{{tabular}}{{@{{}}l{'r' * len(printed)}@{{}}}}",
        r"\toprule",
        latex_row(["Method", *_heads(printed)]),
    ]
    for model, part in table.groupby("model", sort=False):
        lines += [r"\midrule", rf"\multicolumn{{{width}}}{{@{{}}l}}{{\textbf{{{latex_text(str(model))}}}}} \\"]
        for line, group in _with_groups(part):
            if group:
                lines += [r"\addlinespace", rf"\multicolumn{{{width}}}{{@{{}}l}}{{\textit{{{group}}}}} \\"]
            lines.append(latex_row([line["method"], *(column.value(line) for column in printed)]))
            intervals = [column.interval(line) for column in printed]
            if any(intervals):
                lines.append(latex_row(["", *intervals], r"\tiny "))
            if (model, line["method"]) in published.index:
                paper_line = cast(pd.Series, published.loc[(model, line["method"])])
                lines.append(latex_row(["(paper)", *(column.printed(paper_line) for column in printed)], r"\itshape "))
    caption = [r"\textbf{" + latex_text(warning) + "}" for warning in warnings]
    caption.append(
        latex_text(NUMBERED.sub("", title))
        + r". Accuracy, budget, VR and MR in percent, 95\% intervals in brackets, memory in GB, TTFT in seconds."
    )
    lines += [
        r"\bottomrule",
        r"\end{tabular}",
        r"\caption{" + " ".join(caption) + "}",
        rf"\label{{tab:{label}}}",
        r"\par\smallskip\raggedright\tiny",
        *(latex_text(note) + r"\par" for note in notes),
        r"\end{table*}",
    ]
    return "\n".join(lines) + "\n"


def _benchmarks(columns: tuple[Column, ...], headings: Mapping[str, str]) -> tuple[Column, ...]:
    """These columns with those of the benchmarks asked for in the place of Table 3's, where headings are given."""
    if not headings:
        return columns
    of_table3 = {column.name: column for column in columns if column.name in BENCHMARK_COLUMNS}
    asked = [of_table3.get(name) or Column(head, name, digits=1) for name, head in headings.items()]
    first = next(at for at, column in enumerate(columns) if column.name in of_table3)
    others = [column for column in columns if column.name not in of_table3]
    return (*others[:first], *asked, *others[first:])


def _used(columns: tuple[Column, ...], lines: pd.DataFrame) -> tuple[Column, ...]:
    return tuple(column for column in columns if column.name not in IF_ANY or lines[column.name].notna().any())


def _heads(columns: tuple[Column, ...]) -> list[str]:
    return [column.head for column in columns]


def _rows(
    lines: pd.DataFrame, columns: tuple[Column, ...], published: pd.DataFrame | None = None
) -> Iterator[list[str]]:
    for line, group in _with_groups(lines):
        if group:
            yield [f"*{group}*", *("" for _ in columns)]
        yield [line["method"], *(_cell(column, line) for column in columns)]
        key = (line["model"], line["method"])
        if published is not None and key in published.index:
            paper_line = published.loc[key]
            printed = [column.printed(paper_line) for column in columns]
            yield ["*(paper)*", *(value if value == EMPTY else f"*{value}*" for value in printed)]


def _cell(column: Column, line: pd.Series) -> str:
    if column.name == "ttft_q25_s" and pd.notna(line["ttft_q25_s"]):
        return f"{significant(line['ttft_q25_s'])}{EMPTY}{significant(line['ttft_q75_s'])}"
    return f"{column.value(line)} {column.interval(line)}".strip()


def _with_groups(lines: pd.DataFrame) -> Iterator[tuple[pd.Series, str]]:
    """Each line with the heading that goes above it, "" for none."""
    above = ""
    for _, line in lines.iterrows():
        heading = GROUPS.get(line["kind"], "")
        yield line, heading if heading != above else ""
        above = heading
