"""Answers per second over the batch size, dense and pruned; writes results/bench/batch_<device>_<model>.md and .csv.

python scripts/bench_batch.py --model tiny
python scripts/bench_batch.py --model llava_ov_0_5b --layers 4 --frames 8        on a CPU, cut in depth
python scripts/bench_batch.py --model llava_ov_7b --frames 32 --batches 1 2 4 8  on a GPU

Random weights in the true shape, one prompt in each sample with noise of its own over the video. Ratios are taken in
one run, its settings one after the other in each repetition. On a CPU seconds are the processor's, over all threads.
"""

import argparse
import re
import shlex
import sys
import time
from contextlib import nullcontext
from statistics import median
from typing import Any

import pandas as pd
import torch
from tabulate import tabulate

from sharpv import Pruner, SharpV, VisualSharpV, paths
from sharpv.answering import environment
from sharpv.metrics.profiling import synthetic
from sharpv.metrics.profiling_models import SHAPES, build
from sharpv.models import adapter_for
from sharpv.pruners.sharpv_budget import SharpVBudget

ROWS = {
    "dense": None,
    "Visual SharpV, a quarter kept": Pruner(SharpVBudget(0.25)),
    "Visual SharpV": Pruner(VisualSharpV()),
    "SharpV, both stages": SharpV(),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model", choices=[name for name in SHAPES if name.startswith(("tiny", "llava_ov"))], default="tiny"
    )
    parser.add_argument("--layers", type=int)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--tokens", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    chosen = parser.parse_args()
    device = torch.device(chosen.device)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    model = build(chosen.model, device, dtype, layers=chosen.layers)
    model.generation_config.eos_token_id = None
    measured = measure(model, chosen.frames, sorted(chosen.batches), chosen.tokens, chosen.repeats)
    hardware = environment.hardware(device)
    name = re.sub(r"\W+", "_", hardware.get("gpu", hardware["cpu"])).strip("_").lower()
    path = paths.results_dir() / "bench" / f"batch_{name}_{chosen.model}.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    report = text(measured, chosen, hardware)
    path.write_text(report, encoding="utf-8")
    pd.DataFrame(measured).to_csv(path.with_suffix(".csv"), index=False)
    print(report, path)


def inputs_of(model: Any, frames: int, samples: int) -> dict[str, torch.Tensor]:
    """A batch of prompts of one length, each with a video of its own."""
    adapter, device = adapter_for(model), model.device
    pixels_TCHW = synthetic.video(adapter, frames, device)
    ids_1N = synthetic.prompt_ids(adapter, adapter.arranged(frames, adapter.grid), device)
    generator = torch.Generator(device).manual_seed(0)
    noise = [0.2 * torch.randn(pixels_TCHW.shape, generator=generator, device=device) for _ in range(samples)]
    videos = torch.stack([pixels_TCHW + one.to(pixels_TCHW) for one in noise])
    ids_BN = ids_1N.expand(samples, -1).contiguous()
    return {"input_ids": ids_BN, "attention_mask": torch.ones_like(ids_BN), "pixel_values_videos": videos}


def measure(model: Any, frames: int, batches: list[int], tokens: int, repeats: int) -> list[dict[str, Any]]:
    """Median seconds of each row at each batch size, after one answer that warms up."""
    seconds: dict[tuple[str, int], list[float]] = {(row, samples): [] for row in ROWS for samples in batches}
    kept: dict[tuple[str, int], float] = {}
    for repeat in range(repeats + 1):
        for samples in batches:
            inputs = inputs_of(model, frames, samples)
            for row, pruner in ROWS.items():
                began = _now(model.device)
                with pruner(model) if pruner else nullcontext() as report:
                    model.generate(**inputs, max_new_tokens=tokens, do_sample=False)
                if repeat:
                    seconds[row, samples].append(_now(model.device) - began)
                if report is not None:
                    videos = report.videos or [report]
                    kept[row, samples] = sum(one.vr for one in videos) / len(videos)
    return [
        {
            "row": row,
            "batch": samples,
            "kept": kept.get((row, samples), 1.0),
            "seconds": median(times),
            "answers_per_s": samples / median(times),
            "to_batch_of_one": samples * median(seconds[row, batches[0]]) / batches[0] / median(times),
            "to_dense": median(seconds["dense", samples]) / median(times),
        }
        for (row, samples), times in seconds.items()
    ]


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        return time.perf_counter()
    return time.process_time()


def text(measured: list[dict[str, Any]], chosen: argparse.Namespace, hardware: dict[str, Any]) -> str:
    """The page: what ran, and a line for each row and batch size."""
    facts = [", ".join(f"{k} {v}" for k, v in fact.items()) for fact in (hardware, environment.versions())]
    head = ["row", "batch", "tokens kept", "seconds a batch", "answers per s", "to its smallest batch", "to dense"]
    lines = [
        [
            one["row"],
            one["batch"],
            f"{one['kept']:.0%}",
            f"{one['seconds']:.3f}",
            f"{one['answers_per_s']:.3g}",
            f"{one['to_batch_of_one']:.2f}x",
            f"{one['to_dense']:.2f}x",
        ]
        for one in measured
    ]
    table = tabulate(lines, head, "pipe", colalign=("left", *["right"] * 6), disable_numparse=True)
    depth = f", cut to {chosen.layers} decoder layers" if chosen.layers else ""
    return f"""# Batches of {chosen.model}

Command: `python {shlex.join(sys.argv)}`
Hardware: {facts[0]}
Versions: {facts[1]}

{chosen.frames} frames{depth}, {chosen.tokens} tokens an answer, median of {chosen.repeats} after one that warms up;
random weights, so that the shares kept are those of noise. The seconds are of a whole batch, vision tower included, and
on a CPU the processor's: no time to first token is made of them. The machine may have been shared.

{table}
"""


if __name__ == "__main__":
    main()
