"""One experiment: prepare data, answer, score, report. Called by run.py under Hydra."""

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from sharpv import paths, typed
from sharpv.answering import environment
from sharpv.answering.cell import Cell
from sharpv.answering.experiment import Experiment
from sharpv.answering.processes import Processes
from sharpv.benchmarks import availability, metrics, upstream
from sharpv.benchmarks.columns import require_columns
from sharpv.benchmarks.submission import UNLABELLED
from sharpv.commands import tracking
from sharpv.configuration import configure
from sharpv.configuration.budgets import Unreachable
from sharpv.configuration.rows import Row
from sharpv.files import read_object
from sharpv.models.loaded import Loaded
from sharpv.reports.__main__ import TABLES
from sharpv.videos.cache import FrameCache

INTERRUPTED = 130


def run(config: DictConfig, command: str) -> int:
    """Run an experiment to the end; exit code 0, 1 where more answers failed than `allow_errors`, 130 after Ctrl-C.

    Cells whose answers and scores are all there are skipped without loading the model. Under torchrun the processes
    share the videos, and the first one scores and reports.
    """
    tracking.require(config.wandb.mode)
    paths.go_offline()
    models, benchmarks = grid(config)
    asked = {model.name: configure.table_rows(config, model) for model in models}
    built = [(configure.build(model), asked[model.name][0]) for model in models]
    names = dict.fromkeys(row.name for _, rows in built for row in rows)
    if config.reference is not None and config.reference not in names:
        raise ValueError(f"reference={config.reference!r} is no row of this run; there are: {', '.join(names)}")
    if config.dry_run:
        for model, rows in built:
            _tell_unreachable(model.display, asked[model.name][1], "dry run: ")
            print(f"dry run: {len(rows)} rows x {len(benchmarks)} benchmarks on {model.display}: all build")
        return 0
    availability.require_available([model for model, _ in built], benchmarks)
    processes = Processes()
    if processes.first:
        for model, _ in built:
            _tell_unreachable(model.display, asked[model.name][1])
        _prepare(benchmarks)
    processes.from_first(True)
    if config.threads:
        torch.set_num_threads(config.threads)
    job = HydraConfig.get().job.num if _is_sweep() else None
    experiment = Experiment.of(config, command, job, {name: beyond for name, (_, beyond) in asked.items()})
    try:
        cells = _cells(config, built, benchmarks)
        _require([cell for cell in cells if not processes.from_first(cell.finished())], config, processes)
        for model, _ in built:
            _answer_all(config, [cell for cell in cells if cell.model is model], command, processes)
        # Before scoring, in which lmms-eval would wait for the others.
        processes.part()
        return _conclude(config, cells, experiment) if processes.first else 0
    except KeyboardInterrupt:
        print("\ninterrupted; what is answered is stored: the same command goes on there", flush=True)
        return INTERRUPTED
    finally:
        processes.part()


def _tell_unreachable(model: str, beyond: list[Unreachable], mark: str = "") -> None:
    for one in beyond:
        print(f"{mark}no {one.method} at {one.budget:.3g} on {model}: {one.reason}", flush=True)


def grid(config: DictConfig) -> tuple[list[DictConfig], list[DictConfig]]:
    """The configurations of all models and benchmarks of a run: those of its lists, else the one chosen."""
    models = configure.models(config)
    benchmarks = [configure.load("benchmark", name) for name in config.benchmarks] or [config.benchmark]
    require_columns(benchmarks)
    return models, benchmarks


def _cells(config: DictConfig, built: list[tuple[Any, list[Row]]], benchmarks: list[DictConfig]) -> list[Cell]:
    """Each model on each benchmark."""
    from sharpv.benchmarks.samples import task_manager

    return [
        Cell(config, model, rows, benchmark, manager)
        for model, rows in built
        for manager in [task_manager(model.profile)]
        for benchmark in benchmarks
    ]


