"""The command behind scripts/profile.py: what to build and measure, and where results go.

Examples:
  python scripts/profile.py --model tiny --device cpu
  python scripts/profile.py --model llava_ov_0_5b --device cpu --layers 4 --frames 4 8 16 --tokens 16
  python scripts/profile.py --model llava_ov_7b --frames 8 16 32 64 128 256
"""

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from transformers.utils import is_flash_attn_2_available

from sharpv import paths
from sharpv.metrics.profiling import machine
from sharpv.metrics.profiling.measure import Profiler
from sharpv.metrics.profiling.plot import draw
from sharpv.metrics.profiling.pruners import PRUNERS, pair_of
from sharpv.metrics.profiling.report import render
from sharpv.metrics.profiling.results import Results
from sharpv.metrics.profiling_models import SHAPES, build, load, shape_config, tower_depth
from sharpv.metrics.timing import HOST_CLOCKS


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line; exits with a message where it makes no sense."""
    parser = argparse.ArgumentParser(
        "profile.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=SHAPES, default="tiny", help="shape to build (default: tiny)")
    parser.add_argument("--weights", type=Path, help="folder of real weights; default: random ones in the true shape")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1; default: CUDA where there is one")
    parser.add_argument("--dtype", choices=("float32", "bfloat16", "float16"), help="default: bfloat16 on CUDA")
    parser.add_argument("--attention", nargs="+", help="default: sdpa, and flash_attention_2 where installed on CUDA")
    parser.add_argument("--frames", nargs="+", type=int, default=[8, 32])
    named = f"of: {', '.join(PRUNERS)}; or any that `Pruner.names()` has, a method of one's own too"
    parser.add_argument("--pruners", nargs="+", default=list(PRUNERS), help=named)
    parser.add_argument("--force-ratio", type=float, default=0.32, help="visual tokens fed (the paper's 32%%)")
    parser.add_argument(
        "--force-memory", type=float, default=0.39, help="layers that keep visual KV (the paper's 39%%)"
    )
    parser.add_argument("--own-counts", action="store_true", help="force nothing: for real weights")
    parser.add_argument("--layers", type=int, help="cut the decoder to so many layers, the tower to the same fraction")
    parser.add_argument("--tokens", type=int, help="generated per answer; default: 64, 32 of the tiny model")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--clock", choices=HOST_CLOCKS, default="wall", help="on a CPU; process: for a shared machine")
    options = parser.parse_args(arguments)
    for share in (options.force_ratio, options.force_memory):
        if not 0 < share <= 1:
            parser.error(f"a forced share must lie in (0, 1], got {share}")
    if options.weights and options.layers:
        parser.error("--layers cuts random weights only: leave it out with --weights")
    for name in options.pruners:
        try:
            pair_of(name, None, None)
        except ValueError as error:
            parser.error(str(error))
    if "dense" not in options.pruners:
        options.pruners.insert(0, "dense")
    if options.device == "auto":
        options.device = "cuda" if torch.cuda.is_available() else "cpu"
    options.tokens = options.tokens if options.tokens is not None else 32 if options.model == "tiny" else 64
    cuda = torch.device(options.device).type == "cuda"
    options.dtype = options.dtype or ("bfloat16" if cuda else "float32")
    flash = ["flash_attention_2"] if cuda and is_flash_attn_2_available() else []
    options.attention = options.attention or ["sdpa", *flash]
    return options


def settings_of(options: argparse.Namespace, attention: str, command: str) -> dict[str, Any]:
    """Everything that a number depends on; rows of one table agree in all of it but the command."""
    full = shape_config(options.model)
    depth, tower = full.text_config.num_hidden_layers, tower_depth(full.vision_config)
    config = shape_config(options.model, options.layers)
    forced = not options.own_counts
    return {
        "model": options.model,
        "weights": str(options.weights or "random"),
        "layers": f"{config.text_config.num_hidden_layers} of {depth}",
        "tower_layers": f"{tower_depth(config.vision_config)} of {tower}",
        "dtype": options.dtype,
        "attention": attention,
        "device": options.device,
        "tokens": options.tokens,
        "repeats": options.repeats,
        "clock": "CUDA events" if torch.device(options.device).type == "cuda" else options.clock,
        "force_ratio": options.force_ratio if forced else "own",
        "force_memory": options.force_memory if forced else "own",
        **machine.describe(torch.device(options.device)),
        "command": command,
    }


def main(arguments: list[str] | None = None) -> int:
    """Measure what the result file lacks, block by block of frames, then write its tables and plot."""
    given = sys.argv[1:] if arguments is None else arguments
    options = parse(given)
    command = shlex.join(["python", "scripts/profile.py", *given])
    device = torch.device(options.device)
    base = paths.results_dir() / "bench" / f"{options.model}_{machine.slug(device)}"
    results = Results(base.with_suffix(".csv"))
    forced = (None, None) if options.own_counts else (options.force_ratio, options.force_memory)
    for attention in options.attention:
        settings = settings_of(options, attention, command)
        todo = {frames: results.missing(settings, frames, options.pruners) for frames in options.frames}
        if not any(todo.values()):
            continue
        dtype = getattr(torch, options.dtype)
        if options.weights:
            model = load(options.model, options.weights, device, dtype, attention)
        else:
            model = build(options.model, device, dtype, attention, options.layers)
        profiler = Profiler(model, options.tokens, options.repeats, options.clock)
        for frames, names in tqdm(todo.items(), f"{options.model} {attention}", unit="block"):
            if names:
                pairs = {name: pair_of(name, *forced) for name in names}
                results.append([settings | row for row in profiler.block(frames, pairs)])
        del model, profiler
    base.with_suffix(".md").write_text(render(results.rows), encoding="utf-8")
    drawn = draw(results.rows, base)
    print(f"written to {base}.md, .csv{drawn}")
    return 0
