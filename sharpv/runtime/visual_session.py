"""Generation under a visual stage alone: batches of prompts, several videos in each, in later turns too.

Each prompt is pruned on its own, then all are padded on the left to the longest.

Shape suffixes: B samples, N dense rows, L rows of the longest pruned prompt, D width, M DeepStack levels, K rows of a
sample that have DeepStack features.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

from sharpv.pruners.view import Layout
from sharpv.runtime.cache import PrunableLayer, require_rows
from sharpv.runtime.prompt import FedPrompt
from sharpv.runtime.report import Report


def left_padding(mask_BN: torch.Tensor) -> list[int]:
    """Rows of padding in front of each sample. ValueError where the mask hides anything else. One read-back."""
    length = mask_BN.shape[1]
    padding_B = length - mask_BN.bool().sum(1)
    is_left = torch.arange(length, device=mask_BN.device) >= padding_B[:, None]
    differs = (is_left != mask_BN.bool()).any().long()
    *padding, wrong = torch.cat([padding_B, differs[None]]).tolist()
    if wrong:
        raise ValueError(
            "the attention mask hides tokens that are no padding on the left: set padding_side='left' in the tokenizer"
        )
    return padding


@dataclass(frozen=True)
class FedBatch:
    """Embeddings (B, L, D), positions (B, L) or (3, B, L), the attention mask (B, L; int64), and the position of each
    sample's first new token (B, 1)."""

    embeddings_BLD: torch.Tensor
    positions: torch.Tensor
    mask_BL: torch.Tensor
    next_B1: torch.Tensor


def stack(fed: list[FedPrompt]) -> FedBatch:
    """Pruned prompts as one batch. Padding is rows of zeros at position 0, which the mask hides."""
    length, device = max(one.length for one in fed), fed[0].embeddings_BLD.device
    front = [length - one.length for one in fed]
    embeddings = [functional.pad(one.embeddings_BLD, (0, 0, rows, 0)) for one, rows in zip(fed, front, strict=True)]
    positions = [functional.pad(one.positions, (rows, 0)) for one, rows in zip(fed, front, strict=True)]
    mask_BL = torch.arange(length, device=device) >= torch.tensor(front, device=device)[:, None]
    new = [torch.as_tensor(one.next_position, device=device).reshape(1) for one in fed]
    return FedBatch(torch.cat(embeddings), torch.cat(positions, dim=-2), mask_BL.long(), torch.stack(new))


class VisualSession:
    """Stands in for a `Session` where there is no memory stage: no layer loses a row, so that it only adds DeepStack
    features behind the first layers and fills the report, of one video itself, of several its `videos`."""

    def __init__(self, cache: list[PrunableLayer], report: Report):
        self.cache, self.report = cache, report
        self.rows_given = 0
        self.layouts: list[Layout] = []
        self.levels: list[tuple[int, torch.Tensor, torch.Tensor]] = []
        self.is_decoding = False

    def take(self, fed: list[FedPrompt]) -> None:
        """The next forward begins a turn with these prompts."""
        longest = max(one.length for one in fed)
        self.levels = [
            (sample, rows_K + longest - one.length, levels_MKD)
            for sample, one in enumerate(fed)
            for rows_K, levels_MKD in one.levels
        ]
        self.is_decoding = False
        if self.layouts:
            self.report.go_on()
        new = [layout for one in fed for layout in one.layouts]
        if new:
            self.layouts += new
            several = len(self.layouts) > 1
            self.report.restart(None if several else self.layouts[0], None)
            self.report.videos = [Report(layout) for layout in self.layouts] if several else []
        for one, layout in zip(self._parts(), self.layouts, strict=True):
            one.visual_rows, one.visual_kv = ([layout.visual] * len(self.cache) for _ in range(2))
            one.reads = []

    def _parts(self) -> list[Report]:
        return self.report.videos or [self.report]

    def enter(self, index: int, hidden_BLD: torch.Tensor, call: dict[str, Any]) -> torch.Tensor:
        """Count the rows that the layer is given."""
        self.rows_given += hidden_BLD.shape[1]
        return hidden_BLD

    def attended(self, index: int, residual_BLD: torch.Tensor) -> None:
        """Nothing happens between attention and MLP without a memory stage."""

    def leave(self, index: int, hidden_BLD: torch.Tensor) -> torch.Tensor:
        """The layer's output, with the DeepStack features that the model adds behind this layer to a turn's rows."""
        if self.is_decoding or not self.levels or index >= len(self.levels[0][2]):
            return hidden_BLD
        hidden_BLD = hidden_BLD.clone()
        for sample, rows_K, levels_MKD in self.levels:
            hidden_BLD[sample, rows_K] += levels_MKD[index].to(hidden_BLD)
        return hidden_BLD

    def finish_forward(self) -> None:
        """The whole stack has run once. ValueError where the layers wrote into another cache than this session's."""
        require_rows(self.cache, self.rows_given)
        if self.is_decoding:
            for one in self._parts():
                one.reads.append(list(one.visual_kv))
        else:
            self.report.kv_bytes = sum(layer.stored_bytes for layer in self.cache)
        self.is_decoding = True
