"""`python run.py rehearse experiment=table3 profile=paper`: the real command on made checkpoints and data.

Run before 150 GB are downloaded: checkpoints of true shape with random weights and data sets with the real number of
questions are made in a folder of their own, in the hub's layouts; every step then runs as a user's would, in processes
of its own, and is killed and resumed once.
"""

import json
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from sharpv import paths
from sharpv.commands.plan import StageSeconds, expected
from sharpv.commands.run import grid
from sharpv.configuration import configure
from sharpv.metrics.profiling import machine
from sharpv.rehearsal.judge import stand_in
from sharpv.rehearsal.snapshots import snapshot, write_benchmark, write_llava_onevision
from sharpv.reports.store import read_samples

CPU_MODEL, CPU_LAYERS, CPU_FRAMES = "llava_ov_0_5b", 2, 4
OURS = ("-m", "sharpv")
POLL_S = 0.2


@dataclass
class Steps:
    """Runs commands of this checkout one after another and keeps what each took."""

    environment: dict[str, str]
    log: Path
    lines: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    begin: int = 0

    def run(self, name: str, *arguments: str) -> str:
        """Run one to its end; its output. A step that fails is told and the next one runs."""
        return self._end(name, self._start(arguments), time.monotonic())

    def killed(self, name: str, results: Path, answers: int, *arguments: str) -> int:
        """Start one and kill it once so many answers are stored; how many that were. As when memory runs out, the
        processes that decode for it are left to end by themselves."""
        started, process, stored = time.monotonic(), self._start(arguments), 0
        while process.poll() is None and (stored := _stored(results)) < answers:
            time.sleep(POLL_S)
        if process.poll() is not None:
            self._end(f"{name} (ended before it could be killed)", process, started)
            return _stored(results)
        process.send_signal(signal.SIGKILL)
        process.wait()
        self._tell(name, started, f"killed (SIGKILL) with {stored} answers stored")
        return stored

    def _start(self, arguments: tuple[str, ...]) -> subprocess.Popen:
        command = [sys.executable, *arguments]
        with self.log.open("a", encoding="utf-8") as log:
            log.write(f"$ {' '.join(command)}\n")
            log.flush()
            # A file, not a pipe: nobody reads it while a step runs.
            self.begin = log.tell()
            return subprocess.Popen(
                command, cwd=paths.REPOSITORY, env=self.environment, stdout=log, stderr=subprocess.STDOUT
            )

    def _end(self, name: str, process: subprocess.Popen, started: float) -> str:
        process.wait()
        output = self.log.read_bytes()[self.begin :].decode(errors="replace").replace("\r", "\n")
        if process.returncode:
            self.failed.append(name)
        last = (output.strip().splitlines() or ["no output"])[-1]
        self._tell(name, started, f"exit code {process.returncode}; {last}")
        return output

    def _tell(self, name: str, started: float, how: str) -> None:
        self.lines.append(f"| {name} | {time.monotonic() - started:.1f} | {how.replace('|', '/')} |")
        print(f"{name}: {time.monotonic() - started:.1f} s, {how}", flush=True)


