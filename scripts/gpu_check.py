"""Everything that only a GPU can show, in one report: results/gpu/<device>.md, its profile rows beside it as .csv.

python scripts/gpu_check.py                          on one GPU, 7B shape, at most 20 minutes
python scripts/gpu_check.py --device cpu --small     the script itself, on a CPU

Each section stands alone: one that fails is told as failed and the next one runs. The report is written anew after
each, so that a session that is cut off leaves what it measured.
"""

import argparse
import shlex
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import torch
from bench_pruners import FULL, SMALL, VISUAL, Bench, Size, make_video, name_of
from bench_pruners import measure as measure_pruners
from torch.profiler import ProfilerActivity, profile
from transformers import AutoModelForCausalLM

from sharpv import paths
from sharpv.metrics.profiling import command, machine
from sharpv.metrics.profiling.measure import Profiler
from sharpv.metrics.profiling.pruners import PRUNERS, pair_of
from sharpv.metrics.profiling.read_backs import READ_BACKS
from sharpv.metrics.profiling.report import render
from sharpv.metrics.profiling.results import Compared, Results, compared
from sharpv.metrics.profiling.targets import TARGETS
from sharpv.metrics.profiling_models import build, shape_config
from sharpv.tokens import Tower, VideoTokens

TIES = {torch.float32: 0.005, torch.float16: 0.03, torch.bfloat16: 0.05}
"""Share of the kept rows that may be others than the CPU's in float32: values so near that rounding orders them."""
READ_BACK = "Memcpy DtoH"
"""What CUDA's trace calls a copy to the host."""
HOST_READS = ("aten::_local_scalar_dense", "aten::nonzero")
"""On a CPU, operations that would be such a copy: a lower bound, only to see that the section runs."""
SPEEDUP, GRAPHS_WORTH = 1.64, 1.1
SWEEP = (8, 16, 64, 128, 256)


@dataclass
class Check:
    """One run of the script: the device and sizes, verdicts, and the report as far as it is."""

    device: torch.device
    small: bool
    base: Path
    command: str
    verdicts: list[str] = field(default_factory=list)
    sections: list[str] = field(default_factory=list)

    @property
    def cuda(self) -> bool:
        return self.device.type == "cuda"

    @property
    def dtypes(self) -> list[torch.dtype]:
        return [torch.float32, torch.bfloat16, *([] if self.small else [torch.float16])]

    def verdict(self, what: str, good: bool | None, told: str) -> None:
        state = "not measured" if good is None else "pass" if good else "**fail**"
        self.verdicts.append(f"| {what} | {state} | {told} |")

    def section(self, title: str, measure: Callable[["Check"], list[str]]) -> None:
        """Run one section and write the report as it stands then."""
        start = time.monotonic()
        try:
            lines = measure(self)
        # Whatever a section meets on a new device must not cost the others.
        except Exception as error:
            traceback.print_exc()
            reason = " ".join(f"{type(error).__name__}: {error}".split()).replace("|", "/")[:300]
            self.verdict(f"section {title}", False, f"failed: {reason}")
            lines = [f"**Failed**: {reason}"]
        finally:
            if self.cuda:
                torch.cuda.empty_cache()
        seconds = time.monotonic() - start
        self.sections += [f"## {title}", "", *lines, "", f"({seconds:.0f} s)", ""]
        self.write()
        print(f"{title}: {seconds:.0f} s", flush=True)

    def write(self) -> None:
        described = machine.describe(self.device)
        head = ["# What a GPU shows", "", f"Command: `{self.command}`", ""]
        head += [f"- {name}: {value}" for name, value in described.items()]
        if not self.cuda:
            head += [
                "",
                "**This is a CPU**: it shows that the script runs, nothing about a GPU. No GPU has run it yet.",
            ]
        head += ["", "| check | verdict | measured |", "| --- | --- | --- |", *self.verdicts, ""]
        self.base.parent.mkdir(parents=True, exist_ok=True)
        self.base.with_suffix(".md").write_text("\n".join([*head, *self.sections]), encoding="utf-8")


