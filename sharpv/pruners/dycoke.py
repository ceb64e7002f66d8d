"""DyCoke: dropping what a frame repeats from an earlier one (stage 1, "TTM").

Shape suffixes: T frames, P tokens per frame, D width, F pruned frames.
"""

from dataclasses import dataclass, replace
from typing import Literal, Self

import torch

from sharpv.checks import require_fields
from sharpv.pruners.base import VisualPruner
from sharpv.tokens import Selection, VideoTokens, keep_all

SMALLEST_NORM = 1e-12


@dataclass
class DyCokeMerge(VisualPruner):
    """Compares each frame with an earlier one at the same places and keeps only the least similar tokens of it; in a
    window of four frames the first stays whole, the second and third are held against it, the fourth against the third.
    In spite of its name nothing is merged: all output rows are input rows.

    Paper: DyCoke, CVPR 2025. Official: KD-TAO/DyCoke @ dd7463498203479d0ff6f2d29c4e72928c0af244.

    keep_ratio: 1 - K (the authors' K is the share dropped); a pruned frame keeps int(keep_ratio * P) tokens (as the
    official code does, if 1 - K is given as that difference). The share of the whole video is larger, since some frames
    stay whole: `requested_ratio`. order: `official` lists a pruned frame's tokens by rising similarity, `raster` by
    place. window_tail_fix: prune the third frame of the last full window as well. odd_frame: with an odd number of
    frames the official code loses the last one (`drop`); `keep` leaves it whole. official: no exception for keep_ratio
    = 1, whose pruned frames are reordered, nor for one and three frames, which lose the last one too.

    Promises: unique; sorted only with order="raster".
    Complexity: O(N D) time and memory, as the authors'; no read-back.
    Deviations: keep_ratio = 1 changes nothing, order and odd frame included, unless `official`; fewer than five frames,
    where the official code crashes, prune the second and fourth frame and leave the others whole (`official`: the last
    of an odd number is lost). The defaults are otherwise the official behaviour. Cosines are float32: in half precision
    many tie, and in float16 13 of 878 kept tokens differed.
    """

    keep_ratio: float = 0.5
    order: Literal["official", "raster"] = "official"
    window_tail_fix: bool = False
    odd_frame: Literal["drop", "keep"] = "drop"
    official: bool = False

    def __post_init__(self) -> None:
        require_fields(self)
        if not 0 <= self.keep_ratio <= 1:
            raise ValueError(
                f"keep_ratio={self.keep_ratio} is the share that a pruned frame keeps (1 - K); choose it in [0, 1]"
            )
        self.may_keep_all = self.keep_ratio == 1

    def select(self, video: VideoTokens) -> Selection:
        features_TPD = video.require_finite()
        if self.keep_ratio == 1 and not self.official:
            return keep_all(video)
        frames, tokens = video.frames, video.tokens_per_frame
        norm_TP = features_TPD.norm(dim=-1)
        similarity_TP = torch.zeros_like(norm_TP)
        for pruned, reference in self.pairs(frames):
            product_FP = (features_TPD[pruned] * features_TPD[reference]).sum(-1)
            similarity_TP[pruned] = product_FP / (norm_TP[pruned] * norm_TP[reference]).clamp(min=SMALLEST_NORM)
        first_T1 = torch.arange(frames, device=video.device)[:, None] * tokens
        order_TP = similarity_TP.argsort(dim=-1, stable=True) + first_T1
        counts_T1 = torch.tensor(self.shares(frames, tokens, int(self.keep_ratio * tokens)))[:, None]
        places_K = (torch.arange(tokens) < counts_T1).flatten().nonzero().flatten()
        origin_K = order_TP.flatten()[places_K.to(video.device)]
        return Selection(origin_K.sort().values if self.order == "raster" else origin_K)

    def pairs(self, frames: int) -> list[tuple[slice, slice]]:
        """Pruned frames and the frames that they are compared to: of each window the second, the third, the fourth.

        In three steps, since on a CPU the products of all odd frames at once fill fresh pages of memory, which made
        `make bench-pruners` slower than a loop over frames.
        """
        stop = max(2, frames - (1 if self.window_tail_fix else 2))
        first = [(slice(place, end, 4), slice(0, end - place, 4)) for place, end in ((1, frames), (2, stop))]
        return [*first, (slice(3, frames, 4), slice(2, frames - 1, 4))]

    def shares(self, frames: int, whole: float, pruned: float) -> list:
        """What each frame keeps, given what a whole and a pruned one keep."""
        kept = [whole] * frames
        for part, _ in self.pairs(frames):
            kept[part] = [pruned] * len(kept[part])
        if (frames > 4 or self.official) and frames % 2 and self.odd_frame == "drop":
            kept[-1] = 0
        return kept

    def requested_ratio(self, frames: int) -> float:
        whole = self.keep_ratio == 1 and not self.official
        return 1.0 if whole else sum(self.shares(frames, 1, self.keep_ratio)) / frames

    def at_budget(self, share: float, frames: int) -> Self:
        least, most = (sum(self.shares(frames, 1, ratio)) / frames for ratio in (0, 1))
        if share < least:
            raise ValueError(
                f"of {frames} frames so many stay whole that {least:.1%} of the tokens do: it cannot keep {share:.1%}"
            )
        return replace(self, keep_ratio=min(1.0, (share - least) / (most - least)))
