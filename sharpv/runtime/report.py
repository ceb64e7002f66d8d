"""What a generation under a pruner left and read, layer by layer."""

from dataclasses import dataclass, field
from typing import Any

from PIL import Image
from torch import nn

from sharpv import summary
from sharpv.metrics.timing import StageClock
from sharpv.pruners.base import MemoryPruner
from sharpv.pruners.view import Layout


@dataclass(repr=False)
class Report:
    """What a pruner did in the latest generation; per-layer lists are indexed by layer. `print(report)` is a table.

    layout: of the video in the prompt as fed, None before the first generation. visual_rows: visual rows that the
    layer's attention computed in prefill. visual_kv: visual rows in its cache after prefill. reads: per decode step,
    the visual rows that each layer read. kv_bytes: of the whole cache after prefill, text included. state: the memory
    stage's of this generation. cosine: per kind of row (visual, system, instruction), the mean cosine of the states
    entering each layer to the rows as fed; only if asked for. videos: of a batch or a prompt with several videos, one
    report a video, in their order; the whole then has kv_bytes and times only, its parts all else. memory: the memory
    stage. clock: of the model's calls, where they are timed. generation: how many this report has seen, later turns
    included. encoded_before: whether the vision tower ran before what is timed.
    """

    layout: Layout | None = None
    visual_rows: list[int] = field(default_factory=list)
    visual_kv: list[int] = field(default_factory=list)
    reads: list[list[int]] = field(default_factory=list)
    kv_bytes: int = 0
    state: Any = None
    cosine: dict[str, list[float | None]] = field(default_factory=dict)
    videos: list["Report"] = field(default_factory=list)
    memory: MemoryPruner | None = None
    clock: StageClock | None = None
    generation: int = 0
    encoded_before: bool = False

    def __str__(self) -> str:
        if self.videos:
            return summary.tables(self)
        return "the report is empty: nothing was generated yet" if self.layout is None else summary.table(self)

    def __repr__(self) -> str:
        if self.videos:
            return f"Report(videos={self.videos!r})"
        return "Report()" if self.layout is None else f"Report(vr={self.vr:.3f}, mr={self.mr:.3f})"

    def film_strip(self, frames: Any, title: str = "") -> Image.Image:
        """A picture of what the visual stage kept of each frame, with its share; `sharpv.summary.film_strip`."""
        return summary.film_strip(self, frames, title)

    def time(self, model: Any, language_model: nn.Module) -> list[Any]:
        """Have the model's calls clocked from here on; the handles of the hooks, to be removed.

        A call begins where its vision tower does, which `generate` may run before it calls the model.
        """
        device, begun, clocked, encoded = next(model.parameters()).device, None, self.generation, False

        def encodes(module: nn.Module, args: tuple) -> None:
            nonlocal begun, encoded
            begun, encoded = begun or StageClock(device), True

        def before(module: nn.Module, args: tuple) -> None:
            nonlocal begun
            begun = begun or StageClock(device)

        def after(module: nn.Module, args: tuple, output: Any) -> None:
            nonlocal begun, clocked, encoded
            stage = "decode"
            if output is None:  # the call failed, so that its clock is of nothing
                begun, encoded = None, False
                return
            if self.generation != clocked:
                clocked, self.clock, self.encoded_before, stage = self.generation, begun, not encoded, "prefill"
            assert self.clock is not None
            self.clock.mark(stage)
            begun, encoded = None, False

        towers = [child for child in model.model.children() if child is not language_model]
        return [
            *(child.register_forward_pre_hook(encodes) for child in towers),
            model.register_forward_pre_hook(before),
            model.register_forward_hook(after, always_call=True),
        ]

    @property
    def seconds(self) -> dict[str, float]:
        """`prefill`: the call that answers the prompt, vision tower and pruning included. `decode`: each later token,
        on average, with what happens between two calls; absent where there was none. Empty where nothing was timed."""
        laps = {} if self.clock is None else self.clock.laps()
        return {stage: sum(times) / len(times) for stage, times in laps.items()}

    def go_on(self) -> None:
        """A later turn on the same cache begins: what was read and how long it took is told anew."""
        self.reads = []
        self.generation += 1

    def restart(self, layout: Layout | None, state: Any) -> None:
        """Forget the generation before and describe a new one; layout: None where it holds several videos."""
        self.layout, self.state, self.kv_bytes = layout, state, 0
        self.visual_rows, self.visual_kv, self.reads, self.cosine, self.videos = [], [], [], {}, []
        self.generation += 1

    def described(self) -> Layout:
        """The latest generation's layout; ValueError where there was none, or several videos."""
        if self.videos:
            raise ValueError(f"the report is of {len(self.videos)} videos: read report.videos, one report a video")
        if self.layout is None:
            raise ValueError("the report is empty: generate inside the context before reading it")
        return self.layout

    @property
    def vr(self) -> float:
        """Visual tokens fed to the language model as a share of the dense model's."""
        return self.described().visual / self.described().dense_visual

    @property
    def mr(self) -> float:
        """Visual KV read at decode as a share of the visual tokens fed; a first step's where none was decoded."""
        layout, steps = self.described(), self.reads or [self.visual_kv]
        return sum(map(sum, steps)) / (len(steps) * layout.depth * layout.visual) if layout.visual else 0.0

    @property
    def kv_held(self) -> float:
        """Visual KV still stored after prefill as a share of the visual tokens fed."""
        layout = self.described()
        return sum(self.visual_kv) / (layout.depth * layout.visual) if layout.visual else 0.0

    @property
    def token_budget(self) -> float:
        return self.vr * self.mr
