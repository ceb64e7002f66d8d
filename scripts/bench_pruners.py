"""What pruning itself costs: every visual and memory stage against the prefill of one layer of the language model.

python scripts/bench_pruners.py            32 frames x 196 tokens x 3584, a layer of Qwen2-7B's shape
python scripts/bench_pruners.py --small    8 frames x 196 tokens x 896, a layer of Qwen2-0.5B's shape, for a CPU

Everything is random but shaped like a video: tokens scatter around a few centres, some places more than others. Writes
results/bench/pruners_<hardware>.md.

Shape suffixes: T frames, P tokens per frame, D width, N rows, R raw patches, A tower heads, E head width, B batch (1),
X tower width, G key-value heads, K chosen tokens, Q rows of text behind the video.
"""

import argparse
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import quantiles
from typing import Any

import torch
from plain_pruners import PLAIN, same_rows
from torch import nn
from torch.nn import functional
from tqdm import tqdm
from transformers.models.qwen2.modeling_qwen2 import Qwen2Config, Qwen2DecoderLayer, Qwen2RotaryEmbedding

from sharpv import paths
from sharpv.answering import environment
from sharpv.metrics.profiling.machine import slug
from sharpv.pruners.base import MemoryPruner, VisualPruner
from sharpv.pruners.bipartite import BipartiteMerging
from sharpv.pruners.controls import Random
from sharpv.pruners.divprune import DivPrune
from sharpv.pruners.dycoke import DyCokeMerge
from sharpv.pruners.dycoke_cache import DyCokeCache
from sharpv.pruners.evs import EVS
from sharpv.pruners.fastv import FastV
from sharpv.pruners.fastvid import FastVID
from sharpv.pruners.flashvid import FlashVID
from sharpv.pruners.flashvid_inner import FlashVIDInner
from sharpv.pruners.framefusion import FrameFusion
from sharpv.pruners.holitom import HoliTom
from sharpv.pruners.holitom_inner import HoliTomInner
from sharpv.pruners.prumerge import PruMerge
from sharpv.pruners.prumerge_plus import PruMergePlus
from sharpv.pruners.prunevid import PruneVidMerge
from sharpv.pruners.prunevid_attention import PruneVidAttention
from sharpv.pruners.pyramiddrop import PyramidDrop
from sharpv.pruners.query_relevance import QueryRelevance
from sharpv.pruners.scissor import Scissor
from sharpv.pruners.sharpv import MemorySharpV, VisualSharpV
from sharpv.pruners.sharpv_budget import SharpVBudget
from sharpv.pruners.vcast import VCast
from sharpv.pruners.vidcom2 import VidCom2
from sharpv.pruners.visionzip import VisionZip
from sharpv.pruners.vtw import VTW
from sharpv.runtime.adapter import Geometry
from sharpv.runtime.cache import PrunableLayer, cache_argument
from sharpv.runtime.prompt import assemble, lay_out
from sharpv.runtime.report import Report
from sharpv.runtime.session import Session
from sharpv.tokens import Tower, VideoTokens

TEXT_ROWS, TEXT_BEFORE = 80, 14
CENTRES = 40
TOWER_SIDE, TOWER_HEADS, TOWER_HEAD_WIDTH = 27, 16, 72
DEPTH = 28
VISUAL: list[VisualPruner] = [
    VisualSharpV(),
    VisualSharpV(mode="manual"),
    SharpVBudget(),
    Random(keep_ratio=0.3),
    EVS(),
    VCast(),
    VidCom2(),
    DyCokeMerge(),
    DivPrune(),
    PruneVidMerge(),
    Scissor(),
    PruMerge(),
    PruMergePlus(keep_ratio=0.55),
    VisionZip(),
    FastVID(),
    HoliTom(),
    FlashVID(),
    BipartiteMerging(),
    QueryRelevance(),
]
MEMORY: list[MemoryPruner] = [
    MemorySharpV(),
    FastV(),
    VTW(),
    PruneVidAttention(),
    FrameFusion(),
    DyCokeCache(),
    PyramidDrop(),
    HoliTomInner(),
    FlashVIDInner(),
]


