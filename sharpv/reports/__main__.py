"""Reports from stored runs on any machine:

python -m sharpv.reports {table1,table2,table3,table4,fig5,field_table,frames,categories,figures,audit} [RECORD ...]
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from sharpv.paths import REPOSITORY, made_dir, paper_dir, results_dir

PAPER = paper_dir()
TABLES = ("table1", "table2", "table3", "table4", "fig5", "field_table", "frames", "categories")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0, or 2 with a message for what a user can mend."""
    options = _parser().parse_args(arguments)
    try:
        if options.report == "audit":
            _audit(options)
        elif options.report == "figures":
            _figures(options)
        else:
            _table(options)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _audit(options: argparse.Namespace) -> None:
    from sharpv.reports.audit.report import write_audit

    found = write_audit(options.paper, options.output)
    print(f"{len(found)} findings in {options.output}")


def _table(options: argparse.Namespace) -> None:
    from sharpv.reports.runs import paper_columns
    from sharpv.reports.store import load_runs
    from sharpv.reports.write import LONG, write_report

    name = options.name or f"last_{options.report}"
    runs = load_runs(_runs(options), short=options.report not in LONG)
    columns = {} if options.report == "categories" else paper_columns(runs)
    write_report(options.report, runs, options.output, options.paper, columns, None, name, options.reference)
    path = options.output / f"{name}.md"
    print(path.read_text(encoding="utf-8"))
    print(f"written: {path}, .csv, .tex")


def _figures(options: argparse.Namespace) -> None:
    from sharpv.reports.figures.build import write_figures

    folders = _runs(options)
    task, _, number = options.question.rpartition("/")
    if options.question and not (task and number.isdigit()):
        raise ValueError(f"--question {options.question!r} must be TASK/NUMBER, as in tiny_mvbench_dot_count/3")
    rows = [row for row in options.rows.split(",") if row]
    question = (task, int(number)) if options.question else None
    name = "figures" if options.experiment == "table3" and not options.runs else f"{options.experiment}_figures"
    output = options.output or results_dir() / name
    highlight = [name for name in options.highlight.split(",") if name]
    written, left_out = write_figures(
        folders, output, options.paper / "table3.csv", options.videos, question, rows, highlight
    )
    print("\n".join(str(path) for path in written))
    for reason in left_out:
        print(f"left out: {reason}", file=sys.stderr)
    if not written:
        raise ValueError(f"none of the figures could be drawn from {[str(folder) for folder in folders]}")


def _runs(options: argparse.Namespace) -> list[Path]:
    from sharpv.reports.runs import record_of

    if options.runs:
        return options.runs
    record = record_of(options.experiment)
    print(f"made from {record}")
    return [record]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sharpv.reports", description=__doc__)
    reports = parser.add_subparsers(dest="report", required=True)
    several = "records of experiments (results/experiments/*.json) or run folders; none: of --experiment"
    for name in TABLES:
        table = reports.add_parser(name, help=f"{name} as .md, .csv and .tex")
        table.add_argument("runs", nargs="*", type=Path, help=several)
        own = name if name in ("table1", "table2", "table4", "fig5", "field_table", "frames") else "table3"
        table.add_argument("--experiment", default=own, help="an experiment that was run here")
        table.add_argument("--name", default="", help=f"of the files; none: last_{name}")
        table.add_argument("--reference", metavar="ROW", help="table3: compare all rows with this one too")
        table.add_argument("--output", type=Path, default=results_dir())
        table.add_argument("--paper", type=Path, default=PAPER, help="folder of published tables")
    figures = reports.add_parser("figures", help="every figure that the runs hold data for, as SVG and PNG")
    figures.add_argument("runs", nargs="*", type=Path, help=several)
    figures.add_argument("--experiment", default="table3", help="an experiment that was run here")
    figures.add_argument("--output", type=Path, help="none: results/figures for table3, else results/<name>_figures")
    figures.add_argument("--paper", type=Path, default=PAPER, help="folder of published tables")
    figures.add_argument("--videos", type=Path, default=made_dir(), help="folder that holds the videos somewhere below")
    figures.add_argument("--question", default="", metavar="TASK/NUMBER", help="of the film strip; none: chosen")
    figures.add_argument("--rows", default="", metavar="ROW,ROW", help="of the film strip; none: chosen")
    figures.add_argument("--highlight", default="SharpV", metavar="NAME,NAME", help="methods that stand out")
    audit = reports.add_parser("audit", help="where the paper's tables contradict themselves")
    audit.add_argument("--paper", type=Path, default=PAPER, help="folder of published tables")
    audit.add_argument("--output", type=Path, default=REPOSITORY / "docs" / "paper_audit.md")
    return parser


if __name__ == "__main__":
    sys.exit(main())
