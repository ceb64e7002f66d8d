"""`python run.py plan experiment=table3 profile=paper`: expected hours, GPU memory and disk of each cell.

A stage's seconds are those that a rehearsal wrote to the file plan.measured, where it is given and has the cell; else
those that an earlier run of the same model and benchmark measured, where results/runs has one; else operations by
`sharpv.metrics.flops` over the peak of the device times a stated utilisation (configs/plan/).
"""

import json
import math
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from tabulate import tabulate

from sharpv import paths, typed
from sharpv.commands.run import grid
from sharpv.configuration import configure
from sharpv.configuration.rows import Row
from sharpv.metrics.flops import LanguageShape, exact_prefill, exact_vision, patch_grid
from sharpv.metrics.profiling.synthetic import QWEN_FRAME
from sharpv.metrics.profiling_models import shape_config
from sharpv.reports.store import read_samples

HEADS = ("model", "benchmark", "rows", "answers", "GPU h", "core h", "hours", "GPU GB", "disk GB", "stage times")
TERA, GIGA = 1e12, 1e9


@dataclass(frozen=True)
class StageSeconds:
    """Mean seconds: `decode_video` and `preprocess` on one core and `vision` a video, `answer` a question and row."""

    decode_video: float
    preprocess: float
    vision: float
    answer: float
    source: str


def plan(config: DictConfig, command: str) -> int:
    """Print one line a cell, the sum, and what is assumed; exit code 0. ValueError for a benchmark of unknown size."""
    models, benchmarks = grid(config)
    lines, assumed = [], config.plan
    for settings in models:
        model, (rows, _) = configure.build(settings), configure.table_rows(config, settings)
        for benchmark in benchmarks:
            if benchmark.name not in assumed.benchmarks:
                raise ValueError(
                    f"no size of benchmark {benchmark.name!r}: add +plan.benchmarks.{benchmark.name}="
                    "'{questions: .., videos: .., seconds: .., answer_tokens: .., data_gb: ..}'"
                )
            size = assumed.benchmarks[benchmark.name]
            seconds = (
                rehearsed(model.name, benchmark.name, size, assumed.measured)
                or measured(model.name, benchmark.name)
                or expected(model, size, assumed)
            )
            lines.append(_line(model, rows, benchmark.name, size, seconds, config))
    print(tabulate([[_text(line[head]) for head in HEADS] for line in lines], HEADS, disable_numparse=True))
    hours = sum(line["hours"] for line in lines)
    print(f"\n{len(lines)} cells, {hours:.1f} h one after another on {assumed.gpus} x {assumed.device} (torchrun);")
    print(f"as one job a cell on one GPU each: {_makespan(lines, assumed.gpus):.1f} h")
    shown = {name: value for name, value in assumed.items() if name not in ("benchmarks", "device", "measured")}
    print("assumed: " + ", ".join(f"{name} {value}" for name, value in shown.items()))
    print("rows are charged the dense prefill (pruned ones take less); the dense row runs twice, for its cosines;")
    workers = _workers(assumed)
    print(f"hours: the larger of GPU h and core h / {workers} workers, since videos are decoded ahead, over the GPUs;")
    print("loading and scoring left out;")
    print("disk: weights, videos and stored rows of the cell alone")
    return 0


def expected(model: Any, size: DictConfig, assumed: DictConfig) -> StageSeconds:
    """Seconds from operations, bytes and the utilisation assumed."""
    shape, rows, config = _shape(model, assumed)
    peak = assumed.peak_tflops * TERA
    frames, grid = _frames(model, config)
    vision = exact_vision(config.vision_config, frames, shape.width, grid) / (peak * assumed.utilisation.vision)
    prefill = exact_prefill(shape, rows) / (peak * assumed.utilisation.prefill)
    token = _weights_gb(model) * GIGA / (assumed.bandwidth_tb_s * TERA * assumed.utilisation.decode)
    return StageSeconds(
        size.seconds / assumed.realtime_per_core,
        model.frames * assumed.preprocess_ms / 1e3,
        vision,
        prefill + (size.answer_tokens - 1) * token + assumed.fixed_ms / 1e3,
        "expected",
    )


def measured(model: str, benchmark: str) -> StageSeconds | None:
    """Means of the newest complete run of this model and benchmark, or None."""
    found = []
    for path in (paths.results_dir() / "runs").glob("*/run.json"):
        info = json.loads(path.read_text(encoding="utf-8"))
        if info["status"] == "complete" and (info["model"]["name"], info.get("benchmark")) == (model, benchmark):
            found.append((info["created"], path.parent, info["hardware"]))
    if not found:
        return None
    _, folder, hardware = max(found, key=lambda run: run[0])
    rows = [row for row in read_samples(folder) if row["status"] == "ok"]
    times = [row["times_s"] for row in rows]
    of_video = {row["video"]: row["times_s"] for row in rows if row["kind"] == "dense"}.values()
    answer = statistics.mean(sum(t[stage] for stage in ("prune", "prefill", "first_token", "decode")) for t in times)
    decode_video, preprocess, vision = (
        statistics.mean(t[stage] for t in of_video) for stage in ("decode_video", "preprocess", "vision")
    )
    return StageSeconds(
        decode_video, preprocess, vision, answer, f"measured on {hardware.get('gpu', hardware.get('cpu'))}"
    )