def _require(cells: list[Cell], config: DictConfig, processes: Processes) -> None:
    """Say what these cells lack, and stop before the first answer to any where something lacks that they need."""
    if not processes.first:
        return
    left = [(cell, cell.left()) for cell in cells]
    findings = [availability.videos(cell.benchmark, cell.samples) for cell, questions in left if questions]
    answers = sum(len(question.tasks) for _, questions in left for question in questions)
    findings.append(availability.space(paths.results_dir(), answers * config.plan.kilobytes_per_row / 1e6))
    judges = [cell.judge for cell in cells if cell.judge is not None]
    findings += [judge.finding() for judge in judges[:1]]
    lacking = [finding for finding in dict.fromkeys(findings) if finding.problem]
    for finding in lacking:
        print(finding.line(), flush=True)
    if fatal := [finding.told for finding in lacking if finding.fatal]:
        raise availability.NotAvailableError("\n".join(fatal))


def _answer_all(config: DictConfig, cells: list[Cell], command: str, processes: Processes) -> None:
    """Have one model's cells answered, except for what other processes have answered meanwhile."""
    load = cache(cells[0].model.load)
    for cell in cells:
        cell.store.read()
        if not processes.from_first(cell.finished()):
            _answer(config, cell, load, command, processes)
        elif processes.first:
            answers = len(cell.samples) * len(cell.rows)
            print(f"finished before: {cell.name}, {answers} answers with scores in {cell.folder}", flush=True)
        cell.store.close()


def _answer(config: DictConfig, cell: Cell, load: Callable[[], Loaded], command: str, processes: Processes) -> None:
    """Answer this process's share of a cell and meet the others."""
    if processes.first:
        print(f"{len(cell.samples)} questions x {len(cell.rows)} rows: {cell.name}; store: {cell.folder}", flush=True)
    left, facts = cell.left(processes.share(cell.videos)), dict[str, Any]()
    if left:
        from sharpv.answering.prefetch import ways_told
        from sharpv.answering.runner import Runner

        cache = FrameCache(Path(config.frames_cache)) if config.frames_cache is not None else None
        loaded = load()
        workers = config.workers if config.workers is not None else default_workers(loaded.device, processes)
        hardware = environment.hardware(loaded.device)
        attention = loaded.adapter.language_model.config._attn_implementation
        facts = {"hardware": hardware, "dtype": cell.model.dtype, "attention": attention}
        device = hardware.get("gpu") or f"{hardware['cpu']} with {hardware['threads']} threads"
        runner = Runner(loaded, cell.store, workers, device, cache, processes.command)
        runner.check(left)
        if processes.first:
            cell.begin(command)
            cell.note(**facts)
        spent = runner.run(left, config.warm_up)
        waited, wall = spent["waiting_s"], spent["wall_s"]
        print(f"model waited {waited:.1f} of {wall:.1f} s ({waited / wall:.0%}) for videos, {workers} workers")
        if ways := ways_told(spent["ways"]):
            print(ways)
        if cache is not None:
            print(cache.told(spent["ways"]))
        facts |= {"pass": spent | {"workers": workers, "rank": processes.rank}}
    gathered = [fact for fact in processes.gather(facts) if fact]
    if not processes.first:
        return
    if not left:
        cell.begin(command)
    if not gathered:
        print(f"all answers of {cell.name} were there: scoring only, no model loaded", flush=True)
        return
    cell.note(**gathered[0] | {"pass": [fact["pass"] for fact in gathered]})
    if others := {str(fact["hardware"]) for fact in gathered} - {str(gathered[0]["hardware"])}:
        print(f"WARNING: processes ran on different hardware, so times do not compare: {sorted(others)}")