@torch.inference_mode()
def selections(check: Check) -> list[str]:
    """Every visual stage on the device, in each type, against the same on the CPU in float32 of the same values."""
    size = Size(3, 14, 64, 128, 4, 2) if check.small else FULL
    lines = ["| method | " + " | ".join(str(dtype).removeprefix("torch.") for dtype in check.dtypes) + " |"]
    lines += ["| --- |" + " ---: |" * len(check.dtypes)]
    worst = dict.fromkeys(check.dtypes, 0.0)
    torch.manual_seed(0)
    video = make_video(size, torch.device("cpu"), torch.float32)
    for method in VISUAL:
        cells = []
        for dtype in check.dtypes:
            # The CPU sees the rounded values too: only the arithmetic may differ.
            rounded = moved(video, torch.device("cpu"), dtype)
            here = method.select(moved(rounded, torch.device("cpu"), torch.float32)).origin_K
            there = method.select(moved(rounded, check.device, dtype)).origin_K.cpu()
            # Merged rows share an origin, so that rows are counted, not only named.
            same = (Counter(here.tolist()) & Counter(there.tolist())).total()
            other = 1 - same / max(len(here), len(there), 1)
            worst[dtype] = max(worst[dtype], other)
            cells.append(f"{other:.2%}")
        lines.append(f"| {name_of(method)} | {' | '.join(cells)} |")
    for dtype, share in worst.items():
        told = f"worst {share:.2%} of rows are others (allowed as ties: {TIES[dtype]:.1%})"
        check.verdict(f"selection equals the CPU's, {dtype}", share <= TIES[dtype], told)
    return ["Share of the kept rows that are not those of the CPU in float32.", "", *lines]


def moved(video: VideoTokens, device: torch.device, dtype: torch.dtype) -> VideoTokens:
    """The video with all that a stage reads of it in another type on another device."""
    here, tower = {"device": device, "dtype": dtype}, video.tower
    parts = ({layer: part.to(**here) for layer, part in parts.items()} for parts in (tower.queries, tower.keys))
    # A copy, since `to` moves a module in place.
    head = type(tower.head)(tower.states_TRX.shape[-1])
    head.load_state_dict(tower.head.state_dict())
    moved_tower = Tower(*parts, tower.has_cls, tower.states_TRX.to(**here), head.to(**here), tower.pool)
    return VideoTokens(video.features_TPD.to(**here), video.grid, video.seed, moved_tower, video.question_QD.to(**here))


@torch.inference_mode()
def answers(check: Check) -> list[str]:
    """The first logits of a dense prompt of the tiny model in each type and attention, against the CPU's in float32."""
    wanted = command.parse(["--device", str(check.device)]).attention
    lines = ["| attention | type | largest difference of a logit | same token |", "| --- | --- | ---: | --- |"]
    ids = torch.arange(8, 40)[None]
    plain = build("tiny", torch.device("cpu"), torch.float32).eval()
    expected = plain(input_ids=ids).logits[0, -1]
    for attention in wanted:
        for dtype in check.dtypes:
            if attention == "flash_attention_2" and dtype == torch.float32:
                continue
            model = build("tiny", torch.device("cpu"), torch.float32, attention)
            model.load_state_dict(plain.state_dict())
            found = model.to(check.device, dtype)(input_ids=ids.to(check.device)).logits[0, -1].float().cpu()
            gap, same = float((found - expected).abs().max()), bool(found.argmax() == expected.argmax())
            lines.append(f"| {attention} | {dtype} | {gap:.4f} | {'yes' if same else 'no'} |")
            limit = 1e-3 if dtype == torch.float32 else 0.05 * float(expected.abs().max())
            check.verdict(f"logits with {attention}, {dtype}", gap <= limit, f"{gap:.4f}, allowed {limit:.4f}")
    if "flash_attention_2" not in wanted:
        check.verdict("FlashAttention-2", None, "not installed, or no GPU")
    return lines


