"""Profiling of pruners on one model: stage times, memory and operations of dense and pruned answers, side by side.

Shape suffixes: T frames, P tokens per frame, C channels, H height, W width, D width, S separator rows, B batch (1),
N prompt rows.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch

from sharpv.metrics.flops import LanguageShape, eq5_prefill, stage_flops
from sharpv.metrics.memory import PeakClock, weight_bytes
from sharpv.metrics.profiling import synthetic
from sharpv.metrics.profiling.pruners import Pair
from sharpv.metrics.timing import Spread, StageClock
from sharpv.models import adapter_for
from sharpv.models.pllava.adapter import Pllava
from sharpv.runtime.adapter import Adapter
from sharpv.runtime.attach import LayerHooks, layer_hooks
from sharpv.runtime.decode import Clock, Greedy, generate
from sharpv.runtime.prompt import Span, assemble, find_span
from sharpv.runtime.report import Report
from sharpv.runtime.session import Session
from sharpv.tokens import Tower, VideoTokens

"""Text rows around the video: 80, as in the paper's 6272 + 80."""

Taps = tuple[int, ...] | None


class WatchedHooks:
    """Stands in for `LayerHooks` in `generate` and times all that the runtime and the memory stage do around layers."""

    def __init__(self, hooks: LayerHooks, clock: StageClock):
        self.hooks, self.clock = hooks, clock

    @property
    def session(self) -> Session | None:
        return self.hooks.session

    @session.setter
    def session(self, session: Session | None) -> None:
        self.hooks.session = session and _WatchedSession(session, self.clock)


class _WatchedSession:
    def __init__(self, session: Session, clock: StageClock):
        self._session, self._clock = session, clock

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any) -> Any:
            self._clock.mark("layers")
            result = getattr(self._session, name)(*args)
            self._clock.mark("session")
            return result

        return call


@dataclass
class Scene:
    """One random video at the language model's door: pixels, prompt embeddings, and by tower layers tapped the tower's
    inside, the vision times and the vision peak."""

    pixels: Any
    tokens_TPD: torch.Tensor
    embeddings_BND: torch.Tensor
    span: Span
    towers: dict[Taps, Tower | None] = field(default_factory=dict)
    times: dict[Taps, list[float]] = field(default_factory=dict)
    peaks: dict[Taps, int] = field(default_factory=dict)


class Profiler:
    """Measures pruners on one model. `tokens`: generated in each answer. `repeats`: timed, after a first pass that
    measures memory and warms up. `host`: a CPU's clock, see `HOST_CLOCKS`."""

    def __init__(self, model: Any, tokens: int, repeats: int, host: str = "wall"):
        if repeats < 2 or tokens < 2:
            raise ValueError(f"repeats={repeats} and tokens={tokens} must be at least 2, or there is no spread or TPOT")
        self.adapter: Adapter = adapter_for(model)
        self.tokens, self.repeats, self.device, self.host = tokens, repeats, torch.device(model.device), host
        self.shape = LanguageShape.of(model.config.text_config)
        self.weights = weight_bytes(model)

    @torch.inference_mode()
    def block(self, frames: int, pairs: dict[str, Pair]) -> list[dict[str, Any]]:
        """One result per pruner at this number of frames. Repeats go round all pruners in turn, so that a drift of the
        machine meets them all alike. A pruner that refuses the model gives its reason."""
        scene = self._scene(frames, {_taps(pair) for pair in pairs.values()})
        results: dict[str, dict[str, Any]] = {}
        with layer_hooks(self.adapter) as hooks:
            runs = {name: _Run(self, scene, pair, hooks) for name, pair in pairs.items()}
            for name, run in runs.items():
                try:
                    results[name] = {"status": "ok", "reason": ""} | run.measure_once()
                except ValueError as refused:
                    results[name] = {"status": "refused", "reason": str(refused)}
            able = [name for name in runs if results[name]["status"] == "ok"]
            for _ in range(self.repeats):
                for name in able:
                    runs[name].repeat()
        return [
            {"pruner": name, "frames": frames} | result | (runs[name].times() if name in able else {})
            for name, result in results.items()
        ]

    def clock(self) -> StageClock:
        return StageClock(self.device, self.host)

    def vision_seconds(self, pixels: Any) -> float:
        clock = self.clock()
        self.adapter.encode(pixels)
        clock.mark("vision")
        return clock.seconds()["vision"]

    def vision_peak(self, pixels: Any) -> int:
        with PeakClock(self.device) as clock:
            self.adapter.encode(pixels)
            clock.mark("vision")
        return clock.peaks["vision"]

    def _scene(self, frames: int, wanted: set[Taps]) -> Scene:
        if isinstance(self.adapter, Pllava):
            self.adapter.projector.shape = (frames, *self.adapter.grid)
        pixels = synthetic.video(self.adapter, frames, self.device)
        vision = self.adapter.encode(pixels)
        ids_BN = synthetic.prompt_ids(self.adapter, self.adapter.arranged(frames, vision.grid), self.device)
        positions_RN = self.adapter.positions(ids_BN, pixels)
        span = find_span(self.adapter, ids_BN, (frames, *vision.grid), positions_RN, vision.levels_LND)
        embeddings_BND = self.adapter.language_model.get_input_embeddings()(ids_BN)
        span.write(embeddings_BND[0], vision.tokens_TPD, vision.separator_D)
        scene = Scene(pixels, vision.tokens_TPD, embeddings_BND, span)
        for taps in wanted:
            with self._tap(taps) as tap:
                scene.peaks[taps] = self.vision_peak(pixels)
                scene.towers[taps] = tap.tower() if tap is not None else None
        for _ in range(self.repeats):
            for taps in wanted:
                with self._tap(taps):
                    scene.times.setdefault(taps, []).append(self.vision_seconds(pixels))
        return scene

    def _tap(self, taps: Taps) -> AbstractContextManager[Any]:
        return nullcontext() if taps is None else self.adapter.tap_tower(taps)