def rehearsed(model: str, benchmark: str, size: DictConfig, file: str | None) -> StageSeconds | None:
    """Stage times of a file that `rehearse` wrote, decoding scaled to the benchmark's mean seconds of a video and
    answers to its mean tokens; None without a file or the cell in it. ValueError for a file that is none of these."""
    if file is None:
        return None
    try:
        found = json.loads(Path(file).read_text(encoding="utf-8"))
        cells = {(cell["model"], cell["benchmark"]): cell for cell in found["cells"]}
        if (cell := cells.get((model, benchmark))) is None:
            return None
        decode_video = cell["decode_video"] * size.seconds / cell["video_seconds"]
        answer = cell["first_token"] + (size.answer_tokens - 1) * cell["token"]
        return StageSeconds(decode_video, cell["preprocess"], cell["vision"], answer, f"rehearsed on {found['device']}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"plan.measured={file} is no file of stage times ({type(error).__name__}: {error}); "
            f"{typed.command('rehearse')} writes one to results/rehearsal/"
        ) from error


def _line(
    model: Any, rows: list[Row], benchmark: str, size: DictConfig, seconds: StageSeconds, config: DictConfig
) -> dict[str, Any]:
    assumed, answers = config.plan, size.questions * len(rows)
    dense = sum(row.kind == "dense" for row in rows)
    extra = 2 * answers / config.memory_every if config.memory_every else 0
    runs = size.questions * (len(rows) + dense) + extra
    gpu = (size.videos * seconds.vision + runs * seconds.answer) / 3600
    cpu = size.videos * (seconds.decode_video + seconds.preprocess) / 3600
    hours = max(gpu, cpu / _workers(assumed)) / assumed.gpus
    disk = _weights_gb(model) + size.data_gb + answers * assumed.kilobytes_per_row / 1e6
    memory = gpu_gb(model, assumed)
    values = (model.name, benchmark, len(rows), answers, gpu, cpu, hours, memory, disk, seconds.source)
    return dict(zip(HEADS, values, strict=True))


def _workers(assumed: DictConfig) -> int:
    """Processes that decode videos ahead for each GPU."""
    return min(4, assumed.cores_per_gpu - 1)


def gpu_gb(model: Any, assumed: DictConfig) -> float:
    """Weights, the dense prompt's KV cache, and one layer's activations, the larger of tower and decoder (2 bytes)."""
    shape, rows, config = _shape(model, assumed)
    vision, (frames, grid) = config.vision_config, _frames(model, config)
    merge = getattr(vision, "spatial_merge_size", None)
    patches = frames * (math.prod(grid) * merge**2 if merge else math.prod(patch_grid(vision)))
    tower = patches * (4 * vision.hidden_size + 2 * vision.intermediate_size)
    decoder = rows[0] * (4 * shape.width + 3 * shape.feed_forward)
    kv = sum(rows) * 2 * shape.kv_heads * shape.head_width
    return _weights_gb(model) + 2 * (kv + max(tower, decoder)) / GIGA


def _shape(model: Any, assumed: DictConfig) -> tuple[LanguageShape, list[int], Any]:
    """The decoder's sizes, rows of the dense prompt by layer, and the whole configuration."""
    config = shape_config(model.name.partition("@")[0])
    shape, (frames, (rows, columns)) = LanguageShape.of(config.text_config), _frames(model, config)
    newlines = rows if getattr(config, "sharpv", None) else 0
    return shape, [frames * (rows * columns + newlines) + assumed.text_tokens] * shape.depth, config


def _frames(model: Any, config: Any) -> tuple[int, tuple[int, int]]:
    """Frames that the model sees and the tokens of each; Qwen's frames are pairs, here of a video of 360 x 640."""
    vision = config.vision_config
    if pooling := getattr(config, "pooling_shape", None):
        return pooling[0], (pooling[1], pooling[2])
    if hasattr(vision, "spatial_merge_size"):
        factor = vision.patch_size * vision.spatial_merge_size
        return -(-model.frames // vision.temporal_patch_size), (QWEN_FRAME[0] // factor, QWEN_FRAME[1] // factor)
    if ratio := getattr(config, "downsample_ratio", None):
        height, width = patch_grid(vision)
        return model.frames, (round(height * ratio), round(width * ratio))
    side = patch_grid(vision)[0] / 2
    side = math.floor(side) if getattr(model, "pooling", "bilinear") != "bilinear" else math.ceil(side)
    return model.frames, (side, side)


def _weights_gb(model: Any) -> float:
    if model.size_gb:
        return model.size_gb
    return sum(file.stat().st_size for file in Path(model.path).glob("*.safetensors")) / GIGA


def _makespan(lines: list[dict[str, Any]], gpus: int) -> float:
    """Hours until the last cell ends, each on one GPU, the longest first."""
    loads = [0.0] * gpus
    for hours in sorted((line["hours"] * gpus for line in lines), reverse=True):
        loads[loads.index(min(loads))] += hours
    return max(loads)


def _text(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