@torch.inference_mode()
def read_backs(check: Check) -> list[str]:
    """Copies to the host that the profiler sees in each visual stage, against what its docstring allows."""
    size = Size(3, 14, 64, 128, 4, 2) if check.small else FULL
    dtype = torch.bfloat16 if check.cuda else torch.float32
    video = make_video(size, check.device, dtype)
    lines, over = ["| method | copies to the host | allowed |", "| --- | ---: | ---: |"], []
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if check.cuda else [])]
    for method, allowed in READ_BACKS:
        method.select(video)
        with profile(activities=activities) as traced:
            method.select(video)
            if check.cuda:
                torch.cuda.synchronize(check.device)
        events = traced.events() or []
        names = (READ_BACK,) if check.cuda else HOST_READS
        count = sum(event.name.startswith(names) for event in events)
        # One more for the check that features are finite.
        lines.append(f"| {method!r} | {count} | {allowed + 1} |")
        if count > allowed + 1:
            over.append(f"{name_of(method)}: {count} of {allowed + 1}")
    if check.cuda:
        check.verdict("read-backs of visual stages", not over, "; ".join(over) or "none above what is allowed")
    else:
        check.verdict("read-backs of visual stages", None, "a CPU has none; its operations are only counted")
    return lines


def overhead(check: Check) -> list[str]:
    """Each stage's time against one layer's prefill: scripts/bench_pruners.py, without the straightforward versions."""
    size = Size(2, 14, 64, 128, 4, 2) if check.small and not check.cuda else SMALL if check.small else FULL
    dtype = torch.bfloat16 if check.cuda else torch.float32
    bench = Bench(size, check.device, dtype, 2 if check.small else 9)
    return [line.replace("## ", "### ") for line in measure_pruners(bench, plain=False)]


def measured(check: Check, frames: tuple[int, ...], pruners: list[str]) -> dict[int, list[Compared]]:
    """Profile these pruners and add the rows to the .csv; what is there already is not measured again."""
    shape = ["--model", "tiny" if check.small else "llava_ov_7b", "--device", str(check.device)]
    sizes = ["--tokens", "3", "--repeats", "2"] if check.small else ["--tokens", "32", "--repeats", "3"]
    options = command.parse([*shape, *sizes, "--pruners", *pruners])
    results, attention = Results(check.base.with_suffix(".csv")), options.attention[-1]
    settings = command.settings_of(options, attention, check.command)
    todo = {count: results.missing(settings, count, options.pruners) for count in frames}
    if any(todo.values()):
        model = build(options.model, check.device, getattr(torch, options.dtype), attention)
        profiler = Profiler(model, options.tokens, options.repeats)
        for count, names in todo.items():
            if names:
                pairs = {name: pair_of(name, options.force_ratio, options.force_memory) for name in names}
                results.append([settings | row for row in profiler.block(count, pairs)])
    wanted = [row for row in results.rows if row["hardware"] == settings["hardware"] and int(row["frames"]) in frames]
    return compared(sorted(wanted, key=lambda row: int(row["frames"])))


def targets(check: Check) -> list[str]:
    """TTFT, TPOT and memory of dense and every method, held to the targets."""
    frames = 4 if check.small else 32
    names = ["dense", "sharpv", "fastv", "dycoke", "fastvid"] if check.small else list(PRUNERS)
    block = measured(check, (frames,), names)[frames]
    for target in TARGETS:
        rows = [row for row in block if target.rows(row)]
        if not rows:
            check.verdict(target.text, None, "no row")
            continue
        missed = [row for row in rows if target.miss(row) > target.limit and not target.unsure(row)]
        worst = max(rows, key=target.miss)
        told = f"worst {target.miss(worst):+.2%} ({worst.name})" + (f", {len(missed)} rows miss it" if missed else "")
        check.verdict(target.text, not missed, told)
    sharpv = next(row for row in block if row.name == "sharpv")
    told = (
        f"{sharpv.speedup:.2f} times, where its bound is {sharpv.bound_speedup:.2f}, vision alone {sharpv.ceiling:.2f}"
    )
    check.verdict(f"TTFT {SPEEDUP} times as fast at 32% kept", sharpv.speedup >= SPEEDUP, told)
    return [render(Results(check.base.with_suffix(".csv")).rows).replace("\n#", "\n##").removeprefix("# ")]