class _Run:
    """One pruner on one scene."""

    def __init__(self, profiler: Profiler, scene: Scene, pair: Pair, hooks: LayerHooks):
        self.profiler, self.scene, self.hooks = profiler, scene, hooks
        self.visual, self.memory = pair
        self.taps = _taps(pair)
        self.vision_s = scene.times[self.taps]
        self.laps: list[dict[str, list[float]]] = []

    def measure_once(self) -> dict[str, Any]:
        """Memory, operations and what was kept, in a pass that is not timed."""
        if self.memory is not None:
            self.memory.check(self.profiler.shape.depth)
        with PeakClock(self.profiler.device) as peak:
            report = self._answer(peak, self.hooks, self.profiler.tokens)
        frames, vision_peak = self._own_frames()
        layout, shape = report.layout, self.profiler.shape
        assert layout is not None
        text = layout.length - layout.visual
        rows = [text + visual for visual in report.visual_rows]
        reads = [[text + step + read for read in layer_reads] for step, layer_reads in enumerate(report.reads)]
        flops = stage_flops(self.profiler.adapter.model.config, frames, rows, reads, layout.grid)
        element = self.profiler.adapter.model.dtype.itemsize
        return {
            "frames_encoded": frames,
            "visual_dense": layout.dense_visual,
            "visual_kept": layout.visual,
            "vr": report.vr,
            "mr": report.mr,
            "flops_vision": flops.vision,
            "flops_prefill": sum(flops.prefill) + flops.head,
            "flops_prefill_eq5": eq5_prefill(shape, rows),
            "flops_decode_token": sum(flops.decode) / len(flops.decode),
            "weights_bytes": self.profiler.weights,
            "peak_vision_bytes": vision_peak,
            "peak_prune_bytes": peak.peaks["prune"],
            "peak_prefill_bytes": peak.peaks["prefill"],
            "peak_decode_bytes": peak.peaks["decode"],
            "kv_bytes": report.kv_bytes,
            "kv_bytes_predicted": shape.kv_bytes([text + kept for kept in report.visual_kv], element),
        }

    def repeat(self) -> None:
        """One timed answer, and one short one that times what happens around the layers."""
        clock = self.profiler.clock()
        self._answer(clock, self.hooks, self.profiler.tokens)
        watch = self.profiler.clock()
        self._answer(watch, WatchedHooks(self.hooks, watch), 1)
        self.laps.append(clock.laps() | {"session": watch.laps()["session"]})

    def times(self) -> dict[str, float]:
        """Median and quartiles over the repeats, in seconds."""
        seconds: dict[str, list[float]] = {"vision": self.vision_s}
        for stage in ("prune", "prefill", "first_token", "session"):
            seconds[stage] = [sum(laps[stage]) for laps in self.laps]
        seconds["tpot"] = [sum(laps["decode"]) / len(laps["decode"]) for laps in self.laps]
        stages = (seconds[stage] for stage in ("vision", "prune", "prefill", "first_token"))
        seconds["ttft"] = [sum(parts) for parts in zip(*stages, strict=True)]
        spreads = {stage: Spread.of(values) for stage, values in seconds.items()}
        return {f"{s}_s{end}": getattr(v, m) for s, v in spreads.items() for end, m in ENDS.items()}

    def _answer(self, clock: Clock, hooks: Any, tokens: int) -> Report:
        scene, selection = self.scene, None
        if self.visual is not None:
            video = VideoTokens(scene.tokens_TPD, scene.span.grid, 0, scene.towers[self.taps])
            selection = self.visual.select(video)
        clock.mark("prune")
        fed = assemble(scene.embeddings_BND, scene.span, self.profiler.shape.depth, selection, 0)
        _, report = generate(self.profiler.adapter, hooks, fed, self.memory, Greedy(tokens, frozenset()), clock)
        return report

    def _own_frames(self) -> tuple[int, int]:
        """Frames that this pruner alone would encode, and the vision peak; fewer frames get a vision time of theirs."""
        scene, wanted = self.scene, None
        if self.visual is not None:
            wanted = self.visual.encoded_frames(VideoTokens(scene.tokens_TPD, scene.span.grid))
        if wanted is None:
            return len(scene.tokens_TPD), scene.peaks[self.taps]
        pixels = scene.pixels[wanted.to(self.profiler.device)]
        peak = self.profiler.vision_peak(pixels)
        self.vision_s = [self.profiler.vision_seconds(pixels) for _ in range(self.profiler.repeats)]
        return len(wanted), peak


ENDS = {"": "median", "_low": "low", "_high": "high"}
"""How the columns of a spread are named."""


def _taps(pair: Pair) -> Taps:
    visual = pair[0]
    return tuple(visual.tower_layers) if visual is not None and visual.tower_layers is not None else None
