"""Stage times: synchronised host clock on a CPU, CUDA events on a GPU."""

import time

import torch


class StageClock:
    """Seconds between marks. On CUDA the marks are events on the current stream, read after one final wait."""

    def __init__(self, device: torch.device):
        self.cuda = device.type == "cuda"
        self._marks: list[tuple[str, object]] = []
        self.mark("start")

    def mark(self, stage: str) -> None:
        """The stage of this name ends here; it began at the mark before."""
        if self.cuda:
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self._marks.append((stage, event))
        else:
            self._marks.append((stage, time.perf_counter()))

    def seconds(self) -> dict[str, float]:
        """Seconds per stage; a stage marked several times is summed."""
        if self.cuda:
            torch.cuda.synchronize()
        times: dict[str, float] = {}
        for (_, before), (stage, after) in zip(self._marks, self._marks[1:], strict=False):
            spent = before.elapsed_time(after) / 1e3 if self.cuda else after - before
            times[stage] = times.get(stage, 0.0) + spent
        return times
