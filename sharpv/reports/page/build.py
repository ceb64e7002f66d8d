"""One self-contained HTML page of runs: overview, table, figures, and every answer with the tokens that were kept.

python -m sharpv.reports.page.build [RUN_DIR ...] [--output FILE] [--videos FOLDER] [--figures FOLDER]

Needs the run store alone (the videos for the pictures); the page itself fetches nothing but, where it is of more than
IN_ONE answers, the parts that a reader looks at: scripts in a folder beside it. What it is made of is in assets/.
Runs of several models give a page each.
"""

import argparse
import base64
import hashlib
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jinja2
import pandas as pd

from sharpv.files import write_whole
from sharpv.paths import made_dir, paper_dir, results_dir
from sharpv.reports.comparison import by_model, model_name
from sharpv.reports.figures.build import write_figures
from sharpv.reports.page.data import PageData, packed
from sharpv.reports.page.parts import forget_others, write_parts
from sharpv.reports.page.pictures import TILES_A_ROW, sheets
from sharpv.reports.runs import marked, paper_columns, record_of
from sharpv.reports.store import Run, load_runs
from sharpv.reports.tables import table3_notes
from sharpv.reports.tables.paper_names import published_beside
from sharpv.reports.tables.table3 import build_table3

PAPER_CSV = paper_dir() / "table3.csv"
ASSETS = Path(__file__).parent / "assets"
SCRIPTS = ("common.js", "table.js", "filters.js", "samples.js", "strip.js", "page.js")
SHOWN = ("status", "created", "command", "dtype", "attention", "hardware", "versions", "git")
ABOUT_PICTURES = (
    "Film strips: as many frames as the model saw, taken evenly from the first to the last of the video, as "
    "LLaVA-OneVision takes them; a model that crops or samples otherwise saw others."
)
PICTURES = {".svg": "image/svg+xml", ".png": "image/png"}
IN_ONE = 20_000
"""Answers of a page that is one file: about 50 MB."""


def write_page(
    run_dirs: Sequence[Path | Run],
    output: Path,
    videos: Path,
    figures: Path,
    side: int = 96,
    in_one: int = IN_ONE,
) -> None:
    """Write the page of run folders of one model. videos: where their videos lie, at any depth. figures: *.svg and
    *.png to embed, an SVG before a PNG of the same name. side: of a frame's picture in pixels. in_one: up to so many
    answers are in the page itself; of more, texts, kept tokens and frames are in a folder beside it.

    Raises ValueError for a folder that holds no scored run, for runs of several models, and where no column of the
    table is for their benchmarks.
    """
    runs = load_runs(run_dirs)
    models = {run.info["model"]["name"]: model_name(run) for run in runs}
    if len(models) != 1:
        raise ValueError(f"a page is for one model, these runs are of {sorted(models)}: make a page for each")
    table, notes = _table(runs)
    data = PageData(runs, table["row"].tolist())
    drawings, reasons = figure_files(figures), dict.fromkeys(data.videos, "every answer about it failed")
    blocks, folder = _blocks(data, videos, side, reasons), None
    if len(data.questions) * len(data.lines) > in_one:
        folder, blocks = write_parts(output, blocks), iter(())
    shown = [
        *blocks,
        *((f"figure-{i}", base64.b64encode(path.read_bytes()).decode()) for i, path in enumerate(drawings)),
    ]
    index = data.index() | {
        "runs": [{"folder": run.folder.name} | {name: run.info.get(name) for name in SHOWN} for run in runs],
        "model": marked(next(iter(models.values())), runs),
        "table": json.loads(table.to_json(orient="records")),
        **notes,
        "tiles_a_row": TILES_A_ROW,
        "reasons": list(reasons.values()),
        "parts": folder.name if folder else None,
        "figures": [{"name": path.stem, "type": PICTURES[path.suffix]} for path in drawings],
    }
    write_whole(output, render(index["model"], packed(index), shown))
    forget_others(output, folder)


