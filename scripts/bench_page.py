"""How long the HTML page of a large run takes to build and, in headless Chromium, to open, filter and show a sample.

Made-up runs of 32 frames x 14 x 14 tokens, by default one of 500 questions in 10 rows and one of Table 3's size, 23,000
in 20. Masks are random, so that they do not compress; every video is one real clip, shifted by other pixels. Writes
results/bench/page_<hardware>.md.
"""

import argparse
import resource
import shlex
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import torch
from footage import CLIPS, clip_path
from tabulate import tabulate

from sharpv import paths
from sharpv.answering import environment
from sharpv.metrics.profiling.machine import peak_host_bytes, slug
from sharpv.reports.page.build import write_pages
from sharpv.tiny.video import write_mp4
from sharpv.videos.frames import decode_frames

sys.path.insert(0, str(paths.REPOSITORY / "tests"))
import browser
from page_runs import write_run

SHAPE = (32, 14, 14)
QUESTIONS_A_VIDEO = 5
WINDOW = (1400, 900)
PAINTED = "new Promise((done) => requestAnimationFrame(() => setTimeout(done)))"
SHOWN = "document.getElementById('detail')?.dataset.question === settings.question"
OPEN = "opening: the results table"
STEPS = {
    "first click on Samples: list, film strips": ("{ tab: 'samples' }", SHOWN),
    'filter "pruned wrong, dense right"': ("{ outcome: 'lost' }", f"listed.length < data.task.length && {SHOWN}"),
    "another sample's film strips": ("{ question: String(listed.at(-1)) }", SHOWN),
    "search all questions and answers": (
        "{ outcome: 'all', text: `question ${data.task.length - 1}:` }",
        f"listed.length === 1 && {SHOWN}",
    ),
}
"""What a reader does, one after another: the settings that change, and what then holds."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    sizes = "questions x rows of each page"
    parser.add_argument("--pages", type=size, nargs="+", default=[(500, 10), (23_000, 20)], metavar="QxR", help=sizes)
    parser.add_argument("--files", type=int, default=5000, help="videos that there are: the first and the last ones")
    parser.add_argument("--folder", type=Path, help="to keep runs in, and to take them from where they are there")
    parser.add_argument("--repeats", type=int, default=7, help="openings, each in a fresh browser")
    options = parser.parse_args()
    if browser.EXECUTABLE is None:
        sys.exit(f"error: {browser.MISSING}")
    with TemporaryDirectory() as made:
        folder = options.folder or Path(made)
        measured = [measure(folder, *page, options.files, options.repeats) for page in options.pages]
    hardware, versions = environment.hardware(torch.device("cpu")), environment.versions()
    with browser.chromium() as tab:
        versions["chromium"] = tab.version
    path = paths.results_dir() / "bench" / f"page_{slug(torch.device('cpu'))}.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text(measured, options.repeats, hardware, versions), encoding="utf-8")
    print(path.read_text(encoding="utf-8"), path)


def size(text: str) -> tuple[int, int]:
    """(questions, rows) of text such as 500x10."""
    questions, rows = text.split("x")
    return int(questions), int(rows)


def measure(folder: Path, questions: int, rows: int, files: int, repeats: int) -> dict[str, str]:
    """What a page of so many questions and rows holds, weighs and takes, as the report shows it."""
    run, videos, page = (folder / f"{questions}x{rows}" / name for name in ("run", "videos", "page.html"))
    if not run.is_dir():
        write_run(run, questions, rows, SHAPE, QUESTIONS_A_VIDEO)
    count = -(-questions // QUESTIONS_A_VIDEO)
    there = [number for number in range(count) if min(number, count - 1 - number) < files / 2]
    write_videos(videos, there)
    # A process of its own, whose memory nothing else has grown.
    with ProcessPoolExecutor(1, get_context("fork")) as process:
        built, peak = process.submit(build, run, page, videos).result()
    parts = [path.stat().st_size for path in page.parent.glob("page_parts_*/*")]
    openings = [opening(page) for _ in range(repeats)]
    facts = {
        "questions": f"{questions:,}",
        "rows": f"{rows}",
        "answers": f"{questions * rows:,}",
        "videos": f"{count:,}",
        "of which there are files": f"{len(there):,}",
        "the page's file in MB": f"{page.stat().st_size / 1e6:.1f}",
        "parts beside it": f"{len(parts):,}",
        "all parts in MB": f"{sum(parts) / 1e6:.1f}",
        "seconds to build": f"{built:.0f}",
        "GB of memory at most while building": f"{peak / 1e9:.2f}",
    }
    return facts | {step: spread([seconds[step] for seconds in openings]) for step in (OPEN, *STEPS)}


def build(run: Path, page: Path, videos: Path) -> tuple[float, float]:
    """Write the page; the seconds that it took and the bytes that this process held at most."""
    started = time.perf_counter()
    write_pages([run], page, videos)
    return time.perf_counter() - started, peak_host_bytes(resource.RUSAGE_SELF)


def write_videos(folder: Path, numbers: list[int]) -> None:
    """v0.mp4, v1.mp4, ...: real pictures, no two the same, for a browser keeps equal ones."""
    folder.mkdir(exist_ok=True)
    clip_THWC = decode_frames(clip_path(CLIPS["talking head"]), SHAPE[0])
    for number in numbers:
        write_mp4(folder / f"v{number}.mp4", np.roll(clip_THWC, (number // 100, number % 100), (1, 2)))


def opening(page: Path) -> dict[str, float]:
    """Seconds of each step in a fresh browser, until the page has painted."""
    with browser.chromium() as tab:
        tab.size(*WINDOW)
        started = time.perf_counter()
        tab.open(page)
        tab.run(PAINTED)
        seconds = {OPEN: time.perf_counter() - started}
        seconds |= {step: changing(tab, change, done) for step, (change, done) in STEPS.items()}
        if tab.errors:
            raise RuntimeError(f"the page reports errors: {tab.errors}")
    return seconds


def changing(tab: browser.Page, change: str, done: str) -> float:
    """Seconds from a change of the page's settings to the first frame in which an expression holds, by its clock."""
    return tab.run(
        f"""new Promise((resolve) => {{
            const started = performance.now();
            const look = () => {done}
                ? setTimeout(() => resolve((performance.now() - started) / 1000))
                : requestAnimationFrame(look);
            go({change});
            requestAnimationFrame(look);
        }})"""
    )


