"""What a report, a resume and `status` cost on a store of rows of true width, and that columns give what lines give.

python scripts/bench_store.py [--large FOLDER] [--small FOLDER] [--before COMMIT]: folders of scripts/make_store.py, the
small one with a share of at least 0.04, below which files get no columns. Writes results/bench/store_<hardware>.md and
.csv.
"""

import argparse
import csv
import io
import os
import shlex
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from tabulate import tabulate
from torch import device

from sharpv import paths
from sharpv.answering import environment
from sharpv.files import write_whole
from sharpv.metrics.profiling.machine import slug

REPORT = (
    "from sharpv.reports.__main__ import main; main(['table3', 'STORE/experiments/table3.json', '--output', 'OUT'])"
)
RESUME = """
from pathlib import Path
from sharpv.answering.store import RowStore
runs = sorted(Path('STORE/runs').iterdir())
stores = [RowStore(run) for run in runs if '"llava_ov_7b"' in (run / 'run.json').read_text()]
"""
STATUS = "from sharpv.commands.status import status; status(None, '')"
STEPS = {"report": REPORT, "open to resume (one model of two)": RESUME, "status": STATUS}
LINES = "import sharpv.reports.store as store; store.read_columns = lambda *_: None; " + REPORT
MEASURED = """
peak = next(line for line in open('/proc/self/status') if line.startswith('VmHWM'))
print('peak', int(peak.split()[1]) * 1024 / 1e9)
"""
"""Not of getrusage: what that tells starts with the peak of the process that started this one."""
HEADS = ("rows", "step", "code", "columns", "seconds", "cpu seconds", "peak GB")


def run(code: Path, store: Path, step: str, output: Path) -> tuple[float, float, float]:
    """Seconds, seconds of CPU and peak GB of a step in a process of its own, with the code of a folder."""
    script = (STEPS | {"report from lines alone": LINES})[step].replace("STORE", str(store)).replace(
        "OUT", str(output)
    ) + MEASURED
    settings = os.environ | {"PYTHONPATH": str(code), "SHARPV_RESULTS": str(store)}
    before, start = os.times(), time.perf_counter()
    done = subprocess.run([sys.executable, "-c", script], env=settings, cwd=code, capture_output=True, text=True)
    seconds, after = time.perf_counter() - start, os.times()
    if done.returncode or not done.stdout.splitlines()[-1].startswith("peak"):
        raise RuntimeError(done.stderr)
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return seconds, cpu, float(done.stdout.split()[-1])


def count(store: Path) -> int:
    files = store.glob("runs/*/samples*.jsonl")
    return sum(sum(1 for _ in path.open("rb")) for path in files)


def forget(store: Path) -> None:
    for path in store.glob("runs/*/samples*.parquet"):
        path.unlink()


def forget_largest(store: Path) -> None:
    """As after a kill in the largest cell of the model that is opened: those of finished cells are there."""
    runs = [run for run in store.glob("runs/*") if '"llava_ov_7b"' in (run / "run.json").read_text(encoding="utf-8")]
    files = [path for run in runs for path in run.glob("samples*.jsonl")]
    max(files, key=lambda path: path.stat().st_size).with_suffix(".parquet").unlink(missing_ok=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--large", type=Path, default=paths.REPOSITORY / ".cache" / "full")
    parser.add_argument("--small", type=Path, default=paths.REPOSITORY / ".cache" / "small")
    parser.add_argument("--before", help="a commit to compare with on the small store")
    options = parser.parse_args()
    lines: list[list] = []
    tables: dict[tuple[str, str, str], bytes] = {}
    now, large, small = paths.REPOSITORY, options.large.resolve(), options.small.resolve()
    with TemporaryDirectory() as folder:
        former = Path(folder) / "former"
        if options.before:
            archive = subprocess.run(["git", "archive", options.before], capture_output=True, check=True).stdout
            with tarfile.open(fileobj=io.BytesIO(archive)) as packed:
                packed.extractall(former, filter="data")
        for store in (large, small):
            rows = count(store)
            forget(store)
            steps = [("report", "made", now), *((step, "there", now) for step in reversed(STEPS))]
            steps.insert(3, ("open to resume (one model of two)", "but one cell's", now))
            if store == small:
                steps += [("report from lines alone", "unused", now)]
                steps += [(step, "none", former) for step in STEPS if options.before]
            for step, columns, code in steps:
                if columns == "but one cell's":
                    forget_largest(store)
                output = Path(folder) / f"{store.name} {columns}"
                name = options.before if code == former else "now"
                lines.append([rows, step, name, columns, *run(code, store, step, output)])
                if step.startswith("report"):
                    tables[store.name, name, columns] = (output / "last_table3.csv").read_bytes()
                # After each step, so that what was measured stays where a later one is cut off.
                write(lines, tables)


def write(lines: list[list], tables: dict[tuple[str, str, str], bytes]) -> None:
    """Write what was measured so far as .md and .csv."""
    shown = [[f"{row[0]:,}", *row[1:4], *(f"{value:.2f}" for value in row[4:])] for row in lines]
    found = (environment.hardware(device("cpu")), environment.versions())
    hardware, versions = (", ".join(f"{name} {value}" for name, value in facts.items()) for facts in found)
    compared = []
    for store in dict.fromkeys(name for name, *_ in tables):
        ways = {(code, columns): table for (name, code, columns), table in tables.items() if name == store}
        if len(ways) > 1:
            names = "; ".join(f"{code}, columns {columns}" for code, columns in ways)
            equal = "equal" if len(set(ways.values())) == 1 else "DIFFERENT"
            compared.append(f"Table 3 as CSV of the store `{store}` ({names}), byte for byte: {equal}.")
    text = f"""# Reports, resume and status on a large store

Command: `python {shlex.join(sys.argv)}`
Hardware: {hardware}
Versions: {versions}

{tabulate(shown, HEADS, "github", disable_numparse=True, colalign=["right", *["left"] * 3, *["right"] * 3])}

{chr(10).join(compared)}

`columns`: whether the Parquet files beside the lines were made by the step, were there (as a run leaves them when a
cell is finished), were there but for the largest cell of this model (as after a kill in it), or were not used. A step
runs in a process of its own, its imports included. Rows are made up (scripts/make_store.py). The machine may have been
shared: then seconds are longer than on a quiet one, and those of CPU too, but less.
"""
    path = paths.results_dir() / "bench" / f"store_{slug(device('cpu'))}.md"
    write_whole(path, text)
    with path.with_suffix(".csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([HEADS, *lines])
    print(lines[-1], flush=True)


if __name__ == "__main__":
    main()