def sweep(check: Check) -> list[str]:
    """Speed-up over frames, dense and SharpV."""
    frames = (2, 4) if check.small else SWEEP
    lines = ["| frames | TTFT dense, s | SharpV, s | speed-up | bound |", "| ---: | ---: | ---: | ---: | ---: |"]
    for count, block in measured(check, frames, ["dense", "sharpv"]).items():
        row = next(row for row in block if row.name == "sharpv")
        dense, own = row.dense_value("ttft_s"), row.value("ttft_s")
        lines.append(f"| {count} | {dense:.3f} | {own:.3f} | {row.speedup:.2f} | {row.bound_speedup:.2f} |")
    return lines


@torch.inference_mode()
def graphs(check: Check) -> list[str]:
    """Seconds a token of the decoder alone, as it is and with a static cache under torch.compile (CUDA graphs)."""
    if not check.cuda:
        check.verdict("decoding with CUDA graphs", None, "needs a GPU")
        return ["Not measured: CUDA graphs need a GPU."]
    config = shape_config("tiny" if check.small else "llava_ov_7b").text_config
    with check.device:
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, attn_implementation="sdpa").eval()
    prompt, tokens, seconds = torch.full((1, 512 if check.small else 2048), 5, device=check.device), 64, {}
    ways = {"as it is": {}, "static cache, compiled": {"cache_implementation": "static"}}
    for name, way in ways.items():
        spent = []
        # The first two compile and capture.
        for repeat in range(5):
            took = []
            for count in (1, tokens + 1):
                torch.cuda.synchronize(check.device)
                start = time.perf_counter()
                model.generate(prompt, max_new_tokens=count, min_new_tokens=count, do_sample=False, **way)
                torch.cuda.synchronize(check.device)
                took.append(time.perf_counter() - start)
            if repeat > 1:
                spent.append((took[1] - took[0]) / tokens)
        seconds[name] = median(spent)
    gain = seconds["as it is"] / seconds["static cache, compiled"]
    told = f"{gain:.2f} times as fast; worth adopting above {GRAPHS_WORTH}"
    check.verdict("decoding with CUDA graphs", None if gain > GRAPHS_WORTH else True, told)
    return [*(f"- {name}: {1e3 * value:.2f} ms a token" for name, value in seconds.items()), f"- {told}"]


SECTIONS = {
    "Selections": selections,
    "Attention and types": answers,
    "Read-backs": read_backs,
    "What pruning itself costs": overhead,
    "Dense and every method": targets,
    "Over frames": sweep,
    "Decoding": graphs,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, cpu")
    parser.add_argument("--small", action="store_true", help="the tiny model and few frames")
    options = parser.parse_args()
    if options.device != "cpu" and not torch.cuda.is_available():
        parser.error("there is no GPU here; --device cpu --small runs the script without one")
    if options.device == "cpu" and not options.small:
        parser.error("the 7B shape takes days on a CPU: add --small")
    device = torch.device(options.device)
    base = paths.results_dir() / "gpu" / (machine.slug(device) + ("_small" if options.small else ""))
    check = Check(device, options.small, base, shlex.join(["python", *sys.argv]))
    for title, measure in SECTIONS.items():
        check.section(title, measure)
    print("\n".join(check.verdicts))
    print(f"written: {base}.md, .csv")
    return int(any("failed: " in line for line in check.verdicts))


if __name__ == "__main__":
    sys.exit(main())