def spread(seconds: list[float]) -> str:
    return f"{median(seconds):.2f} ({min(seconds):.2f} to {max(seconds):.2f})"


def times(sizes: tuple[int, ...]) -> str:
    return " x ".join(map(str, sizes))


def text(measured: list[dict[str, str]], repeats: int, hardware: dict, versions: dict) -> str:
    """The report: what ran, and a column a page."""
    facts = [", ".join(f"{name} {value}" for name, value in fact.items()) for fact in (hardware, versions)]
    head, *lines = [[name, *(one[name] for one in measured)] for name in measured[0]]
    sides = ["left", *["right"] * len(measured)]
    return f"""# The HTML page of a large run

Command: `python {shlex.join(sys.argv)}`
Hardware: {facts[0]}
Versions: {facts[1]}
Runs: made up, {times(SHAPE)} visual tokens, random masks, {QUESTIONS_A_VIDEO} questions a video
Browser: {repeats} openings, each in a fresh headless Chromium, window {times(WINDOW)}

{tabulate(lines, head, "github", disable_numparse=True, colalign=sides)}

Seconds in the browser: median (fastest to slowest), until the page has painted; the files lay in the system's cache. A
click on Samples waits for the rest of the page's file, or, where parts lie beside it, for the texts of all answers,
which searches and lists need, and for the kept tokens and frames of the sample shown: one part each. Building reads the
run, draws the figures and decodes the videos, here of {SHAPE[0]} frames of 176 x 144; longer ones take longer. The
machine may have been shared.
"""


if __name__ == "__main__":
    main()