def rehearse(config: DictConfig, command: str) -> int:
    """Make, check, unpack, answer, kill, resume, score, report and plan; exit code 1 where a step failed.

    Writes results/rehearsal/<device>.md and .json, the stage times that plan.measured takes. ValueError for a
    model or benchmark of which nothing can be made here.
    """
    wanted, given = config.rehearse, _given()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    small, frames = device.type == "cpu", wanted.frames or CPU_FRAMES
    models, benchmarks = grid(config)
    said, cut = [], []
    if small:
        if left_out := [model.name for model in models if model.name != CPU_MODEL]:
            said.append(f"no GPU: {', '.join(left_out)} left out, {CPU_MODEL} alone is rehearsed")
        models = [configure.load("model", CPU_MODEL)]
        cut = ["models=[]", f"model={CPU_MODEL}", "model.dtype=float32", f"model.frames={frames}", "workers=1"]
        given = [one for one in given if not one.startswith(("model=", "model.", "models="))]
    elif wanted.frames:
        raise ValueError("rehearse.frames cuts a model on a CPU; on a GPU its own number is rehearsed: leave it out")
    layers = wanted.layers or (CPU_LAYERS if small else None)
    if unable := [model.name for model in models if not model.name.startswith("llava_ov_")]:
        raise ValueError(f"no checkpoint of {', '.join(unable)} can be made here: give models=[llava_ov_0_5b]")
    if layers:
        said.append(f"cut to {layers} decoder layers" + (f" and {frames} frames, float32" if small else ""))
    base = paths.results_dir() / "rehearsal" / machine.slug(device)
    folder = Path(wanted.folder) if wanted.folder else base.with_name(f"{base.name}_work")
    home, results = folder / "home", folder / "results"
    # Only what an earlier rehearsal made is removed.
    for old in (home, results):
        shutil.rmtree(old, ignore_errors=True)
    results.mkdir(parents=True)
    steps = Steps(paths.rehearsal_environment(home, results), folder / "log.txt")
    made, seconds = _make(home, models, benchmarks, config, layers, device)
    print("\n".join(made), flush=True)
    judged = any(benchmark.get("judged") for benchmark in benchmarks)
    with stand_in() if judged else nullcontext(None) as address:
        judge = [f"judge.base_url={address}", "judge.model=stand-in"] if address else []
        real = [*given, *cut, *judge]
        run = [*OURS, *real, f"limit={wanted.questions}"]
        steps.run("unpack", *OURS, "unpack", *given)
        steps.run("check", *OURS, "check", *real)
        rows = len(configure.table_rows(config, models[0])[0])
        before = steps.killed("run, killed", results, max(1, wanted.questions * rows // 2), *run)
        output = steps.run("run, resumed", *run)
    experiments = sorted((results / "experiments").rglob("*.json"))
    name = experiments[0].stem if experiments else config.table
    page = ["-m", "sharpv.reports.page.build", "--experiment", name, "--output", str(results / "report.html")]
    steps.run("report", *page, "--videos", str(home))
    steps.run("status", *OURS, "status")
    cells, doubled = _cells(results, seconds)
    if doubled:
        steps.failed.append(f"{doubled} answers stored twice")
    told = {"device": machine.describe(device)["hardware"], "cut": "; ".join(said), "command": command, "cells": cells}
    file = base.with_suffix(".json")
    file.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    planned = steps.run("plan with these times", *OURS, "plan", *given, *cut[:4], f"plan.measured={file}")
    text = _report(told, made, steps, cells, before, doubled, output, planned, config, models)
    base.with_suffix(".md").write_text(text, encoding="utf-8")
    print(text)
    print(f"written: {base}.md, .json; all output: {steps.log}")
    return int(bool(steps.failed))


def _given() -> list[str]:
    """The overrides of the command line that the real command takes too."""
    task = HydraConfig.get().overrides.task
    return [
        one for one in task if not one.lstrip("+").startswith(("command=", "rehearse.", "limit=", "plan.measured="))
    ]


def _make(home: Path, models: list, benchmarks: list, config: DictConfig, layers: int | None, device: torch.device):
    """Write everything; a line for each thing, and the seconds of a video by benchmark."""
    made, seconds = [], {}
    for model in models:
        start, root = time.monotonic(), snapshot(home, "model", model.path)
        dtype = torch.float32 if device.type == "cpu" else getattr(torch, model.dtype)
        write_llava_onevision(root, model.name, layers, dtype, device)
        # This process stays, beside those that answer.
        if device.type == "cuda":
            torch.cuda.empty_cache()
        size = sum(file.stat().st_size for file in root.glob("*.safetensors")) / 1e9
        made.append(f"- weights of {model.name}: {size:.2f} GB, random, {time.monotonic() - start:.1f} s")
    for benchmark in benchmarks:
        if benchmark.name not in config.plan.benchmarks:
            raise ValueError(f"no size of benchmark {benchmark.name!r} in configs/plan/: it cannot be rehearsed")
        start, size = time.monotonic(), config.plan.benchmarks[benchmark.name]
        wanted = config.rehearse
        files, length = write_benchmark(home, benchmark, size, wanted.files, wanted.video_seconds)
        seconds[benchmark.name] = length
        made.append(
            f"- {benchmark.name}: {size.questions} questions on {files} videos of {length:.0f} s (plan: {size.videos} "
            f"of {size.seconds} s), H.264 360p, {time.monotonic() - start:.1f} s"
        )
    return made, seconds


def _stored(results: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in results.glob("runs/*/samples*.jsonl"))


def _cells(results: Path, seconds: dict[str, float]) -> tuple[list[dict[str, Any]], int]:
    """What each cell's stages took and its rows weigh, and how many answers are stored twice."""
    cells, doubled = [], 0
    for path in sorted(results.glob("runs/*/run.json")):
        info = json.loads(path.read_text(encoding="utf-8"))
        files = list(path.parent.glob("samples*.jsonl"))
        lines = [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]
        doubled += len(lines) - len({line["key"] for line in lines})
        rows = [row for row in read_samples(path.parent) if row["status"] == "ok"]
        if not rows:
            continue
        times = [row["times_s"] for row in rows]
        of_video = list({row["video_path"]: row["times_s"] for row in rows if row["kind"] == "dense"}.values())
        cell: dict[str, Any] = {"model": info["model"]["name"], "benchmark": info["benchmark"], "answers": len(rows)}
        for stage in ("decode_video", "preprocess", "vision"):
            cell[stage] = statistics.mean(time[stage] for time in of_video)
        cell["first_token"] = statistics.mean(sum(t[s] for s in ("prune", "prefill", "first_token")) for t in times)
        per_token = [row["tpot_s"] for row in rows if row["tpot_s"] is not None]
        cell["token"] = statistics.mean(per_token) if per_token else 0.0
        cell["video_seconds"] = seconds[cell["benchmark"]]
        cell["bytes_a_row"] = sum(file.stat().st_size for file in files) / len(lines)
        cell["peak_bytes"] = max((row["memory"]["peak_bytes"] for row in rows if row["memory"]), default=None)
        spent = info.get("pass") or []
        wall = sum(one["wall_s"] for one in spent)
        cell["idle"] = sum(one["waiting_s"] for one in spent) / wall if wall else None
        cells.append(cell)
    return cells, doubled


def _report(
    told: dict, made: list[str], steps: Steps, cells: list[dict], before: int, doubled: int, output: str, planned: str,
    config: DictConfig, models: list[DictConfig],
) -> str:  # fmt: skip
    """The whole rehearsal as markdown."""
    built = {model.name: configure.build(model) for model in models}
    host = machine.peak_host_bytes(resource.RUSAGE_CHILDREN) / 1e9
    assumed = config.plan
    lines = [
        "# Rehearsal",
        "",
        f"Command: `{told['command']}`",
        f"Device: {told['device']}. Cut: {told['cut'] or 'nothing'}. Weights are random and videos made: times and "
        "sizes count, answers do not.",
        "",
        "## What was made",
        "",
        *made,
        "",
        "## Steps",
        "",
        "| step | s | how it ended |",
        "| --- | ---: | --- |",
        *steps.lines,
        "",
        f"Killed with {before} answers stored; {sum(cell['answers'] for cell in cells)} at the end, {doubled} twice.",
        f"Most memory of any step on the host: {host:.2f} GB. Failed: {', '.join(steps.failed) or 'nothing'}.",
        "",
        "## Stage seconds: measured / what `plan` assumes for the uncut model on its device",
        "",
        "| cell | decode, s of video | preprocess | vision | first token | token | idle | peak GB | bytes a row |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for cell in cells:
        plan: StageSeconds = expected(built[cell["model"]], assumed.benchmarks[cell["benchmark"]], assumed)
        peak = "-" if cell["peak_bytes"] is None else f"{cell['peak_bytes'] / 1e9:.2f}"
        idle = "-" if cell["idle"] is None else f"{cell['idle']:.0%}"
        lines.append(
            f"| {cell['model']} on {cell['benchmark']} | {cell['decode_video'] / cell['video_seconds']:.4f} / "
            f"{1 / assumed.realtime_per_core:.4f} | {cell['preprocess']:.3f} / {plan.preprocess:.3f} | "
            f"{cell['vision']:.3f} / {plan.vision:.3f} | {cell['first_token']:.3f} / "
            f"{plan.answer:.3f} (whole answer) | {cell['token']:.4f} | {idle} | {peak} | "
            f"{cell['bytes_a_row']:.0f} / {assumed.kilobytes_per_row * 1e3:.0f} |"
        )
    table = "\n".join(line for line in planned.splitlines() if line.strip())
    waits = [line for line in output.splitlines() if line.startswith("model waited")]
    lines += ["", *(f"- {line}" for line in waits), "", "## Hours of the whole table with these times", ""]
    lines += ["```", table, "```", "", "Decoding is scaled by the length of the videos."]
    if told["cut"]:
        lines += [f"These hours are of what was rehearsed ({told['cut']}), not of the uncut models."]
    return "\n".join(lines) + "\n"
