"""Picture of the page that `make report` wrote: its table, and below it one sample with its film strips.

python scripts/page_picture.py [PAGE] [--output FILE]      writes results/figures/page.png
"""

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

from sharpv import paths

sys.path.insert(0, str(paths.REPOSITORY / "tests"))
import browser

WIDTH = 1380
TABLE_HEIGHT, SAMPLE_HEIGHT, GAP = 662, 780, 12
TO_TABLE = "document.querySelector('#results .controls').previousElementSibling.scrollIntoView()"
LINE = "String(data.lines.findIndex(({ row }) => row === 'sharpv_adaptive'))"
TO_SAMPLE = f"go({{ tab: 'samples', outcome: 'lost', line: {LINE} }})"
SHOWN = "document.getElementById('detail')?.dataset.question === settings.question"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("page", nargs="?", type=Path, default=paths.results_dir() / "report.html")
    parser.add_argument("--output", type=Path, default=paths.results_dir() / "figures" / "page.png")
    options = parser.parse_args()
    if browser.EXECUTABLE is None:
        sys.exit(f"error: {browser.MISSING}")
    if not options.page.is_file():
        sys.exit(f"error: {options.page} is not there: run `make report` first")
    with browser.chromium() as tab, TemporaryDirectory() as folder:
        table, sample = Path(folder) / "table.png", Path(folder) / "sample.png"
        tab.size(WIDTH, TABLE_HEIGHT)
        tab.open(options.page)
        tab.run(TO_TABLE)
        tab.screenshot(table)
        tab.size(WIDTH, SAMPLE_HEIGHT)
        tab.run(TO_SAMPLE)
        tab.wait(SHOWN)
        tab.screenshot(sample)
        picture = stacked(table, sample).quantize(256, kmeans=5)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    picture.save(options.output, optimize=True)
    print(f"{options.output}: {options.output.stat().st_size / 1e3:.0f} kB, {' x '.join(map(str, picture.size))}")


def stacked(above: Path, below: Path) -> Image.Image:
    """Two pictures of one width as one, with a grey line between them."""
    top, bottom = Image.open(above), Image.open(below)
    whole = Image.new("RGB", (top.width, top.height + GAP + bottom.height), "#dedede")
    whole.paste(top, (0, 0))
    whole.paste(bottom, (0, top.height + GAP))
    return whole


if __name__ == "__main__":
    main()
