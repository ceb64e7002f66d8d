"""V-CAST: frames where the video changes direction get more tokens; inside a frame the unusual and strong ones stay.

Shape suffixes: T frames, P tokens per frame, N = T * P, D width, K kept rows.
"""

from dataclasses import dataclass

import torch
from torch.nn import functional

from sharpv.checks import require_fields
from sharpv.pruners.base import VisualPruner
from sharpv.tokens import Selection, VideoTokens

# Of the released code: it keeps the rounding of equal norms from becoming a full-sized score.
EPS = 1e-6


@dataclass
class VCast(VisualPruner):
    """Shares a fixed budget among the frames by the curvature of the path that the mean token takes through time.
    Each frame then keeps the tokens that differ most from its mean token and have the largest norm.

    Paper: V-CAST, arXiv 2603.27650. Official: xinyouu/V-CAST @ c235ef3c0a88a77edf5e84956a02d90d718325c6.

    r_t = unit mean token; curvature c_t = 1 - cos(r_t - r_{t-1}, r_{t+1} - r_t), 1 at both ends; frame share softmax(c
    / temperature); token score (high = keep) = 1 - cos(token, r_t) + min-max norm within the frame.

    keep_ratio: share kept (retain_ratio). min_k: tokens that every frame keeps at least (min_k). temperature: of the
    softmax (budget_temp). official: hand the tokens left over by rounding to the frame with the largest fraction, up
    to its cap, then to the next one, as the released code does; otherwise each frame gets one in turn.

    Promises: sorted, unique, exactly max(round(T P keep_ratio), T min_k) tokens. Original positions are kept. Raises
    ValueError for features that are not finite, naming the frame.
    Complexity: O(N D + N log P) time and O(N D) memory, as the authors'; one read-back, of the frames' shares; no
    attention.
    Deviations: released for Qwen3-VL only, so on another model this is our transfer of the same function; `official`.
    What half-precision features change: docs/methods.md.
    """

    keep_ratio: float = 0.25
    min_k: int = 1
    temperature: float = 0.7
    official: bool = False

    def __post_init__(self) -> None:
        require_fields(self)
        if not 0 < self.keep_ratio <= 1:
            raise ValueError(f"keep_ratio={self.keep_ratio} must lie in (0, 1]")
        if self.min_k < 1:
            raise ValueError(f"min_k={self.min_k} must be at least 1, or whole frames could vanish")
        if self.temperature <= 0:
            raise ValueError(f"temperature={self.temperature} must be positive; a small one favours the sharpest turn")
        self.may_keep_all = self.keep_ratio == 1

    def select(self, video: VideoTokens) -> Selection:
        features_TPD = video.require_finite()
        if self.min_k > video.tokens_per_frame:
            raise ValueError(f"min_k={self.min_k} exceeds the {video.tokens_per_frame} tokens of a frame; lower it")
        mean_TD = functional.normalize(features_TPD.mean(1), dim=-1, eps=EPS)
        norm_TP = features_TPD.norm(dim=-1)
        low_T1, high_T1 = norm_TP.amin(1, keepdim=True), norm_TP.amax(1, keepdim=True)
        score_TP = 1 - functional.cosine_similarity(features_TPD, mean_TD[:, None], dim=-1, eps=EPS)
        score_TP = score_TP + (norm_TP - low_T1) / (high_T1 - low_T1 + EPS)
        count_T = self._budgets(self._curvature(mean_TD), video.tokens_per_frame)
        places_K = (torch.arange(video.tokens_per_frame) < count_T[:, None]).flatten().nonzero().flatten()
        first_T1 = torch.arange(video.frames, device=video.device)[:, None] * video.tokens_per_frame
        order_TP = score_TP.argsort(dim=-1, descending=True, stable=True) + first_T1
        kept_K = order_TP.flatten()[places_K.to(video.device)]
        return Selection(kept_K.sort().values, positions="original")

    def _curvature(self, mean_TD: torch.Tensor) -> torch.Tensor:
        step_TD = mean_TD.diff(dim=0)
        curvature_T = mean_TD.new_ones(len(mean_TD))
        curvature_T[1:-1] = 1 - functional.cosine_similarity(step_TD[:-1], step_TD[1:], dim=-1, eps=EPS)
        return curvature_T

    def _budgets(self, curvature_T: torch.Tensor, tokens: int) -> torch.Tensor:
        """Tokens per frame, int64 (T,) on the CPU."""
        frames = len(curvature_T)
        total = max(round(frames * tokens * self.keep_ratio), frames * self.min_k)
        share_T = (curvature_T / self.temperature).softmax(0).cpu() * (total - frames * self.min_k)
        count_T = (share_T.floor().long() + self.min_k).clamp(max=tokens)
        order_T = share_T.frac().argsort(descending=True, stable=True)
        while left := total - int(count_T.sum()):
            open_T = order_T[count_T[order_T] < tokens]
            if self.official:
                count_T[open_T[0]] += min(left, tokens - int(count_T[open_T[0]]))
            else:
                count_T[open_T[:left]] += 1
        return count_T
