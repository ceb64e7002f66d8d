"""FastVID: cut the video into segments, keep each frame's salient tokens, merge the rest into a few dense anchors.

Shape suffixes: T frames, P tokens per frame, D width, N = T * P, S salient tokens of a frame, M the others, B the
others of one segment, L its frames, A anchors of one frame, R raw patches, X tower width, K kept rows.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch.nn import functional

from sharpv.checks import require_fields
from sharpv.pruners.base import VisualPruner
from sharpv.pruners.clustering import peak_scores
from sharpv.tokens import Selection, Tower, VideoTokens, keep_all

NEIGHBOURS = 4


@dataclass
class FastVID(VisualPruner):
    """Splits the video where the pooled frame vectors change and keeps in every frame the tokens that the tower's
    pooling head attends to. The context budget of a segment goes to some of its frames, whose density peaks become
    anchors, and each of these frames merges all other tokens of the segment into its own anchors; as in the released
    code, only its own tokens where it gets just as many anchors as a segment of one frame (anchor_stride = 1, or a
    small budget rounded down).

    Paper: FastVID, NeurIPS 2025. Official: LunarShen/FastVID @ a40a109cb8df20e8c2c17c6850f8269717369990.

    Density = exp(-mean of the 4 smallest squared distances / D, the token itself included), peak score = density *
    distance to the nearest denser token; anchor <- w anchor + (1 - w) mean(its m tokens), w = max(1 / (m + 1), beta).

    keep_ratio: share kept (retention_ratio). segments, tau: cut at the segments - 1 lowest adjacent cosines and at
    every one below tau (DySeg_c, DySeg_tau). context_share: anchors' share of the budget (STPrune_d). anchor_stride:
    one frame in so many of a segment has anchors, counted back from its last one (DTM_p). beta: DTM_beta.

    Needs a tower whose `head` maps `states_TRX`, final norm included, to the pair (pooled frame vector (T, X), probe
    attention per patch (T, R), mean over heads); a tower without one raises ValueError.
    Promises: sorted, unique, original positions, at most floor(keep_ratio P) T tokens: an anchor frame gets
    floor(context L / ceil(L / stride)) anchors in a segment of L frames, never more than its tokens not salient.
    Complexity: O(T P^2 D) time and O(T P^2) memory for densities, quadratic only within a frame; O(B A D) time and
    O(B (A + D)) memory per anchor frame that takes in its segment, so O(N B D) at worst; the pooling head's
    O(T R X^2); one read-back, the cuts. The authors' arithmetic is the same.
    Deviations: no random noise on the density, the earlier of equally dense tokens counts as denser (same indices in
    every golden file); the self distance is exactly 0; context_share = 0 and fewer frames than segments work;
    keep_ratio = 1 keeps all unchanged. `assign_N` names the most similar of the anchors that take a token in, or -1.
    What half-precision features change: docs/methods.md.
    """

    keep_ratio: float = 0.1
    segments: int = 8
    tau: float = 0.9
    context_share: float = 0.4
    anchor_stride: int = 4
    beta: float = 0.6

    tower_layers = ()

    def __post_init__(self) -> None:
        require_fields(self)
        if not 0 < self.keep_ratio <= 1:
            raise ValueError(f"keep_ratio={self.keep_ratio} must lie in (0, 1]")
        for name in ("context_share", "beta"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)} must lie in [0, 1]")
        if self.segments < 1 or self.anchor_stride < 1:
            raise ValueError(f"segments={self.segments} and anchor_stride={self.anchor_stride} must be at least 1")
        self.may_keep_all = self.keep_ratio == 1

    def select(self, video: VideoTokens) -> Selection:
        features_TPD = video.require_finite()
        features_ND, tokens = features_TPD.flatten(0, 1), video.tokens_per_frame
        count = int(tokens * self.keep_ratio)
        context = int(count * self.context_share)
        if count == 0:
            raise ValueError(f"keep_ratio={self.keep_ratio} keeps none of {tokens} tokens; take more than 1 / {tokens}")
        pooled_TX, attention_TP = self._pooled(video.tower)
        if count == tokens:
            return keep_all(video)

        order_TP = attention_TP.argsort(dim=-1, descending=True, stable=True)
        salient_TS, rest_TM = order_TP[:, : count - context], order_TP[:, count - context :].sort().values
        peaks_TM = peak_scores(features_TPD, rest_TM, NEIGHBOURS).argsort(dim=-1, descending=True, stable=True)
        first_T1 = torch.arange(video.frames, device=video.device)[:, None] * tokens
        salient_TS, rest_TM = salient_TS + first_T1, rest_TM + first_T1
        ranked_TM = rest_TM.gather(1, peaks_TM)

        source_N = torch.full((video.total,), -1, device=video.device)
        source_N[salient_TS] = salient_TS
        closest_N = torch.full((video.total,), -torch.inf, device=video.device)
        anchors, merged = [source_N[:0]], [features_ND[:0]]
        for start, stop in pairwise([0, *self._cuts(pooled_TX), video.frames]):
            for frame, anchor_A in self._anchors(ranked_TM[start:stop], context):
                # The released code takes frames with this many anchors for segments of one frame.
                alone = len(anchor_A) == context
                rest_B = rest_TM[start + frame] if alone else rest_TM[start:stop].flatten()
                rest_BD = features_ND[rest_B]
                rows_AD, likeness_B, choice_B = self._absorb(rest_BD, features_ND[anchor_A])
                closer_B = likeness_B > closest_N[rest_B]
                source_N[rest_B] = torch.where(closer_B, anchor_A[choice_B], source_N[rest_B])
                closest_N[rest_B] = torch.where(closer_B, likeness_B, closest_N[rest_B])
                anchors.append(anchor_A)
                merged.append(rows_AD)

        anchor_K = torch.cat(anchors)
        source_N[anchor_K] = anchor_K
        kept_K = torch.cat([salient_TS.flatten(), anchor_K]).sort().values
        rows_KD = features_ND[kept_K]
        rows_KD[torch.searchsorted(kept_K, anchor_K)] = torch.cat(merged)
        assign_N = torch.where(source_N < 0, -1, torch.searchsorted(kept_K, source_N))
        return Selection(kept_K, rows_KD, assign_N, positions="original")

    def _pooled(self, tower: Tower | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Frame vectors (T, X) and probe attention per token (T, P), high = keep; both float32."""
        if tower is None or tower.head is None:
            raise ValueError(
                "FastVID needs the vision tower's attention-pooling head and this tower has none (head=None); "
                "load the tower with its head (SigLIP has one, CLIP does not) or choose a method that needs no head"
            )
        with torch.no_grad():
            result = tower.head(tower.states_TRX)
        if torch.is_tensor(result):
            raise ValueError(
                f"the tower's head returned one tensor {tuple(result.shape)}, FastVID needs vector and attention; wrap "
                "the tower's final norm and head in a module that returns both"
            )
        pooled_TX, attention_TR = result
        return pooled_TX.float(), tower.pool(attention_TR.float()[:, :, None]).squeeze(-1)

    def _cuts(self, pooled_TX: torch.Tensor) -> list[int]:
        """First frame of every segment but the first."""
        cosine_t = functional.cosine_similarity(pooled_TX[1:], pooled_TX[:-1], dim=-1)
        cut_t = cosine_t < self.tau
        cut_t[cosine_t.argsort(stable=True)[: self.segments - 1]] = True
        return [frame for frame, cut in enumerate(cut_t.tolist(), 1) if cut]

    def _anchors(self, ranked_LM: torch.Tensor, context: int) -> Iterator[tuple[int, torch.Tensor]]:
        """Each anchor frame of a segment of L frames and its anchors, ascending."""
        length = len(ranked_LM)
        count = context * length // -(-length // self.anchor_stride)
        for frame in range(length - 1, -1, -self.anchor_stride) if count else ():
            yield frame, ranked_LM[frame, :count].sort().values

    def _absorb(self, rest_BD: torch.Tensor, anchor_AD: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Merged anchors (A, D); each token's best cosine, times its own norm, and the anchor with it, both (B,)."""
        likeness_B, choice_B = (rest_BD @ functional.normalize(anchor_AD, dim=-1).T).max(-1)
        member_BA = functional.one_hot(choice_B, len(anchor_AD)).float()
        size_A1 = member_BA.sum(0)[:, None]
        mean_AD = member_BA.T @ rest_BD / size_A1.clamp(min=1)
        weight_A1 = (1 / (size_A1 + 1)).clamp(min=self.beta)
        return weight_A1 * anchor_AD + (1 - weight_A1) * mean_AD, likeness_B, choice_B
