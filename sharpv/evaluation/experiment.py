"""One experiment: prepare data, answer, score, report. Called by run.py under Hydra."""

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm

from sharpv import paths
from sharpv.evaluation import configure, environment
from sharpv.evaluation.availability import require_available
from sharpv.evaluation.rows import Row
from sharpv.evaluation.store import SCHEMA, RowStore


def run(config: DictConfig, command: str) -> int:
    """Run an experiment to the end; the exit code: 0, or 1 where more answers failed than `allow_errors`."""
    if config.limit is not None and (not isinstance(config.limit, int) or config.limit < 1):
        raise ValueError(f"limit={config.limit} must be a whole number of questions a task, at least 1")
    paths.go_offline()
    models = [configure.load("model", name) for name in config.models] or [config.model]
    benchmarks = [configure.load("benchmark", name) for name in config.benchmarks] or [config.benchmark]
    built = [(configure.build(model), configure.table_rows(config, model)) for model in models]
    if config.dry_run:
        for model, rows in built:
            print(f"dry run: {len(rows)} rows x {len(benchmarks)} benchmarks on {model.display}: all build")
        return 0
    require_available([model for model, _ in built], benchmarks)
    _prepare(benchmarks)
    if config.threads:
        torch.set_num_threads(config.threads)
    ran = [_run_model(config, model, rows, benchmarks, command) for model, rows in built]
    errors = sum(failed for _, failed in ran)
    _report(config, [folder for folder, _ in ran], benchmarks)
    if errors > config.allow_errors:
        print(
            f"INCOMPLETE: {errors} answers failed (allow_errors={config.allow_errors}); see {ran[0][0]}/samples.jsonl"
        )
        return 1
    return 0


def _run_model(
    config: DictConfig, model: Any, rows: list[Row], benchmarks: list[DictConfig], command: str
) -> tuple[Path, int]:
    """Answer and score all questions with one model; its run folder and the number of answers that failed."""
    from sharpv.evaluation.runner import Runner
    from sharpv.evaluation.samples import load_samples, task_manager

    manager = task_manager(model.name)
    samples = [sample for benchmark in benchmarks for sample in load_samples(benchmark.task, manager, config.limit)]
    run_key = _run_key(model)
    folder = paths.results_dir() / "runs" / run_key[:16]
    store = RowStore(folder / "samples.jsonl")
    loaded = model.load()
    record = {
        "schema": SCHEMA,
        "model": {"name": model.name, "paper_name": model.paper_name, "display": model.display},
        "versions": environment.versions(),
        "hardware": environment.hardware(loaded.device),
        "dtype": model.dtype,
        "attention": loaded.adapter.language_model.config._attn_implementation,
        "command": command,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "status": "incomplete",
    }
    _write_json(folder / "run.json", record)
    configure.write_resolved(config, folder / "config.yaml")
    runner = Runner(loaded, rows, store, run_key, config.memory_every)
    print(f"{len(samples)} questions x {len(rows)} rows on {model.display}; store: {folder}", flush=True)
    runner.run(samples, config.warm_up)
    errors = _score_all(runner, rows, samples, manager, folder)
    _require_pruning(runner, rows, samples)
    _write_json(folder / "run.json", record | {"status": "incomplete" if errors else "complete", "errors": errors})
    store.close()
    return folder, errors


def _prepare(benchmarks: list[DictConfig]) -> None:
    if any(benchmark.data == "tiny" for benchmark in benchmarks):
        from sharpv.tiny.benchmarks import write_benchmarks

        write_benchmarks(paths.tasks_dir() / "tiny" / "data")


def _run_key(model: Any) -> str:
    parts = {
        "model": model.name,
        "weights": model.weights_hash(),
        "settings": {
            "frames": model.frames,
            "prompt": model.prompt,
            "dtype": model.dtype,
            "penalty": model.repetition_penalty,
        },
        "code": environment.code_hash(),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _score_all(runner: Any, rows: list[Row], samples: list[Any], manager: Any, folder: Path) -> int:
    """Score every row through lmms-eval and write scores.jsonl; the number of answers that failed."""
    from sharpv.evaluation.replay import score

    stamp = datetime.now(UTC).strftime("%Y%m%d_%H%M%S")
    scores, errors = [], 0
    for row in tqdm(rows, "score", unit="row"):
        answers = {(s.task, s.doc_id): runner.store.rows[runner.key(s, row)] for s in samples}
        errors += sum(answer["status"] == "error" for answer in answers.values())
        for line in score(answers, samples, manager, stamp):
            scores.append(line | {"row": row.name, "seed": row.seed})
    partial = folder / "scores.partial"
    partial.write_text("".join(json.dumps(line) + "\n" for line in scores))
    partial.rename(folder / "scores.jsonl")
    return errors


def _require_pruning(runner: Any, rows: list[Row], samples: list[Any]) -> None:
    """ValueError where a method that must prune kept everything in every answer: its setting does nothing here."""
    for row in rows:
        answers = [runner.store.rows[runner.key(sample, row)] for sample in samples]
        budgets = [answer["token_budget"] for answer in answers if answer["status"] == "ok"]
        if not row.may_keep_all and budgets and min(budgets) == 1.0:
            raise ValueError(
                f"row {row.name!r} kept every token of all {len(budgets)} samples: its setting prunes nothing"
            )


def _report(config: DictConfig, folders: list[Path], benchmarks: list[DictConfig]) -> None:
    from sharpv.reports.table3 import write_table3

    columns = {column: benchmark.task for benchmark in benchmarks for column in benchmark.columns}
    output = paths.results_dir()
    write_table3(folders, output, paths.REPOSITORY / "results" / "paper" / "table3.csv", columns, name=config.table)
    print((output / f"{config.table}.md").read_text())
    if config.wandb.mode != "disabled":
        from sharpv.evaluation.tracking import log_table

        settings: Any = OmegaConf.to_container(config, resolve=True)
        log_table(output / f"{config.table}.csv", settings, config.wandb.project, config.wandb.mode)


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content, indent=1))
    partial.rename(path)
