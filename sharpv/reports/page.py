"""One self-contained HTML page of a run: overview, table, figures, and every answer with the tokens that were kept.

python -m sharpv.reports.page [RUN_DIR] [--output FILE] [--videos FOLDER] [--figures FOLDER]

Needs the run store alone (the videos for the pictures); the page itself fetches nothing. Its parts are in assets/.
"""

import argparse
import base64
import hashlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
import yaml

from sharpv.paths import REPOSITORY, results_dir, tasks_dir
from sharpv.reports import table3_notes
from sharpv.reports.page_data import PageData, packed
from sharpv.reports.page_pictures import TILES_A_ROW, Sheet, sheets
from sharpv.reports.store import Run, load_run
from sharpv.reports.table3 import build_table3

ASSETS = Path(__file__).parent / "assets"
SCRIPTS = ("common.js", "table.js", "filters.js", "samples.js", "strip.js", "page.js")
PICTURES = {".svg": "image/svg+xml", ".png": "image/png"}


def write_page(run_dir: Path, output: Path, videos: Path, figures: Path, side: int = 96) -> None:
    """Write the page of a run folder. videos: where its videos lie, at any depth. figures: *.svg and *.png to embed,
    an SVG before a PNG of the same name. side: of a frame's picture in pixels.

    Raises ValueError for a folder that holds no scored run, or one that no column of the table is for.
    """
    run = load_run(run_dir)
    table, notes = _table(run)
    data = PageData(run, table["row"].tolist())
    pictures = sheets(videos, data.frames_of_videos(), side)
    info = {name: value for name, value in run.info.items() if name != "schema"}
    drawings = figure_files(figures)
    index = data.index() | {
        "run": info | {"folder": run.folder.name},
        "table": json.loads(table.to_json(orient="records")),
        **notes,
        "tiles_a_row": TILES_A_ROW,
        "reasons": [pictures.get(name, Sheet(reason="every answer about it failed")).reason for name in data.videos],
        "figures": [{"name": path.stem, "type": PICTURES[path.suffix]} for path in drawings],
    }
    blocks = [
        *((f"kept-{number}", packed(block)) for number, block in enumerate(data.blocks())),
        *((f"video-{data.videos.index(name)}", sheet.webp) for name, sheet in pictures.items() if sheet.webp),
        *((f"figure-{i}", base64.b64encode(path.read_bytes()).decode()) for i, path in enumerate(drawings)),
    ]
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(render(info["model"]["display"], packed(index), blocks))


def render(title: str, index: str, blocks: Sequence[tuple[str, str]]) -> str:
    """The page around its data: `index` and the contents of the blocks (id, content) are base64."""
    scripts = [(ASSETS / name).read_text() for name in SCRIPTS]
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    template = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(
        (ASSETS / "page.html.jinja").read_text()
    )
    return template.render(
        title=title,
        style=(ASSETS / "page.css").read_text(),
        scripts=scripts,
        policy=" ".join(f"'sha256-{digest}'" for digest in hashes),
        index=index,
        blocks=blocks,
    )


def figure_files(folder: Path) -> list[Path]:
    """The pictures of a folder in the order of their names, one a name; none where the folder does not exist."""
    if not folder.is_dir():
        return []
    found = {path.stem: path for ending in reversed(PICTURES) for path in folder.glob(f"*{ending}")}
    return [found[name] for name in sorted(found)]


def _table(run: Run) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Table 3 of this run with its warnings and notes."""
    paper = pd.read_csv(REPOSITORY / "results" / "paper" / "table3.csv")
    columns = _columns(run)
    table = build_table3([run], paper, columns)
    return table, {
        "benchmarks": columns,
        "warnings": table3_notes.warnings(table, [run]),
        "notes": table3_notes.notes(table, paper, [run], columns),
    }


def _columns(run: Run) -> dict[str, str]:
    """The table's columns that this run's benchmarks fill, as configs/benchmark/ says."""
    settings = [yaml.safe_load(path.read_text()) for path in (REPOSITORY / "configs" / "benchmark").glob("*.yaml")]
    stored = set(run.samples["benchmark"])
    columns = {column: one["task"] for one in settings if one["task"] in stored for column in one["columns"]}
    if not columns:
        raise ValueError(f"{run.folder}: no file of configs/benchmark/ is for its benchmarks {sorted(stored)}: add one")
    return columns


def newest_run(folder: Path) -> Path:
    """The run folder that was written last among those with scores. ValueError where there is none."""
    scored = [path.parent for path in folder.glob("*/scores.jsonl")]
    if not scored:
        raise ValueError(f"{folder} holds no scored run: make one, as with `make table3`")
    return max(scored, key=lambda run: (run / "scores.jsonl").stat().st_mtime)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m sharpv.reports.page", description=__doc__.splitlines()[0])
    parser.add_argument("run", nargs="?", type=Path, help="a folder of results/runs/ (default: scored last)")
    parser.add_argument("--output", type=Path, default=results_dir() / "report.html")
    parser.add_argument("--videos", type=Path, default=tasks_dir() / "tiny" / "data" / "videos")
    parser.add_argument("--figures", type=Path, default=results_dir() / "figures")
    parser.add_argument("--side", type=int, default=96, help="pixels of a frame's longer side")
    arguments = parser.parse_args()
    try:
        run = arguments.run or newest_run(results_dir() / "runs")
        write_page(run, arguments.output, arguments.videos, arguments.figures, arguments.side)
    except ValueError as error:
        sys.exit(f"error: {error}")
    print(f"{arguments.output}: {arguments.output.stat().st_size / 1e6:.1f} MB, from {run}")


if __name__ == "__main__":
    main()
