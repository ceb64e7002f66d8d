"""Stage times: host clock on a CPU, where every operation waits by itself; CUDA events on a GPU.

A mark on CUDA is an event put on the stream: it makes nobody wait. The one wait is in `laps`, behind everything.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import quantiles
from typing import Any

import torch

HOST_CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "process": time.process_time}
"""What tells the time on a CPU. `process` counts this process's seconds on all its threads: on a machine shared with
others, with one thread, what `wall` would show on an idle core."""


class StageClock:
    """Seconds between marks. The usual stages are decode_video, preprocess, vision, prune, prefill, first_token and
    decode, this last once a token; TTFT is vision to first_token, TPOT the mean of decode."""

    def __init__(self, device: torch.device, host: str = "wall"):
        self.device, self.cuda, self._now = device, device.type == "cuda", HOST_CLOCKS[host]
        self._marks: list[tuple[str, Any]] = []
        self.mark("start")

    def mark(self, stage: str) -> None:
        """The stage of this name ends here; it began at the mark before."""
        if self.cuda:
            event = torch.cuda.Event(enable_timing=True)
            # Of the model's device, which need not be torch's current one.
            event.record(torch.cuda.current_stream(self.device))
            self._marks.append((stage, event))
        else:
            self._marks.append((stage, self._now()))

    def laps(self) -> dict[str, list[float]]:
        """Seconds of each time that a stage ended, in order."""
        if self.cuda:
            torch.cuda.synchronize(self.device)
        laps: dict[str, list[float]] = {}
        for (_, before), (stage, after) in zip(self._marks, self._marks[1:], strict=False):
            laps.setdefault(stage, []).append(before.elapsed_time(after) / 1e3 if self.cuda else after - before)
        return laps

    def seconds(self) -> dict[str, float]:
        """Seconds per stage; a stage marked several times is summed."""
        return {stage: sum(laps) for stage, laps in self.laps().items()}


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of repeated measurements."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        """ValueError for fewer than two values: one measurement has no spread."""
        values = list(values)
        if len(values) < 2:
            raise ValueError(f"a spread needs at least 2 measurements, got {len(values)}: repeat more often")
        low, median, high = quantiles(values, n=4, method="inclusive")
        return cls(median, low, high)
