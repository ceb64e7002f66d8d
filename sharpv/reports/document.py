"""A report as title, warnings, tables of written cells and notes; the same content as Markdown and as LaTeX."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sharpv.files import write_whole
from sharpv.reports.markup import EMPTY, latex_row, latex_text, markdown_table, markdown_text, text_table


@dataclass(frozen=True)
class Line:
    """A line of a table. style: `paper` for published numbers, `group` for a heading in the first cell."""

    cells: Sequence[str]
    style: Literal["", "paper", "group"] = ""


@dataclass(frozen=True)
class Section:
    """One table under a heading, with a sentence that says what its cells are. numbers: False for cells of text."""

    heading: str
    sentence: str
    header: Sequence[str]
    lines: Sequence[Line]
    numbers: bool = True


@dataclass(frozen=True)
class Document:
    """A report in plain text; both writers escape what needs it."""

    title: str
    sections: Sequence[Section]
    warnings: Sequence[str] = field(default_factory=tuple)
    notes: Sequence[str] = field(default_factory=tuple)

    def write(self, stem: Path) -> None:
        """Write <stem>.md and <stem>.tex."""
        write_whole(stem.with_name(f"{stem.name}.md"), self.markdown())
        write_whole(stem.with_name(f"{stem.name}.tex"), self.latex(stem.name))

    def markdown(self) -> str:
        """Warnings first, then each table, then the notes."""
        parts = [f"# {markdown_text(self.title)}"]
        parts += ["\n".join(f"> **{markdown_text(text)}**  " for text in self.warnings)] if self.warnings else []
        for section in self.sections:
            parts += [f"## {markdown_text(section.heading)}"] if section.heading else []
            table = markdown_table if section.numbers else text_table
            parts += [markdown_text(section.sentence), table(section.header, [_italic(line) for line in section.lines])]
        if self.notes:
            parts += ["## Notes", "\n".join(f"- {markdown_text(note)}" for note in self.notes)]
        return "\n\n".join(parts) + "\n"

    def latex(self, label: str) -> str:
        """A `table*` a section that needs only booktabs; warnings and notes under the last."""
        tables = [_tabular(section) for section in self.sections]
        bold = [r"\textbf{" + latex_text(warning) + "}" for warning in self.warnings]
        lines = [r"% needs \usepackage{booktabs}"]
        for index, (section, table) in enumerate(zip(self.sections, tables, strict=True)):
            caption = [*bold, latex_text(f"{self.title}. {section.heading}. {section.sentence}".replace(". . ", ". "))]
            lines += [r"\begin{table*}[t]", r"\centering\scriptsize\setlength{\tabcolsep}{3pt}", *table]
            lines += [r"\caption{" + " ".join(caption) + "}", rf"\label{{tab:{label}{index or ''}}}"]
            if index == len(tables) - 1 and self.notes:
                lines += [r"\par\smallskip\raggedright\tiny", *(latex_text(note) + r"\par" for note in self.notes)]
            lines.append(r"\end{table*}")
        return "\n".join(lines) + "\n"


def _italic(line: Line) -> list[str]:
    if line.style == "group":
        return [f"*{line.cells[0]}*", *line.cells[1:]]
    if line.style == "paper":
        return [cell if cell in ("", EMPTY) else f"*{cell}*" for cell in line.cells]
    return list(line.cells)


def _tabular(section: Section) -> list[str]:
    width = len(section.header)
    text = rf"p{{{0.85 / max(1, width - 1):.2f}\textwidth}}"
    columns = ("r" if section.numbers else text) * (width - 1)
    lines = [
        rf"\begin{{tabular}}{{@{{}}l{columns}@{{}}}}",
        r"\toprule",
        latex_row(section.header),
        r"\midrule",
    ]
    for index, line in enumerate(section.lines):
        if line.style == "group":
            lines += [r"\addlinespace"] if index else []
            lines.append(rf"\multicolumn{{{width}}}{{@{{}}l}}{{\textit{{{latex_text(line.cells[0])}}}}} \\")
        else:
            lines.append(latex_row(line.cells, r"\itshape " if line.style == "paper" else ""))
    return [*lines, r"\bottomrule", r"\end{tabular}"]
