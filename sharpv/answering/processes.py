"""Data parallelism: processes started by torchrun or accelerate share a cell's videos and meet when all is answered."""

from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import torch
from torch import distributed

from sharpv import paths

T = TypeVar("T")
PATIENCE = timedelta(days=14)
"""How long the others may still be at work; a process that dies ends the wait at once."""


class Processes:
    """This process among `count`, `local_count` of them on this machine; alone it needs no process group.

    They meet by gloo, over the network that torchrun set up: nothing but short messages passes between them, answers go
    through files. command: a name for the one that they all run.
    """

    def __init__(self) -> None:
        self.rank, self.count, self.local_rank, self.local_count = paths.process_numbers()
        if not 0 <= self.rank < self.count:
            raise ValueError(
                f"RANK={self.rank} does not fit WORLD_SIZE={self.count}: start with torchrun or accelerate launch"
            )
        if self.count > 1 and not distributed.is_initialized():
            distributed.init_process_group("gloo", timeout=PATIENCE)
        if torch.cuda.is_available():
            torch.cuda.set_device(self.local_rank % torch.cuda.device_count())
        self.command = self.from_first(uuid4().hex[:8])

    @property
    def first(self) -> bool:
        return self.rank == 0

    def share(self, videos: list[Path]) -> set[Path]:
        """The videos of this process: every `count`-th of all, whatever is answered already."""
        return set(videos[self.rank :: self.count])

    def from_first(self, value: T) -> T:
        """What the first process has here, once it is here."""
        if self.count == 1:
            return value
        box = [value]
        distributed.broadcast_object_list(box, src=0)
        return box[0]

    def gather(self, value: T) -> list[T]:
        """What each process has, for the first one, once all are here; the others go on at once with their own."""
        if self.count == 1:
            return [value]
        box: list[Any] | None = [None] * self.count if self.first else None
        distributed.gather_object(value, box)
        return box if box is not None else [value]

    def part(self) -> None:
        """Leave the others, if there are any: lmms-eval, which scores, would else wait for them."""
        if distributed.is_initialized():
            distributed.destroy_process_group()
            paths.forget_processes()