@dataclass(frozen=True)
class Size:
    """What is measured: frames, a frame's grid side, and the language model's layer."""

    frames: int
    side: int
    width: int
    feed_forward: int
    heads: int
    kv_heads: int


FULL = Size(32, 14, 3584, 18944, 28, 4)
SMALL = Size(8, 14, 896, 4864, 14, 2)


class ProbeHead(nn.Module):
    """A pooling head like SigLIP's: one learned query attends to the patches; pooled (T, X), attention (T, R)."""

    def __init__(self, width: int):
        super().__init__()
        self.probe_X = nn.Parameter(torch.randn(width) / width**0.5)

    def forward(self, states_TRX: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        attention_TR = (states_TRX @ self.probe_X).softmax(-1)
        return (attention_TR[:, None] @ states_TRX)[:, 0], attention_TR


def make_video(size: Size, device: torch.device, dtype: torch.dtype) -> VideoTokens:
    """Tokens around CENTRES, places from still to restless, and the inside of a SigLIP-shaped tower."""
    tokens = size.side**2
    center_PD = torch.randn(CENTRES, size.width)[torch.arange(tokens) % CENTRES]
    restless_P1 = torch.linspace(0.1, 1, tokens)[:, None]
    features_TPD = center_PD + restless_P1 * torch.randn(size.frames, tokens, size.width)
    shape = (size.frames, TOWER_HEADS, TOWER_SIDE**2, TOWER_HEAD_WIDTH)
    queries_TARE, keys_TARE = torch.randn(shape), torch.randn(shape)
    states_TRX = torch.randn(size.frames, TOWER_SIDE**2, TOWER_HEADS * TOWER_HEAD_WIDTH)

    def pool(patches_TRX: torch.Tensor) -> torch.Tensor:
        maps_TXrr = patches_TRX.transpose(1, 2).unflatten(2, (TOWER_SIDE, TOWER_SIDE))
        small_TXpp = functional.interpolate(maps_TXrr, size=(size.side, size.side), mode="bilinear")
        return small_TXpp.flatten(2).transpose(1, 2)

    here = {"device": device, "dtype": dtype}
    head = ProbeHead(states_TRX.shape[-1]).to(**here)
    tower = Tower({-1: queries_TARE.to(**here)}, {-1: keys_TARE.to(**here)}, False, states_TRX.to(**here), head, pool)
    question_QD = torch.randn(TEXT_ROWS - TEXT_BEFORE, size.width, generator=torch.Generator().manual_seed(1)).to(
        **here
    )
    return VideoTokens(features_TPD.to(**here), (size.side, size.side), 1, tower, question_QD)


class Bench:
    """One decoder layer, one prompt with a video in it, and the timing of anything against that layer's prefill."""

    def __init__(self, size: Size, device: torch.device, dtype: torch.dtype, repeats: int):
        self.device, self.repeats = device, repeats
        config = Qwen2Config(
            hidden_size=size.width,
            intermediate_size=size.feed_forward,
            num_attention_heads=size.heads,
            num_key_value_heads=size.kv_heads,
            num_hidden_layers=1,
            rope_parameters={"rope_type": "default", "rope_theta": 1e6},
            attn_implementation="sdpa",
        )
        self.layer = Qwen2DecoderLayer(config, 0).to(device, dtype).eval()
        self.cache_name = cache_argument(self.layer)
        self.rotary = Qwen2RotaryEmbedding(config).to(device)
        self.video = make_video(size, device, dtype)
        self.rows = self.video.total + TEXT_ROWS
        embeddings_BND = torch.randn(1, self.rows, size.width, device=device, dtype=dtype)
        embeddings_BND[0, TEXT_BEFORE : TEXT_BEFORE + self.video.total] = self.video.features_ND
        geometry = Geometry(size.frames, self.video.grid, separators=0)
        span = lay_out(geometry, torch.arange(TEXT_BEFORE, TEXT_BEFORE + geometry.rows), self.rows, device)
        self.fed = assemble(embeddings_BND, span, DEPTH, None, seed=1)
        self.keys_BGNE = torch.randn(1, size.kv_heads, self.rows, size.width // size.heads, device=device, dtype=dtype)
        self.embeddings = self.rotary(embeddings_BND, self.fed.positions)

    def milliseconds(self, action: Callable[[Any], Any], prepare: Callable[[], Any] = lambda: None) -> list[float]:
        """Times of the action on what `prepare` made, after one warm-up; the device is waited for at both ends."""
        times = []
        for repeat in range(self.repeats + 1):
            made = prepare()
            self._wait()
            start = time.perf_counter()
            action(made)
            self._wait()
            if repeat:
                times.append(1e3 * (time.perf_counter() - start))
        return times

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def prefill(self, _: None) -> None:
        """The layer on the whole prompt."""
        self.layer(self.fed.embeddings_BLD, position_embeddings=self.embeddings, attention_mask=None)

    def decode_layer(self, hidden_B1D: torch.Tensor) -> None:
        """The layer on one new row, behind a cache of the whole prompt."""
        cache = _OneLayerCache(self.keys_BGNE)
        embeddings = tuple(part[:, -1:] for part in self.embeddings)
        self.layer(hidden_B1D, position_embeddings=embeddings, attention_mask=None, **{self.cache_name: cache})

    def session(self, memory: MemoryPruner) -> tuple[Session, torch.Tensor]:
        """A fresh generation over DEPTH layers that share their weights, and its hidden states."""
        cache = [PrunableLayer() for _ in range(DEPTH)]
        layers = nn.ModuleList([self.layer] * DEPTH)
        session = Session(layers, self.rotary, memory, self.fed.layout, cache, Report())
        return session, self.fed.embeddings_BLD.clone()

    def prune_prefill(self, made: tuple[Session, torch.Tensor]) -> None:
        """All that a memory stage does in the prefill of DEPTH layers; the layers themselves do not run."""
        session, hidden_BND = made
        for index in range(DEPTH):
            call = {"position_embeddings": self.embeddings}
            hidden_BND = session.enter(index, hidden_BND, call)
            keys_BGNE = self.keys_BGNE[:, :, : hidden_BND.shape[1]]
            session.cache[index].update(keys_BGNE, keys_BGNE)
            session.attended(index, hidden_BND)
            hidden_BND = session.leave(index, hidden_BND)
        session.finish_forward()

    def in_decode(self, memory: MemoryPruner) -> tuple[Session, torch.Tensor]:
        """The same generation after its prefill, and the states of one new row."""
        session, hidden_BND = self.session(memory)
        self.prune_prefill((session, hidden_BND))
        return session, hidden_BND[:, -1:]

    def prune_decode(self, made: tuple[Session, torch.Tensor]) -> None:
        """All that a memory stage does in one decode step of DEPTH layers."""
        session, hidden_B1D = made
        for index in range(DEPTH):
            session.enter(index, hidden_B1D, {"position_embeddings": tuple(part[:, -1:] for part in self.embeddings)})


class _OneLayerCache:
    """What an attention module asks of a cache: the prompt's keys and values, then the new row's."""

    def __init__(self, keys_BGNE: torch.Tensor):
        self.keys_BGNE = keys_BGNE

    def update(self, keys: torch.Tensor, values: torch.Tensor, *_: Any, **__: Any) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.cat([self.keys_BGNE, keys], 2), torch.cat([self.keys_BGNE, values], 2)


def name_of(stage: VisualPruner | MemoryPruner) -> str:
    mode = f" ({stage.mode})" if isinstance(stage, VisualSharpV) else ""
    return type(stage).__name__ + mode


def summary(times: list[float]) -> tuple[float, str]:
    """Median, and median with interquartile range as text, ms."""
    low, median, high = quantiles(times, n=4, method="inclusive")
    return median, f"{median:.2f} ({low:.2f} to {high:.2f})"


@torch.inference_mode()
def measure(bench: Bench, plain: bool) -> list[str]:
    """The result's tables, as lines of markdown."""
    prefill, prefill_text = summary(bench.milliseconds(bench.prefill))
    decode, decode_text = summary(bench.milliseconds(bench.decode_layer, lambda: bench.fed.embeddings_BLD[:, -1:]))
    lines = [
        f"One layer: prefill of {bench.rows} rows {prefill_text} ms; one decode step {decode_text} ms.",
        "",
        "## Visual stages, once a video",
        "",
        "Straightforward: written from the formulas with the loops of the authors' code. PruMerge's and PruMerge+'s",
        "run over a frame's kept tokens, with attention and choice as in ours; where there is no number, no loop over",
        "tokens is known. DyCoke's runs over frames and skips the check for finite values, which our time contains. On",
        "a CPU memory sets that method's time, so that a loop whose products stay in the cache costs nothing.",
        "",
        "| method | kept | ms, median (IQR) | of one layer's prefill | straightforward, ms | times ours | same rows |",
        "| --- | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for method in tqdm(VISUAL, "visual", unit="method"):
        selection = method.select(bench.video)
        median, text = summary(bench.milliseconds(lambda _, m=method: m.select(bench.video)))
        other = "| | | |"
        if plain and type(method) in PLAIN:
            how, run = PLAIN[type(method)]
            slow, slow_text = summary(bench.milliseconds(lambda _, m=method, r=run: r(bench.video, m)))
            same = "yes" if same_rows(selection, run(bench.video, method)) else "no"
            other = f"| {slow_text}, {how} | {slow / median:.1f} | {same} |"
        lines.append(f"| {name_of(method)} | {len(selection)} | {text} | {median / prefill:.3f} {other}")
    lines += [
        "",
        f"## Memory stages, prefill, summed over {DEPTH} layers",
        "",
        "`no stage` is what following the layers costs by itself.",
        "",
        "| method | ms, median (IQR) | of one layer's prefill |",
        "| --- | ---: | ---: |",
    ]
    for method in tqdm([None, *MEMORY], "memory", unit="method"):
        median, text = summary(bench.milliseconds(bench.prune_prefill, lambda m=method: bench.session(m)))
        lines.append(f"| {name_of(method) if method else 'no stage'} | {text} | {median / prefill:.3f} |")
    lines += [
        "",
        f"## Memory stages that act at decode, one step, summed over {DEPTH} layers",
        "",
        "| method | ms, median (IQR) | of one layer's decode step |",
        "| --- | ---: | ---: |",
    ]
    for method in (None, DyCokeCache()):
        median, text = summary(bench.milliseconds(bench.prune_decode, lambda m=method: bench.in_decode(m)))
        lines.append(f"| {name_of(method) if method else 'no stage'} | {text} | {median / decode:.3f} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="fewer frames and a narrower layer, for CPUs")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), help="default: bfloat16 on CUDA, float32 on a CPU")
    parser.add_argument("--repeats", type=int, default=9, help="timed repeats after one warm-up")
    parser.add_argument("--no-plain", action="store_true", help="leave the straightforward versions out")
    options = parser.parse_args()
    if options.repeats < 2:
        parser.error("--repeats must be at least 2, or there is no spread")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = options.dtype or ("bfloat16" if device.type == "cuda" else "float32")
    size = SMALL if options.small else FULL
    torch.manual_seed(0)
    lines = measure(Bench(size, device, getattr(torch, dtype), options.repeats), not options.no_plain)
    hardware = environment.hardware(device)
    versions = environment.versions()
    path = paths.results_dir() / "bench" / f"pruners_{slug(device)}{'_small' if options.small else ''}.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    head = [
        "# What pruning itself costs",
        "",
        f"Command: `python {shlex.join(sys.argv)}`",
        f"Hardware: {', '.join(f'{name} {value}' for name, value in hardware.items())}",
        f"Versions: {', '.join(f'{name} {value}' for name, value in versions.items())}",
        f"Video: {size.frames} x {size.side**2} x {size.width}, {dtype}; layer: width {size.width}, feed-forward "
        f"{size.feed_forward}, {size.heads} heads, {size.kv_heads} key-value heads, SDPA; {options.repeats} repeats",
        f"after one warm-up. Random weights; tokens scatter around {CENTRES} centres by 0.1 to 1 of their norm; tower: "
        f"{TOWER_SIDE**2} patches x {TOWER_HEADS} heads x {TOWER_HEAD_WIDTH}. The machine may have been shared.",
        "",
    ]
    path.write_text("\n".join([*head, *lines, ""]), encoding="utf-8")
    print(path.read_text(encoding="utf-8"))
    print(f"written to {path}")


if __name__ == "__main__":
    main()
