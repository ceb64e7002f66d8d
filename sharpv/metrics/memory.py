"""Peak memory of a stretch of code: the CUDA allocator's count, or on a CPU the live bytes of tensors made in it."""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

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

    def __init__(self, peak: Peak):
        super().__init__()
        self.peak, self.live = peak, 0
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
        self.peak.above = max(self.peak.above, self.live)
        weakref.finalize(storage, self._release, key, storage.nbytes())

    def _release(self, key: int, size: int) -> None:
        self.seen.discard(key)
        self.live -= size


@contextmanager
def peak_memory(device: torch.device) -> Iterator[Peak]:
    """Measure the peak of a stretch. On a CPU every operation is intercepted: never time the same stretch."""
    peak = Peak()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield peak
        torch.cuda.synchronize(device)
        peak.above = torch.cuda.max_memory_allocated(device) - before
    else:
        with _LiveBytes(peak):
            yield peak
