"""EVS: one global budget spent on the tokens that changed most since the previous frame.

Shape suffixes: T frames, P tokens per frame, N = T * P.
"""

from dataclasses import dataclass, replace
from typing import Self

from torch.nn import functional

from sharpv.checks import require_fields
from sharpv.pruners.base import VisualPruner
from sharpv.tokens import Selection, VideoTokens

FIRST_FRAME = 255.0


@dataclass
class EVS(VisualPruner):
    """Ranks every token by its cosine dissimilarity D to the same place of the previous frame and keeps the top of the
    whole video. Frame 1 has no predecessor: it outranks everything, is always kept whole and is paid from the budget.

    Paper: arXiv 2510.14624 (NVIDIA). Official: vLLM's `--video-pruning-rate`, read in sglang 0.5.9 (PyPI), evs_core.py.

    D[t, p] = 1 - cos(E[t, p], E[t-1, p]), high = keep; kept = max(P, floor(N * keep_ratio)).

    keep_ratio: share kept, 1 - q with the authors' pruning rate q. EVS is off by default and no single q is the
    paper's; the default is the q = 0.75 of the vLLM evaluation.

    Promises: sorted, unique, exactly the declared count; later frames may vanish, a share below 1/T is out of reach and
    a one-frame video is kept whole. Original positions are kept. Raises ValueError for features that are not finite,
    naming the frame.
    Complexity: O(N D + N log N) time and O(N D) memory, as the authors'; no attention, no read-back.
    Deviations: float32 features whatever the model's dtype. Ties go to the earlier token, as in the stable sort there.
    What half-precision features change: docs/methods.md.
    """

    keep_ratio: float = 0.25

    def __post_init__(self) -> None:
        require_fields(self)
        if not 0 < self.keep_ratio <= 1:
            raise ValueError(f"keep_ratio={self.keep_ratio} must lie in (0, 1]; it is 1 - q of the authors' rate q")
        self.may_keep_all = self.keep_ratio == 1

    def at_budget(self, share: float, frames: int) -> Self:
        if share * frames < 1 - 1e-9:
            raise ValueError(f"frame 1 stays whole, {1 / frames:.1%} of {frames} frames: it cannot keep {share:.1%}")
        return replace(self, keep_ratio=share)

    def select(self, video: VideoTokens) -> Selection:
        features_TPD = video.require_finite()
        dissimilarity_TP = features_TPD.new_full((video.frames, video.tokens_per_frame), FIRST_FRAME)
        dissimilarity_TP[1:] = 1 - functional.cosine_similarity(features_TPD[1:], features_TPD[:-1], dim=-1)
        count = max(video.tokens_per_frame, int(video.total * self.keep_ratio))
        order_N = dissimilarity_TP.flatten().argsort(descending=True, stable=True)
        return Selection(order_N[:count].sort().values, positions="original")