def _blocks(data: PageData, videos: Path, side: int, reasons: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Texts, kept tokens and frames as blocks of a page; `reasons` is told of each video why it has no frames."""
    yield "texts", packed(data.texts())
    for number, block in enumerate(data.blocks()):
        yield f"kept-{number}", packed(block)
    places = {name: place for place, name in enumerate(data.videos)}
    for name, sheet in sheets(videos, data.frames_of_videos(), side):
        reasons[name] = sheet.reason
        if sheet.webp:
            yield f"video-{places[name]}", sheet.webp


def render(title: str, index: str, blocks: Sequence[tuple[str, str]]) -> str:
    """The page around its data: `index` and the contents of the blocks (id, content) are base64."""
    scripts = [(ASSETS / name).read_text(encoding="utf-8") for name in SCRIPTS]
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(
        (ASSETS / "page.html.jinja").read_text(encoding="utf-8")
    )
    return template.render(
        title=title,
        style=(ASSETS / "page.css").read_text(encoding="utf-8"),
        scripts=scripts,
        policy=" ".join([*(f"'sha256-{digest}'" for digest in hashes), "'strict-dynamic'"]),
        index=index,
        blocks=blocks,
    )


def figure_files(folder: Path) -> list[Path]:
    """The pictures of a folder in the order of their names, one a name; none where the folder does not exist."""
    if not folder.is_dir():
        return []
    found = {path.stem: path for ending in reversed(PICTURES) for path in folder.glob(f"*{ending}")}
    return [found[name] for name in sorted(found)]


def _table(runs: Sequence[Run]) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Table 3 of these runs with its warnings and notes."""
    paper, columns = pd.read_csv(PAPER_CSV), paper_columns(runs)
    table = build_table3(list(runs), paper, columns)
    beside = published_beside(paper, [run.info["model"] for run in runs], columns)
    return table, {
        "warnings": table3_notes.warnings(table, list(runs)),
        "notes": [*table3_notes.notes(table, beside, list(runs), columns), ABOUT_PICTURES],
    }


def write_pages(
    run_dirs: Sequence[Path | Run], output: Path, videos: Path, figures: Path | None = None, side: int = 96
) -> dict[Path, list[Path]]:
    """Write a page for each model of these run folders; page -> its run folders.

    With several models the pages' names end in the model's. figures: as in `write_page`; None: drawn from these runs.
    """
    groups = by_model(load_runs(run_dirs))
    pages = {}
    for name, runs in groups.items():
        page = output if len(groups) == 1 else output.with_stem(f"{output.stem}_{name}")
        with TemporaryDirectory() as drawn:
            if figures is None:
                _, left_out = write_figures(runs, Path(drawn), PAPER_CSV, videos)
                print(*(f"{page.name} without {reason}" for reason in left_out), sep="\n", file=sys.stderr)
            write_page(runs, page, videos, figures or Path(drawn), side)
        pages[page] = [run.folder for run in runs]
    return pages


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m sharpv.reports.page.build", description=__doc__.splitlines()[0])
    several = "records of experiments (results/experiments/*.json) or folders of results/runs/; none: of --experiment"
    parser.add_argument("runs", nargs="*", type=Path, help=several)
    parser.add_argument("--experiment", default="table3", help="an experiment that was run here")
    parser.add_argument("--output", type=Path, default=results_dir() / "report.html")
    parser.add_argument("--videos", type=Path, default=made_dir(), help="that holds them at any depth")
    parser.add_argument("--figures", type=Path, help="folder of *.svg and *.png to show; none: drawn from these runs")
    parser.add_argument("--side", type=int, default=96, help="pixels of a frame's longer side")
    arguments = parser.parse_args()
    try:
        runs = arguments.runs or [record_of(arguments.experiment)]
        pages = write_pages(runs, arguments.output, arguments.videos, arguments.figures, arguments.side)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    for page, folders in pages.items():
        print(f"{page}: {page.stat().st_size / 1e6:.1f} MB, from {', '.join(map(str, folders))}")


if __name__ == "__main__":
    main()