def default_workers(device: torch.device, processes: Processes) -> int:
    """Decoding processes beside one model: none on a CPU, whose cores are being timed; on a GPU 1 to 4."""
    if device.type == "cpu":
        return 0
    return max(1, min(4, (os.cpu_count() or 2) // processes.local_count - 1))


def _prepare(benchmarks: list[DictConfig]) -> None:
    if asked := {benchmark.name for benchmark in benchmarks if benchmark.data == "tiny"}:
        from sharpv.tiny.benchmarks import write_benchmarks, write_long

        data = paths.tiny_data()
        if asked != {"tiny_long"}:
            write_benchmarks(data)
        if "tiny_long" in asked:
            write_long(data)


def _is_sweep() -> bool:
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def report_of(table: str) -> str:
    """The report that a table of this name is: one of its own, or a table like Table 3."""
    name = Path(table).name
    return name if name in TABLES else "table3"


def _conclude(config: DictConfig, cells: list[Cell], experiment: Experiment) -> int:
    """Score, write down what this command asked for, and report exactly that; the table of a sweep's jobs is another
    command, since no job knows the others."""
    errors = [cell.conclude() for cell in cells]
    failed = sum(errors) > config.allow_errors
    record = experiment.write(cells, errors, failed)
    for cell in cells:
        for path in cell.submission(experiment.name(failed)):
            print(f"answers for the server of {cell.benchmark.name}: {path} (sent nowhere)", flush=True)
    if experiment.job is not None:
        every = record.with_name(record.name.replace(f"_job{experiment.job}", "_job*"))
        report = f"python -m sharpv.reports {report_of(experiment.kind)} {every}"
        print(f"one job of a sweep; a table of all its jobs: {report}")
    else:
        _report(config, cells, _in_table(cells), experiment, failed)
        for cell in cells:
            if cell.own:
                told = metrics.told([cell.metrics(number) for number in range(len(cell.rows))], cell.benchmark.name)
                print(told, end="", flush=True)
    if failed:
        broken = [cell for cell, number in zip(cells, errors, strict=True) if number]
        for cell in broken:
            print(f"{cell.name}: {cell.reason() or 'answers that could not be judged'}; all in {cell.folder}")
        print(
            f"INCOMPLETE: {sum(errors)} answers failed (allow_errors={config.allow_errors}). Once the reason above is "
            "mended, the same command gives these alone again"
        )
    return int(failed)


def _in_table(cells: list[Cell]) -> list[DictConfig]:
    """The benchmarks of which at least one question has a score of its own."""
    scored = [cell.benchmark for cell in cells if any(sample.gold != UNLABELLED for sample in cell.samples)]
    return list({benchmark.name: benchmark for benchmark in scored}.values())


def _report(
    config: DictConfig, cells: list[Cell], benchmarks: list[DictConfig], experiment: Experiment, failed: bool
) -> None:
    from sharpv.reports.tables.fingerprint import fingerprints
    from sharpv.reports.terminal import essence
    from sharpv.reports.write import write_report

    if not benchmarks:
        print("no question has a score of its own: no table")
        return
    columns = {column: benchmark.task for benchmark in benchmarks for column in benchmark.columns}
    name, output, paper = experiment.name(failed), paths.results_dir(), paths.paper_dir()
    record = paths.record_path(name)
    table = write_report(
        experiment.kind, [record], output, paper, columns, experiment.title, name, reference=config.reference
    )
    print(essence(table))
    parts = read_object(record)["cells"]
    for told in fingerprints(table, [part | {"limit": experiment.limit} for part in parts]):
        print(told)
    written = [output / f"{name}.md"]
    if config.scoring == "upstream":
        written.append(upstream.write_beside([cell.beside for cell in cells], output, name))
    if config.wandb.mode != "disabled":
        from sharpv.reports.figures.build import write_figures

        videos = paths.made_dir() if any(benchmark.data == "tiny" for benchmark in benchmarks) else paths.hub_dir()
        drawn, left_out = write_figures([record], output / f"{name}_figures", paper / "table3.csv", videos)
        for reason in left_out:
            print(f"figure left out: {reason}", flush=True)
        settings: Any = OmegaConf.to_container(config, resolve=True)
        pictures = [path for path in drawn if path.suffix == ".png"]
        tracking.log_report(output / f"{name}.csv", pictures, settings, config.wandb.project, config.wandb.mode)
    if name != experiment.kind:
        print(f"not the whole experiment: {experiment.kind}.* stay as they are")
    print(f"written: {', '.join(map(str, written))}, .csv, .tex; a page of every answer: {typed.page(name)}")
