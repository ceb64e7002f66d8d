"""Cells and tables in Markdown and LaTeX."""

import math
import re
from collections.abc import Sequence
from typing import Any

import pandas as pd

EMPTY = "\u2013"
TIMES = "\u00d7"
BREAKS = re.compile(r"[\r\n\v\f\x1c-\x1e\x85\u2028\u2029]+")
MINUS = re.compile(r"(?<![\w-])-(?=\d)")
LATEX = {sign: f"\\{sign}" for sign in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "[": "{[}",
    "]": "{]}",
    EMPTY: "--",
    TIMES: r"$\times$",
    "Δ": r"$\Delta$",
}


def fixed(value: float, digits: int = 1, sign: bool = False) -> str:
    """The value with this many decimals; a dash where it is NaN."""
    return EMPTY if math.isnan(value) else f"{value:{'+' if sign else ''}z.{digits}f}"


def significant(value: float, digits: int = 3) -> str:
    """The value with this many significant digits, never in powers of ten; a dash where it is NaN."""
    if math.isnan(value) or value == 0:
        return EMPTY if math.isnan(value) else "0"
    return f"{value:.{max(0, digits - 1 - math.floor(math.log10(abs(value))))}f}"


def difference(value: float, low: float, high: float) -> str:
    """A signed difference with its interval; a dash where it is NaN."""
    return f"{fixed(value, sign=True)} {ends(low, high, sign=True)}".strip()


def p_value(p: float) -> str:
    """Three decimals, "<0.001" below; a dash where it is NaN."""
    return "<0.001" if p < 0.001 else fixed(p, 3)


def ends(low: float, high: float, digits: int = 1, sign: bool = False) -> str:
    """An interval in brackets; empty where an end is NaN."""
    missing = math.isnan(low) or math.isnan(high)
    return "" if missing else f"[{fixed(low, digits, sign)}, {fixed(high, digits, sign)}]"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A pipe table, padded to be read as plain text too: first column left, the others right."""
    lines = [[_cell(cell) for cell in row] for row in (header, *rows)]
    widths = [max(3, *(len(line[column]) for line in lines)) for column in range(len(header))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    padded = [
        [line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))]
        for line in lines
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in (padded[0], rule, *padded[1:]))


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A pipe table of texts: all columns left, not padded."""
    lines = [[_cell(cell) for cell in row] for row in (header, ["---"] * len(header), *rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def markdown_text(text: str) -> str:
    """Plain text on one line of Markdown, in which no HTML begins."""
    return re.sub(r"<(?=[a-zA-Z/!?])", "&lt;", _one_line(text))


def _one_line(text: str) -> str:
    return BREAKS.sub(" ", text)


def _cell(text: str) -> str:
    return markdown_text(text).replace("|", "\\|")


def csv_text(table: pd.DataFrame) -> str:
    """A table as CSV, in whose texts no spreadsheet sees a formula: those that begin like one get an apostrophe."""
    texts = table.select_dtypes(exclude="number").columns
    guarded = table.assign(**{name: table[name].map(_no_formula) for name in texts})
    return guarded.to_csv(index=False, float_format="%.6g", lineterminator="\n")


def _no_formula(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def latex_text(text: str) -> str:
    """Plain text as LaTeX: special signs escaped, others outside ASCII as "?", so that any engine compiles it."""
    escaped = "".join(LATEX.get(character, character) for character in _one_line(text))
    return escaped.encode("ascii", "replace").decode()


def latex_row(cells: Sequence[str], style: str = "") -> str:
    """A line of a LaTeX table from plain texts, each in this style; the minus of a number becomes a real one."""
    texts = (MINUS.sub("$-$", latex_text(cell)) for cell in cells)
    return " & ".join(style + text if text else "" for text in texts) + r" \\"
