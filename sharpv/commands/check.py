"""`python run.py check model=... benchmark=...`: everything that a run needs and whether it is there."""

from dataclasses import replace

from omegaconf import DictConfig

from sharpv import paths
from sharpv.benchmarks import any_task
from sharpv.benchmarks.availability import (
    Finding,
    annotations,
    download,
    free_gb,
    is_any,
    missing_videos,
    videos,
    weights,
)
from sharpv.benchmarks.judge import judge_of
from sharpv.commands.run import grid
from sharpv.configuration import configure


def check(config: DictConfig, command: str) -> int:
    """Print a line for each thing; 0 where a run could start, 1 where something that it needs is missing."""
    paths.go_offline()
    models, benchmarks = grid(config)
    findings = [weights(configure.build(model)) for model in models]
    findings += [finding for benchmark in benchmarks for finding in _data(benchmark, models)]
    findings += _judge(config, benchmarks)
    findings.append(_disk(config, models, benchmarks))
    for finding in findings:
        print(finding.line())
    fatal = [finding for finding in findings if finding.problem and finding.fatal]
    print("cannot run: get what is MISSING first" if fatal else "a run can start")
    return int(bool(fatal))


def _data(benchmark: DictConfig, models: list[DictConfig]) -> list[Finding]:
    if is_any(benchmark):
        return any_task.findings(benchmark)
    found = annotations(benchmark)
    if found.problem or benchmark.data == "tiny":
        return [found]
    from sharpv.benchmarks.samples import load_samples, task_manager

    profile = configure.build(models[0]).profile
    try:
        samples = load_samples(benchmark.task, task_manager(profile), None)
    # datasets, pyarrow and json each have errors of their own for a damaged file.
    except Exception as error:
        reason = f"they cannot be read ({type(error).__name__}: {error}); get them anew: {download(benchmark)}"
        return [replace(found, problem=reason)]
    there = videos(benchmark, samples)
    if there.problem:
        listed = paths.results_dir() / "missing" / f"{benchmark.name}.txt"
        listed.parent.mkdir(parents=True, exist_ok=True)
        listed.write_text("".join(f"{video}\n" for video in missing_videos(samples)), encoding="utf-8")
        there = replace(there, problem=f"{there.problem} (all are listed in {listed})")
    return [replace(found, detail=f"{len(samples)} questions of {benchmark.data}"), there]


def _judge(config: DictConfig, benchmarks: list[DictConfig]) -> list[Finding]:
    if not any(benchmark.get("judged") for benchmark in benchmarks):
        return []
    judge = judge_of(config.judge)
    if judge is None:
        return [Finding("judge", "none (judge.base_url=...): ActivityNet-QA is scored by containment and token F1")]
    return [judge.finding()]


def _disk(config: DictConfig, models: list[DictConfig], benchmarks: list[DictConfig]) -> Finding:
    """Whether what is missing would fit where the hub's downloads go: archives stay beside what is unpacked of them.

    Sizes of datasets are those that configs/plan/ assumes.
    """
    weights_gb = sum(model.get("size_gb") or 0 for model in models if weights(configure.build(model)).problem)
    missing = [benchmark.name for benchmark in benchmarks if annotations(benchmark).problem]
    unknown = [name for name in missing if name not in config.plan.benchmarks]
    videos_gb = sum(2 * config.plan.benchmarks[name].data_gb for name in missing if name not in unknown)
    free, wanted = free_gb(), weights_gb + videos_gb
    detail = f"{free:.0f} GB free in {paths.hub_dir()}, about {wanted:.0f} GB still to get"
    if videos_gb:
        detail += f" ({videos_gb:.0f} GB of it videos: archives and their unpacked copies, sizes assumed)"
    if unknown:
        detail += f", and {', '.join(unknown)} of unknown size"
    return Finding("disk", detail, f"{detail}: too little" if wanted > free else None, fatal=wanted > free)
