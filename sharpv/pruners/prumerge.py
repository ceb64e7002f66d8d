"""PruMerge: tokens that the vision tower attends to, merged with the tokens whose keys resemble theirs.

Shape suffixes: T frames, P tokens per frame, D width, R raw patches of the tower (CLS first where it has one), A heads,
E head width, C = A * E, K kept tokens of a frame, J their neighbours, M dropped tokens.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch.nn import functional

from sharpv.checks import require_fields
from sharpv.pruners.base import VisualPruner
from sharpv.tokens import Selection, Tower, VideoTokens, keep_all

SHARE_WITHOUT_CLS = 0.55


@dataclass
class PruMerge(VisualPruner):
    """Keeps, per frame, the tokens whose attention is an outlier, adds to each the attention-weighted tokens with the
    most similar keys, and ends the frame with one remainder row, the attention-weighted sum of the dropped tokens.

    Attention a (high = keep) is one full-width softmax over the last layer's raw queries and keys, heads not separated:
    the row of CLS, or, in a tower without CLS, the mean over all rows. Kept row i becomes x_i + sum of a_j x_j over its
    neighbours j. Attention and keys go through the model's own pooling; merging happens on the pooled features.

    Paper: LLaVA-PruMerge, ICCV 2025 (arXiv 2403.15388). Official: 42Shawn/LLaVA-PruMerge
    @ 097c04116a58465e4bcb58cec44a94018a68ff1a.

    keep_ratio: None takes the official rule in a tower with CLS, the share r of outliers (a > Q3 + fence * (Q3 - Q1)),
    and 0.55 (the share in the SharpV paper's table) in a tower without. A number keeps max(1, int(keep_ratio * P))
    tokens of every frame, remainder not counted; 1 changes nothing. adaptive: take the official rule without CLS too.
    neighbours: 32 officially. fence: the 1.5 of the outlier rule. order: `official` lists by falling attention,
    `raster` by place (a deviation); the remainder is last. official: one outlier share for all frames, as for a batch,
    and a remainder even where nothing was dropped.

    Promises: unique; a frame's rows lie together, its remainder (-1) last; sorted within a frame with order="raster".
    Complexity: O(R C) a frame for the attention, O(R^2 C) without CLS, O(K P C) for the neighbours; the authors form
    all R^2 scores with CLS too. One read-back, of the attention.
    Deviations: works on the frame as projected and pooled (official: before the projector, no pooling); attention is
    float32 where the authors use the model's dtype; the rule for towers without CLS is ours, no official one exists.
    What half-precision features change: docs/methods.md.
    """

    keep_ratio: float | None = None
    adaptive: bool = False
    neighbours: int = 32
    fence: float = 1.5
    order: Literal["official", "raster"] = "official"
    official: bool = False

    tower_layers = (-1,)

    def __post_init__(self) -> None:
        require_fields(self)
        if self.keep_ratio is not None and not 0 < self.keep_ratio <= 1:
            raise ValueError(f"keep_ratio={self.keep_ratio} is the share of tokens kept; choose it in (0, 1], or None")
        if self.adaptive and self.keep_ratio is not None:
            raise ValueError(f"adaptive=True sets the share itself; leave keep_ratio={self.keep_ratio} out")
        if self.neighbours < 1:
            raise ValueError(f"neighbours={self.neighbours} must be at least 1")
        self.may_keep_all = self.keep_ratio == 1

    def select(self, video: VideoTokens) -> Selection:
        features_TPD, tokens = video.require_finite(), video.tokens_per_frame
        if video.tower is None:
            raise ValueError(f"{type(self).__name__} reads the vision tower's last layer; pass VideoTokens a tower")
        if self.keep_ratio == 1:
            return keep_all(video)
        score_TP, key_TPC = self.scores(video.tower)
        share = self.keep_ratio or (None if video.tower.has_cls or self.adaptive else SHARE_WITHOUT_CLS)
        budget = None if share is None else max(1, int(share * tokens))
        # Which tokens stay is settled on the host, from one read-back and with one upload of each result.
        host_TP = score_TP.cpu()
        if not host_TP.isfinite().all():
            raise ValueError(
                f"the tower's attention in frame {int((~host_TP.isfinite()).nonzero()[0, 0])} is not finite"
            )
        order_TP = host_TP.argsort(dim=-1, descending=True, stable=True)
        candidates, kept, origins, assigns, count = [], [], [], [], 0
        for frame, ratio in enumerate(self.outlier_shares(host_TP)):
            kept_K = self.kept(order_TP[frame], ratio, budget)
            kept_K = kept_K.sort().values if self.order == "raster" else kept_K
            assign_P = torch.full((tokens,), -1)
            assign_P[kept_K] = count + torch.arange(len(kept_K))
            dropped_M = (assign_P < 0).nonzero().flatten()
            dropped_M = dropped_M[len(dropped_M) + len(kept_K) - tokens :]
            assign_P[dropped_M] = count + len(kept_K)
            remainder_1 = torch.full((int(len(dropped_M) > 0 or self.official),), -1)
            candidates.append(torch.cat([kept_K, dropped_M]))
            kept.append(len(kept_K))
            origins.append(torch.cat([kept_K + frame * tokens, remainder_1]))
            assigns.append(assign_P)
            count += len(origins[-1])
        results = torch.stack(candidates), torch.cat(origins), torch.cat(assigns)
        candidate_TP, origin_K, assign_N = (result.to(video.device) for result in results)
        merged = map(self.merged, features_TPD, score_TP, key_TPC, candidate_TP, kept)
        rows = [rows_KD[: len(origin)] for rows_KD, origin in zip(merged, origins, strict=True)]
        return Selection(origin_K, torch.cat(rows), assign_N)

    def scores(self, tower: Tower) -> tuple[torch.Tensor, torch.Tensor]:
        """Pooled attention (T, P), high = keep, and pooled full-width keys (T, P, C), both float32."""
        query_TRC, key_TRC = (x[-1].transpose(1, 2).flatten(2) for x in (tower.queries, tower.keys))
        asked_TRC, scale = query_TRC[:, :1] if tower.has_cls else query_TRC, query_TRC.shape[-1] ** -0.5
        frames = zip(asked_TRC, key_TRC, strict=True)
        score_TR = torch.stack([(q.float() @ k.float().T * scale).softmax(-1).mean(0) for q, k in frames])
        patches = slice(int(tower.has_cls), None)
        return tower.pool(score_TR[:, patches, None])[..., 0], tower.pool(key_TRC[:, patches].float())

    def outlier_shares(self, score_TP: torch.Tensor) -> list[float]:
        """Share of each frame's tokens whose score lies above the frame's (official: the batch's) fence."""
        groups_GP = score_TP.flatten()[None] if self.official else score_TP
        low_G1, high_G1 = groups_GP.quantile(torch.tensor([0.25, 0.75]), dim=1)[..., None]
        counts = (groups_GP > high_G1 + self.fence * (high_G1 - low_G1)).sum(1).tolist()
        shares = [count / groups_GP.shape[1] for count in counts]
        return shares * len(score_TP) if self.official else shares

    def kept(self, order_P: torch.Tensor, ratio: float, budget: int | None) -> torch.Tensor:
        """A frame's kept tokens, given its tokens by falling score, its share of outliers and the budget, if any."""
        return order_P[: int(len(order_P) * ratio) if budget is None else budget]

    def nearest(self, key_PC: torch.Tensor, kept_K: torch.Tensor, candidate_P: torch.Tensor) -> torch.Tensor:
        """Positions (K, J), among candidates that start with the kept tokens, of each one's most similar keys."""
        unit_PC = functional.normalize(key_PC, dim=-1)
        cosine_KP = (unit_PC[kept_K] @ unit_PC[candidate_P].T).fill_diagonal_(-torch.inf)
        order_KP = cosine_KP.argsort(dim=-1, descending=True, stable=True)
        return order_KP[:, : min(self.neighbours, len(candidate_P) - 1)]

    def merged(
        self,
        features_PD: torch.Tensor,
        score_P: torch.Tensor,
        key_PC: torch.Tensor,
        candidate_P: torch.Tensor,
        kept: int,
    ) -> torch.Tensor:
        """The frame's output rows (K + 1, D), the remainder last, given its kept tokens and behind them the dropped."""
        kept_K, dropped_M = candidate_P[:kept], candidate_P[kept:]
        near_KJ = self.nearest(key_PC, kept_K, candidate_P)
        weight_KP = score_P.new_zeros(len(kept_K), len(candidate_P)).scatter(1, near_KJ, score_P[candidate_P][near_KJ])
        rows_KD = features_PD[kept_K] + weight_KP @ features_PD[candidate_P]
        return torch.cat([rows_KD, score_P[dropped_M][None] @ features_PD[dropped_M]])
