"""Wall clock of one pass against separate runs of every row, in one warm process; writes results/bench/onepass_*.md.

Separate runs decode and encode each question's video anew for every row, as a harness does that knows one method and
one question at a time; both ways answer by the same code and store every row. The gain that the stage shares allow is
that of decoding, preprocessing and encoding each video once, with nothing else saved.
"""

import argparse
import io
import re
import sys
import tempfile
import time
from contextlib import redirect_stderr
from pathlib import Path

from omegaconf import OmegaConf
from tabulate import tabulate

from sharpv import paths
from sharpv.answering import environment, work
from sharpv.answering.runner import Runner
from sharpv.answering.store import RowStore
from sharpv.benchmarks.samples import Sample, load_samples, task_manager
from sharpv.configuration import configure
from sharpv.configuration.rows import Row
from sharpv.models.loaded import Loaded
from sharpv.reports.store import read_samples
from sharpv.tiny.benchmarks import write_benchmarks

VIDEO_STAGES = ("decode_video", "preprocess", "vision")


def seconds(loaded: Loaded, groups: list[tuple[list[Sample], list[Row]]], folder: Path) -> float:
    """Wall clock of answering each group of questions with its rows in a pass of its own."""
    store, start = RowStore(folder), time.perf_counter()
    for samples, rows in groups:
        with redirect_stderr(io.StringIO()):
            Runner(loaded, store).run(work.questions(samples, rows, "bench", memory_every=0), warm_up=0)
    spent = time.perf_counter() - start
    store.close()
    return spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=40, help="of the benchmark, whole videos first")
    parser.add_argument("--benchmark", default="tiny_actnetqa")
    parser.add_argument("--experiment", default="table3")
    chosen = parser.parse_args()
    paths.go_offline()
    configure.register_resolvers()
    write_benchmarks(paths.tasks_dir() / "tiny" / "data")
    settings = configure.load("model", "tiny")
    names = OmegaConf.load(configure.CONFIGS / "experiment" / f"{chosen.experiment}.yaml").rows
    rows = [row for name in names for row in configure.rows(configure.load("pruner", name), settings)]
    model = configure.build(OmegaConf.to_container(settings, resolve=True))
    samples = load_samples(chosen.benchmark, task_manager(model.profile), None)[: chosen.questions]
    loaded = model.load()
    together, alone = [(samples, rows)], [([sample], [row]) for row in rows for sample in samples]
    with tempfile.TemporaryDirectory() as folder:
        seconds(loaded, [(samples[:1], rows)] * 2, Path(folder) / "warm")
        one = seconds(loaded, together, Path(folder) / "one")
        separate = seconds(loaded, alone, Path(folder) / "separate")
        stored = read_samples(Path(folder) / "separate")
        same = {(r["row"], r["seed"], r["doc_id"]): r["raw"] for r in read_samples(Path(folder) / "one")} == {
            (r["row"], r["seed"], r["doc_id"]): r["raw"] for r in stored
        }
    report = text(stored, one, separate, len({sample.video for sample in samples}), same, loaded)
    hardware = environment.hardware(loaded.device)
    name = re.sub(r"\W+", "_", hardware.get("gpu", hardware["cpu"]))
    path = paths.results_dir() / "bench" / f"onepass_{name.strip('_').lower()}.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(report, encoding="utf-8")
    print(report, path)


def text(stored: list[dict], one: float, separate: float, videos: int, same: bool, loaded: Loaded) -> str:
    """The page: what ran, the shares of the stages, and the gain beside the one that they allow."""
    stages = {stage: sum(row["times_s"][stage] for row in stored) for stage in VIDEO_STAGES}
    answers = len(stored)
    saved = sum(stages.values()) * (1 - videos / answers)
    allowed = separate / (separate - saved)
    shares = [[stage, f"{spent:.1f}", f"{spent / separate:.0%}"] for stage, spent in stages.items()]
    rest = separate - sum(stages.values())
    shares.append(["selection, LLM, storing", f"{rest:.1f}", f"{rest / separate:.0%}"])
    facts = [environment.hardware(loaded.device), environment.versions()]
    hardware, versions = (", ".join(f"{name} {value}" for name, value in fact.items()) for fact in facts)
    rows = len({(row["row"], row["seed"]) for row in stored})
    equal = "equal" if same else "DIFFERENT"
    return f"""# One pass against separate runs

Command: `python {" ".join(sys.argv)}`
Hardware: {hardware}
Versions: {versions}
Asked: {answers // rows} questions about {videos} videos, {rows} rows, one warm process; texts of both ways: {equal}.

| way | seconds | speed-up |
| --- | ---: | ---: |
| separate runs | {separate:.1f} | 1.00 |
| one pass | {one:.1f} | {separate / one:.2f} |
| one pass, as the shares allow | {separate - saved:.1f} | {allowed:.2f} |

Seconds saved of those that the shares allow: {(separate - one) / saved:.0%}.

{tabulate(shares, ["stage of the separate runs", "seconds", "share"], "github", disable_numparse=True)}

The dense row answers twice in both ways (its cosines are observed in an untimed pass). Fewer frames measures a vision
pass of its own on top: once a question in separate runs, once a video in one pass. The machine may have been shared.
"""


if __name__ == "__main__":
    main()
