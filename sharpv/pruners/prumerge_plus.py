"""PruMerge+: PruMerge with tokens sampled evenly over the frame.

Shape suffixes: P tokens per frame, K kept tokens of a frame.
"""

from dataclasses import dataclass

import torch

from sharpv.pruners.prumerge import PruMerge


@dataclass
class PruMergePlus(PruMerge):
    """PruMerge whose kept tokens are completed by tokens sampled evenly over the frame; the rest is as in PruMerge.

    keep_ratio: None in a tower with CLS samples every int(int(1/r)/3)-th place (about 4 r in all; all for r > 1/6). A
    number takes the outliers, then evenly spaced ones among the other tokens until it is reached. official: the
    authors' `range(0, 575, stride)`, which never samples the last patch of their only tower's 576, nor what lies behind
    it in a longer frame, and with a number their branch if_adaptive=False, reduction_ratio = keep_ratio / 2, whose
    duplicates stay. range_end: that 575, read only if `official`.

    Promises: as PruMerge, but unique only unless official. A frame without outliers, where the official code crashes,
    counts as having one.
    """

    range_end: int = 575

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.range_end < 1:
            raise ValueError(f"range_end={self.range_end} must be at least 1, or no place is sampled")
        self.may_keep_all = self.keep_ratio in (None, 1)

    def kept(self, order_P: torch.Tensor, ratio: float, budget: int | None) -> torch.Tensor:
        tokens = len(order_P)
        end = min(self.range_end, tokens) if self.official else tokens
        if budget is None:
            ratio = max(ratio, 1 / tokens)
            top = order_P[: int(tokens * ratio)]
            places = torch.arange(0, end, max(1, int(int(1 / ratio) / 3)))
            return torch.cat([top, places[~torch.isin(places, top)]])
        if self.official and self.keep_ratio is not None:
            top, step = order_P[: int(tokens * self.keep_ratio / 2)], int(2 / self.keep_ratio)
            places = torch.arange(step // 2, end, step)
            if len(places) != len(top):
                raise ValueError(
                    f"keep_ratio={self.keep_ratio} samples {len(places)} places of {tokens} where {len(top)} are due, "
                    "at which the official code crashes; choose another share or official=False"
                )
            return torch.cat([top, places])
        top = order_P[: min(int(tokens * ratio), budget)]
        rest = torch.ones(tokens, dtype=torch.bool).index_fill(0, top, False).nonzero().flatten()
        missing = budget - len(top)
        return torch.cat([top, rest[(2 * torch.arange(missing) + 1) * len(rest) // (2 * missing)]]) if missing else top
