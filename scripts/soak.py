"""One pass under load: many short videos, 1% broken, while processes are killed, the disk fills, the judge fails and
the clock jumps. Writes results/bench/soak_<hardware>.md. Needs root for a small disk of its own (a tmpfs).

python scripts/soak.py --minutes 30 --videos 10000
"""

import argparse
import json
import multiprocessing
import os
import random
import shlex
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import psutil

from sharpv import paths

SPAWN = multiprocessing.get_context("spawn")
DIFFERENT = 100
"""Videos that are rendered; the others are copies of these under other names."""
DISK_MB = 400
ROWS = ("dense", "sharpv_adaptive")
DAY_S = 86_400


def write_videos(folder: Path, count: int) -> list[Path]:
    """Short videos, every hundredth cut off in the middle."""
    from sharpv.tiny.scenes import render, sample_scene
    from sharpv.tiny.video import write_mp4

    folder.mkdir(parents=True)
    made = [folder / f"{number:05}.mp4" for number in range(count)]
    for number, path in enumerate(made):
        if number < DIFFERENT:
            write_mp4(path, render(sample_scene(number)))
        else:
            shutil.copy(made[number % DIFFERENT], path)
    for path in made[99::100]:
        path.write_bytes(path.read_bytes()[:200])
    return made


def asked(videos: list[Path]):
    """A question a video, with the tiny model's rows, and that model."""
    from omegaconf import OmegaConf

    from sharpv.answering import work
    from sharpv.benchmarks.samples import Sample
    from sharpv.configuration import configure

    paths.go_offline()
    configure.register_resolvers()
    settings = configure.load("model", "tiny")
    rows = [row for name in ROWS for row in configure.rows(configure.load("pruner", name), settings)]
    samples = [
        Sample("soak", "soak", number, "What is moving?", video, "red", 2, f"{number}")
        for number, video in enumerate(videos)
    ]
    return configure.build(OmegaConf.to_container(settings, resolve=True)), work.questions(samples, rows, "soak", 0)


def answer(videos: list[Path], run: Path, workers: int, seed: int) -> None:
    """One process: answers what is left, while the clock that it is told jumps by up to a day."""
    import torch

    from sharpv.answering import work
    from sharpv.answering.runner import Runner
    from sharpv.answering.store import RowStore

    torch.set_num_threads(1)
    rng, now = random.Random(seed), time.time
    time.time = lambda: now() + rng.uniform(-DAY_S, DAY_S)
    sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    model, questions = asked(videos)
    store = RowStore(run)
    try:
        Runner(model.load(), store, workers).run(work.left(questions, store), warm_up=0)
    except ValueError as error:
        sys.exit(28 if "No space left" in str(error) else f"{error}")


def state(process: int) -> tuple[float, int]:
    """Resident MB and open files of a process and of the workers that decode for it."""
    answering = psutil.Process(process)
    family = [answering, *answering.children(recursive=True)]
    return sum(one.memory_info().rss for one in family) / 1e6, sum(one.num_fds() for one in family)


def lines(run: Path) -> list[dict]:
    """Every whole line; a broken one is an error, unless it is the last of its file."""
    found = []
    for path in run.glob("samples*.jsonl"):
        *whole, _torn = path.read_bytes().split(b"\n")
        found += [json.loads(line) for line in whole]
    return found


def answered(run: Path) -> Counter:
    return Counter(line["key"] for line in lines(run) if line["status"] == "ok")


