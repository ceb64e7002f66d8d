"""Made-up encoded videos and the inside of their vision tower, for tests of visual stages.

Shape suffixes: T frames, P tokens per frame, D width, R raw patches, X tower width, Q rows of a question.
"""

import torch
from torch import nn
from torch.nn import functional

from sharpv.tokens import Tower, VideoTokens

GRID, WIDTH, RAW = (5, 6), 16, 9
TOKENS = GRID[0] * GRID[1]


class Probe(nn.Module):
    """A pooling head in small: mean state and attention by the first channel."""

    def forward(self, states_TRX):
        return states_TRX.mean(1), states_TRX[..., 0].softmax(-1)


def pool(rows_TRX, raw=RAW, grid=GRID):
    maps_TXhw = rows_TRX.transpose(1, 2).unflatten(2, (raw, raw))
    return functional.interpolate(maps_TXhw, size=grid, mode="bilinear").flatten(2).transpose(1, 2)


def tower_of(frames, has_cls=False, head=True):
    generator = torch.Generator().manual_seed(frames)
    queries, keys = torch.randn(2, frames, 3, RAW**2 + has_cls, 8, generator=generator)
    states_TRX = torch.randn(frames, RAW**2, 12, generator=generator)
    return Tower({-1: queries}, {-1: keys}, has_cls, states_TRX, Probe() if head else None, pool)


def video_of(features_TPD, has_cls=False, head=True):
    question_QD = torch.randn(5, features_TPD.shape[-1], generator=torch.Generator().manual_seed(5))
    tower = tower_of(len(features_TPD), has_cls, head)
    return VideoTokens(features_TPD, GRID, seed=7, tower=tower, question_QD=question_QD)


def drifting(frames=6):
    """Scenes of three frames whose tokens change a little within a scene."""
    generator = torch.Generator().manual_seed(3)
    scene_TPD = torch.randn(-(-frames // 3), TOKENS, WIDTH, generator=generator).repeat_interleave(3, 0)[:frames]
    return scene_TPD + 0.3 * torch.randn(frames, TOKENS, WIDTH, generator=generator)
