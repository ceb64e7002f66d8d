"""Peak memory of stretches of code: the CUDA allocator's count, or on a CPU the live bytes of tensors made in them.

On a CPU every operation's results are seen, but not the scratch that a kernel takes and frees inside one operation.
"""

import signal
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import TracebackType

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode


@dataclass
class Peak:
    """Bytes: `above` what was allocated when the stretch began, at its highest."""

    above: int = 0


def weight_bytes(model: nn.Module) -> int:
    """Bytes of a model's parameters and buffers, shared ones counted once."""
    tensors = {t.data_ptr(): t for t in (*model.parameters(), *model.buffers())}
    return sum(t.numel() * t.element_size() for t in tensors.values())


class _LiveBytes(TorchDispatchMode):
    """Counts the bytes of storages made under it that are still alive."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.highest = 0
        self.seen: set[int] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self.seen:
            return
        self.seen.add(key)
        self.live += storage.nbytes()
        self.highest = max(self.highest, self.live)
        weakref.finalize(storage, self._release, key, storage.nbytes())

    def _release(self, key: int, size: int) -> None:
        self.seen.discard(key)
        self.live -= size


@contextmanager
def _interrupt_afterwards() -> Iterator[None]:
    """Hold a Ctrl-C back: raised in a weak reference's callback, as `_LiveBytes` has many, it would be lost."""
    held: list[int] = []
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    try:
        signal.signal(signal.SIGINT, lambda number, frame: held.append(number))
    except ValueError:
        # Only the main thread sets handlers, and only it is interrupted.
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if held:
            raise KeyboardInterrupt


class PeakClock:
    """Peak bytes of each stage above what was allocated at the start; marked as a `StageClock` is, in its place.

    A stage's peak begins with what the stages before left alive. `peaks`: by stage, the highest where a stage was
    marked several times. On a CPU every operation is intercepted: never time the same stretch. A Ctrl-C within is
    raised behind it.
    """

    def __init__(self, device: torch.device):
        self.device, self.peaks = device, dict[str, int]()
        self._live, self._stack = _LiveBytes(), ExitStack()

    def __enter__(self) -> "PeakClock":
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
            self._before = torch.cuda.memory_allocated(self.device)
        else:
            self._stack.enter_context(_interrupt_afterwards())
            self._stack.enter_context(self._live)
        return self

    def mark(self, stage: str) -> None:
        """The stage of this name ends here; it began at the mark before."""
        if self.device.type == "cuda":
            highest = torch.cuda.max_memory_allocated(self.device) - self._before
            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            highest, self._live.highest = self._live.highest, self._live.live
        self.peaks[stage] = max(self.peaks.get(stage, 0), highest)

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.__exit__(kind, error, trace)


@contextmanager
def peak_memory(device: torch.device) -> Iterator[Peak]:
    """Measure the peak of one stretch, see `PeakClock`."""
    peak = Peak()
    with PeakClock(device) as clock:
        yield peak
        clock.mark("stretch")
    peak.above = clock.peaks["stretch"]