class Bench:
    """The processes, what happened to them, and what was seen of them."""

    def __init__(self, videos: list[Path], run: Path, seed: int = 0):
        self.videos, self.run, self.rng = videos, run, random.Random(seed)
        self.events: Counter = Counter()
        self.seen: dict[int, list[tuple[float, float, int]]] = {}
        self.kept: set[str] = set()
        self.lost = 0

    def start(self, workers: int):
        process = SPAWN.Process(target=answer, args=(self.videos, self.run, workers, self.rng.randrange(1 << 30)))
        process.start()
        self.events["processes started"] += 1
        return process

    def check(self) -> None:
        """What was answered once is still there."""
        there = set(answered(self.run))
        self.lost += len(self.kept - there)
        self.kept |= there

    def watch(self, processes, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and any(process.is_alive() for process in processes):
            for process in processes:
                try:
                    self.seen.setdefault(process.pid, []).append((time.monotonic(), *state(process.pid)))
                except (psutil.Error, OSError):
                    continue
            time.sleep(1)

    def fill(self, processes) -> None:
        """Fill the disk until every process that writes has given up, then make room."""
        ballast = self.run.parent / "ballast"
        with ballast.open("wb", buffering=0) as file:
            for size in (1 << 20, 1 << 12, 1):
                try:
                    while True:
                        file.write(bytes(size))
                        if size == 1:
                            break
                except OSError:
                    continue
        for process in processes:
            process.join(60)
            self.events["processes that met the full disk and said so"] += process.exitcode == 28
        ballast.unlink()
        self.events["disk filled"] += 1


def judged(run: Path, most: int, rng: random.Random) -> dict[str, int]:
    """Have stored answers judged by an endpoint of which half the replies fail, again until all have a verdict."""
    from sharpv.benchmarks.judge import Judge, Question
    from sharpv.rehearsal.judge import stand_in

    asked_for: Counter = Counter()

    def reply(asked: str) -> str | None:
        if rng.random() < 0.5:
            return None
        asked_for[asked] += 1
        return '{"pred": "yes", "score": 4}'

    texts = [line for line in lines(run) if line["status"] == "ok"][:most]
    questions = [Question(f"question {line['key']}", "red", line["raw"]) for line in texts]
    starts, found = 0, ["none yet"]
    with stand_in(reply) as address:
        while starts < 100 and any(isinstance(one, str) for one in found):
            starts += 1
            found = Judge(address, "stand-in", attempts=1).verdicts(questions, run / "judge.jsonl")
    twice = sum(count > 1 for count in asked_for.values())
    return {
        "asked": len(questions),
        "starts": starts,
        "verdicts": sum(not isinstance(one, str) for one in found),
        "judged twice": twice,
    }


def soak(folder: Path, run: Path, minutes: float, count: int) -> dict:
    """Run it all; what happened and what holds."""
    from sharpv.answering import work
    from sharpv.answering.store import RowStore

    videos = write_videos(folder / "videos", count)
    end = time.monotonic() + 60 * minutes
    bench = Bench(videos, run)
    steady = bench.start(1)
    steadies = [steady.pid]
    fills = [time.monotonic() + share * 60 * minutes for share in (0.15, 0.3)]
    while time.monotonic() < end and (steady.is_alive() or steady.exitcode != 0):
        shaken = bench.start(1)
        bench.watch([steady, shaken], min(bench.rng.uniform(25, 60), max(1.0, end - time.monotonic())))
        if fills and time.monotonic() > fills[0]:
            fills.pop(0)
            bench.fill([steady, shaken])
            bench.check()
            steady = bench.start(1)
            steadies.append(steady.pid)
        elif shaken.is_alive():
            shaken.kill()
            bench.events["killed with -9"] += 1
        shaken.join()
        bench.check()
    steady.kill()
    steady.join()
    bench.check()
    _, questions = asked(videos)
    done, everything = answered(run), {task.key for question in questions for task in question.tasks}
    store = RowStore(run)
    left = {task.key for question in work.left(questions, store) for task in question.tasks}
    series = max((bench.seen.get(process, []) for process in steadies), key=len)
    warm = series[len(series) // 5 :]
    first, last = warm[: len(warm) // 4 or 1], warm[-(len(warm) // 4 or 1) :]
    failed = {line["video"] for line in lines(run) if line["status"] == "error"}
    return {
        "events": dict(bench.events),
        "answers": len(done),
        "of": len(everything),
        "lost": bench.lost,
        "doubled": sum(number > 1 for number in done.values()),
        "strangers": len(set(done) - everything),
        "resume exact": left == everything - set(done),
        "broken videos met": len(failed),
        "sound videos that failed": len(failed - {path.name for path in videos[99::100]}),
        "steady process": {
            "seconds": round(series[-1][0] - series[0][0]),
            "MB": [round(median(one[1] for one in part), 1) for part in (first, last)],
            "files": [round(median(one[2] for one in part)) for part in (first, last)],
        },
        "judge": judged(run, 500, random.Random(1)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--videos", type=int, default=10_000)
    parser.add_argument("--output", type=Path, default=None, help="folder; none: results/bench")
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        disk = Path(folder) / "disk"
        disk.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs", str(disk)], check=True)
        try:
            found = soak(Path(folder), disk / "run", options.minutes, options.videos)
        finally:
            subprocess.run(["umount", "-l", str(disk)], check=False)
    from torch import device

    from sharpv.answering import environment
    from sharpv.metrics.profiling.machine import slug

    path = (options.output or paths.results_dir() / "bench") / f"soak_{slug(device('cpu'))}.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text(found, environment.hardware(device("cpu")), environment.versions()), encoding="utf-8")
    print(path.read_text(encoding="utf-8"), path)


def text(found: dict, hardware: dict, versions: dict) -> str:
    """The report."""
    facts = [", ".join(f"{name} {value}" for name, value in fact.items()) for fact in (hardware, versions)]
    steady, judge = found["steady process"], found["judge"]
    events = "\n".join(f"- {name}: {number}" for name, number in found["events"].items())
    names = ("lost", "doubled", "strangers", "resume exact", "broken videos met", "sound videos that failed")
    checks = "\n".join(f"| {name} | {found[name]} |" for name in names)
    return f"""# One pass under load

Command: `python {shlex.join(sys.argv)}`
Hardware: {facts[0]}
Versions: {facts[1]}
Answered: {found["answers"]:,} of {found["of"]:,} when time was up, by the tiny model, one question and {len(ROWS)} rows
a video ({DIFFERENT} rendered, the others copies of them), every hundredth video cut off. The clock (`time.time`) jumped
by up to a day at every look. The disk was a tmpfs of {DISK_MB} MB.

{events}

| answers | |
| --- | ---: |
{checks}

Steady process and its decoding worker, {steady["seconds"]} s after their last start, first and last quarter behind the
warm-up: {steady["MB"][0]} and {steady["MB"][1]} MB resident (pages that both share count twice), {steady["files"][0]}
and {steady["files"][1]} open files.

Judge, of which half the replies failed: {judge["verdicts"]} verdicts on {judge["asked"]} answers after
{judge["starts"]} starts, {judge["judged twice"]} judged twice.
"""


if __name__ == "__main__":
    main()
