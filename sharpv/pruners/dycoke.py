"""DyCoke: dropping what a frame repeats from an earlier one (stage 1, "TTM").

Shape suffixes: T frames, P tokens per frame, D width, F pruned frames.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch.nn import functional

from sharpv.pruners.base import VisualPruner
from sharpv.tokens import Selection, VideoTokens, keep_all


@dataclass
class DyCokeMerge(VisualPruner):
    """Compares each frame with an earlier one at the same places and keeps only the least similar tokens of it; in a
    window of four frames the first stays whole, the second and third are held against it, the fourth against the third.
    In spite of its name nothing is merged: all output rows are input rows.

    Paper: DyCoke, CVPR 2025. Official: KD-TAO/DyCoke @ dd7463498203479d0ff6f2d29c4e72928c0af244.

    keep_ratio: 1 - K (the authors' K is the share dropped); a pruned frame keeps int(keep_ratio * P) tokens (as the
    official code does, if 1 - K is given as that difference). The share of the whole video is larger: K = 0.5 keeps
    64.1% and K = 0.7 keeps 49.4% of 32 x 196. order: `official` lists a pruned frame's tokens by rising similarity,
    `raster` by place. window_tail_fix: prune the third frame of the last full window as well. odd_frame: with an odd
    number of frames the official code loses the last one (`drop`); `keep` leaves it whole.

    Promises: unique; sorted only with order="raster".
    Complexity: O(N D) time and memory, as the authors'.
    Deviations: keep_ratio = 1 changes nothing, order and odd frame included; fewer than five frames, where the official
    code crashes, prune the second and fourth frame and leave the others whole. The defaults are otherwise the official
    behaviour. Cosines are float32: in half precision many tie, and in float16 13 of 878 kept tokens differed.
    """

    keep_ratio: float = 0.5
    order: Literal["official", "raster"] = "official"
    window_tail_fix: bool = False
    odd_frame: Literal["drop", "keep"] = "drop"

    def __post_init__(self) -> None:
        if not 0 <= self.keep_ratio <= 1:
            raise ValueError(
                f"keep_ratio={self.keep_ratio} is the share that a pruned frame keeps (1 - K); choose it in [0, 1]"
            )
        for name, allowed in (("order", ("official", "raster")), ("odd_frame", ("drop", "keep"))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}={getattr(self, name)!r} is not one of {allowed}")
        self.may_keep_all = self.keep_ratio == 1

    def select(self, video: VideoTokens) -> Selection:
        features_TPD = video.require_finite()
        if self.keep_ratio == 1:
            return keep_all(video)
        tokens, reference = video.tokens_per_frame, self.references(video.frames)
        kept = int(self.keep_ratio * tokens)
        unit_TPD = functional.normalize(features_TPD, dim=-1)
        similarity_FP = (unit_TPD[list(reference)] * unit_TPD[list(reference.values())]).sum(-1)
        fresh_FK = similarity_FP.argsort(dim=-1, stable=True)[:, :kept]
        fresh = dict(zip(reference, fresh_FK.sort(-1).values if self.order == "raster" else fresh_FK, strict=True))
        frames = video.frames - (video.frames > 4 and video.frames % 2 and self.odd_frame == "drop")
        whole_P = torch.arange(tokens, device=video.device)
        return Selection(torch.cat([fresh.get(frame, whole_P) + frame * tokens for frame in range(frames)]))

    def references(self, frames: int) -> dict[int, int]:
        """Each pruned frame with the frame that it is compared to."""
        last_anchor = frames - 4 if self.window_tail_fix else frames - 5
        return {f: f - 1 if f % 2 else f - 2 for f in range(frames) if f % 2 or (f % 4 == 2 and f - 2 <= last_anchor)}
