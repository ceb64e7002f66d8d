"""VisionZip: per frame, the patches that the vision tower attends to, plus a few averages of the rest.

Shape suffixes: T frames, P tokens per frame, D width, N = T * P, A tower heads, R raw patches (CLS first where there
is one), Q query rows, E head width, M tokens of a frame that are not dominant, C contextual tokens of a frame, K rows.
"""

from dataclasses import dataclass

import torch
from torch.nn import functional

from sharpv.checks import require_fields
from sharpv.pruners.base import VisualPruner
from sharpv.pruners.tower_attention import attention_received
from sharpv.tokens import Selection, Tower, VideoTokens, keep_all


@dataclass
class VisionZip(VisualPruner):
    """Keeps in every frame the dominant tokens, those with most attention in the last tower layer. Of the
    others, evenly spaced ones become contextual tokens that absorb the mean of the tokens with most similar keys.

    Paper: VisionZip, CVPR 2025. Official: dvlab-research/VisionZip @ 3151f6df4fca36a4cd1c985e5956e725b1f9ad02 (CLIP,
    attention of the CLS row); for towers without CLS cokeshao/HoliTom @ e9b2972f6895c9e7d7fe74eb8c3a2ecaab8056e0
    (attention received, mean over heads and queries).

    Attention and head-averaged keys go through the model's own pooling. contextual = target + mean of the tokens
    assigned to it, a sum of two in both codes, so that its norm grows.

    keep_ratio: share of a frame's tokens kept, dominant + contextual (64 of 576 in the paper; SPATIAL_TOKENS of
    the port / P). dominant_share: dominant of the kept ones (54 of 64). layer: tower layer that is read, -1 the last;
    the authors read -2 of CLIP, whose last layer LLaVA runs but does not use.

    Promises: unique, round(keep_ratio P) rows a frame: floor(dominant_share of them) dominant ones in raster order,
    then the contextual ones in raster order of their targets, whose index they carry. Contiguous positions. ValueError
    for features that are not finite, a missing tower, or a share that keeps no token.
    Complexity: O(T A R^2 E) time for the attention of a tower without CLS, O(T A R E) with one, frame by frame in
    blocks of SCORES_AT_ONCE float32 scores; O(T M C (E + D)) time for the merging; O(N (C + D)) memory beside the
    blocks. The authors have the tower return its attentions, T A R^2 of them at once and with CLS too; their merging
    costs the same. No read-back.
    Deviations: works on the tokens after projector and pooling, as the port does, where the original works before the
    projector; the CLS token, counted as dominant there, is no video token here, so all rows are patches. The port's
    defect with newlines in every grid row (rows permuted before newlines are put in) has no counterpart.
    What half-precision features change: docs/methods.md.
    """

    keep_ratio: float = 1 / 9
    dominant_share: float = 54 / 64
    layer: int = -1

    def __post_init__(self) -> None:
        require_fields(self)
        if not 0 < self.keep_ratio <= 1:
            raise ValueError(f"keep_ratio={self.keep_ratio} must lie in (0, 1]")
        if not 0 <= self.dominant_share < 1:
            raise ValueError(f"dominant_share={self.dominant_share} must lie in [0, 1), the rest is contextual")
        self.may_keep_all = self.keep_ratio == 1
        self.tower_layers = (self.layer,)

    def select(self, video: VideoTokens) -> Selection:
        features_TPD = video.require_finite()
        if video.tower is None:
            raise ValueError("VisionZip reads the vision tower's last layer, but video.tower is None; pass a Tower")
        frames, tokens = video.frames, video.tokens_per_frame
        count = round(self.keep_ratio * tokens)
        if count == 0:
            raise ValueError(f"keep_ratio={self.keep_ratio} keeps none of {tokens} tokens; take more than 1 / {tokens}")
        if count == tokens:
            return keep_all(video)
        dominant = int(count * self.dominant_share)
        contextual = count - dominant

        attention_TP, keys_TPE = self._pooled(video.tower)
        order_TP = attention_TP.argsort(dim=-1, descending=True, stable=True)
        dominant_TQ, rest_TM = order_TP[:, :dominant].sort().values, order_TP[:, dominant:].sort().values
        place_C = torch.arange(contextual, device=video.device) * (rest_TM.shape[1] // contextual)
        keys_TME = functional.normalize(_take(keys_TPE, rest_TM), dim=-1)
        choice_TM = (keys_TME @ keys_TME[:, place_C].transpose(1, 2)).argmax(-1)
        choice_TM[:, place_C] = torch.arange(contextual, device=video.device)

        member_TMC = functional.one_hot(choice_TM, contextual).float()
        member_TMC[:, place_C] = 0
        rest_TMD = _take(features_TPD, rest_TM)
        size_TC1 = member_TMC.sum(1)[:, :, None]
        mean_TCD = member_TMC.transpose(1, 2) @ rest_TMD / size_TC1.clamp(min=1)
        rows_TKD = torch.cat([_take(features_TPD, dominant_TQ), rest_TMD[:, place_C] + mean_TCD], 1)

        frame_T1 = torch.arange(frames, device=video.device)[:, None]
        origin_TK = torch.cat([dominant_TQ, rest_TM[:, place_C]], 1) + frame_T1 * tokens
        assign_TP = torch.empty_like(order_TP).scatter_(1, rest_TM, dominant + choice_TM)
        assign_TP.scatter_(1, dominant_TQ, torch.arange(dominant, device=video.device).expand(frames, -1))
        return Selection(origin_TK.flatten(), rows_TKD.flatten(0, 1), (assign_TP + frame_T1 * count).flatten())

    def _pooled(self, tower: Tower) -> tuple[torch.Tensor, torch.Tensor]:
        """Attention per token (T, P), high = keep, and head-averaged keys (T, P, E), both float32 and pooled."""
        keys_TRE = tower.keys[self.layer].float().mean(1)[:, int(tower.has_cls) :]
        return attention_received(tower, self.layer), tower.pool(keys_TRE)


def _take(rows_TPX: torch.Tensor, index_TK: torch.Tensor) -> torch.Tensor:
    return rows_TPX.gather(1, index_TK[:, :, None].expand(-1, -1, rows_TPX.shape[-1]))
