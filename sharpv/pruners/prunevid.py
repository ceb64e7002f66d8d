"""PruneVid, stage 1: merging what stands still over time and what is alike within a frame.

Shape suffixes: T frames, P tokens per frame, D width, S segments, W frames of a segment, B groups of N tokens clustered
at once, K output rows.
"""

from dataclasses import dataclass

import torch
from torch.nn import functional

from sharpv.checks import require_fields
from sharpv.pruners.base import VisualPruner
from sharpv.pruners.clustering import dpc_knn, refine, run_lengths
from sharpv.tokens import Selection, VideoTokens


@dataclass
class PruneVidMerge(VisualPruner):
    """Cuts the video into segments of similar frames, averages over each segment the places that hardly change, and
    merges by density-peak clustering what is alike among those static places and within each frame's other tokens.

    Paper: PruneVid, ACL 2025 (arXiv 2412.16117). Official: Visual-AI/PruneVid @
    b12600c6176c606ee4b6b7d9e26f4aa46d0dfd42.

    keep_ratio: cluster_ratio; clusters per token of a group that is merged. static_threshold: tau; a place is static
    if the mean cosine over all pairs of the segment's frames is above it. segment_ratio: temporal_segment_ratio; frame
    clusters per frame. neighbours: k of the density. merge_above: a group of at most that many tokens is left alone.
    noise: scale of the uniform noise on densities, 0 for none. official: cluster at a keep_ratio of 1 too.

    Rows: per segment the static group, then each frame's own group; `group_K` numbers them so, empty groups included.
    Within a merged group rows come by falling cluster score, not by place; a row of one token keeps its `origin_K`.
    Promises: neither sorted nor a fixed count.
    Complexity: O(T P^2 D) time, O(T P^2) memory, quadratic only within a group; the authors' static test compares all
    pairs of a segment's frames, O(W^2 P D). Two read-backs: the segments, then which of their places are static.
    Deviations: the noise is drawn from the sample's seed, not from the global generator; distances are exact (the
    official ones are rounded); groups that a keep_ratio of 1 would only reorder stay in place unless `official`, so
    that keep_ratio = static_threshold = 1 changes nothing; fewer frames than `neighbours` or than one per cluster,
    where the official code crashes, use what there is. Once the mean squared neighbour distance per channel reaches
    about 10, densities sink below the noise, which then decides the clusters.
    What half-precision features change: docs/methods.md.
    """

    keep_ratio: float = 0.5
    static_threshold: float = 0.8
    segment_ratio: float = 0.25
    neighbours: int = 7
    merge_above: int = 14
    noise: float = 1e-6
    official: bool = False

    def __post_init__(self) -> None:
        require_fields(self)
        for name in ("keep_ratio", "segment_ratio"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)} is a share; choose it in (0, 1]")
        if self.neighbours < 1 or self.noise < 0:
            raise ValueError(f"neighbours={self.neighbours} must be at least 1 and noise={self.noise} at least 0")
        self.may_keep_all = self.keep_ratio == 1

    def select(self, video: VideoTokens) -> Selection:
        features_TPD, generator = video.require_finite(), video.generator()
        windows = run_lengths(refine(self.frame_clusters(features_TPD, generator)))
        static_SP = self.static_places(features_TPD, windows)
        place_SP = static_SP.int().argsort(dim=-1, descending=True, stable=True)
        segments = zip(windows, place_SP, static_SP.sum(-1).tolist(), strict=True)
        assign_TP = torch.empty(video.frames, video.tokens_per_frame, dtype=torch.long, device=video.device)
        sizes: list[int] = []
        start = 0
        for window, place_P, static in segments:
            frames = slice(start, start := start + window)
            still, moving = place_P[:static], place_P[static:]
            label_1N, count = self._cluster(features_TPD[frames, still].mean(0, keepdim=True), generator)
            assign_TP[frames, still] = sum(sizes) + label_1N
            sizes.append(count)
            label_WN, count = self._cluster(features_TPD[frames, moving], generator)
            offset_W1 = sum(sizes) + count * torch.arange(window, device=video.device)[:, None]
            assign_TP[frames, moving] = offset_W1 + label_WN
            sizes += [count] * window
        group_K = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes)).to(video.device)
        return self._merged(features_TPD.flatten(0, 1), assign_TP.flatten(), group_K)

    def requested_ratio(self, frames: int) -> None:
        return None

    def at_budget(self, share: float, frames: int) -> None:
        return None

    def frame_clusters(self, features_TPD: torch.Tensor, generator: torch.Generator) -> list[int]:
        """Cluster of each frame, by its mean token, before refinement."""
        clusters = max(1, int(len(features_TPD) * self.segment_ratio))
        mean_1TD = features_TPD.mean(1)[None]
        label_1T, _ = dpc_knn(mean_1TD, clusters, self.neighbours, self._noise(mean_1TD, generator))
        return label_1T[0].tolist()

    def static_places(self, features_TPD: torch.Tensor, windows: list[int]) -> torch.Tensor:
        """bool (S, P): whether the mean cosine over all pairs of a segment's frames is above the threshold."""
        segments = functional.normalize(features_TPD, dim=-1).split(windows)
        total_SP = torch.stack([unit_WPD.sum(0).square().sum(-1) for unit_WPD in segments])
        window_S1 = torch.tensor(windows, device=features_TPD.device)[:, None]
        cosine_SP = (total_SP - window_S1) / (window_S1 * (window_S1 - 1)).clamp(min=1)
        return cosine_SP.clamp(max=1) > self.static_threshold

    def draw(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """Uniform noise [0, 1) of one group, float32 (count,) on the CPU; called in the official order of groups."""
        return torch.rand(count, generator=generator)

    def _noise(self, x_BND: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        draws = [self.draw(x_BND.shape[1], generator) for _ in range(len(x_BND))]
        return self.noise * torch.stack(draws).to(x_BND.device)

    def _cluster(self, x_BND: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, int]:
        """Labels (B, N) and the number of clusters that each group of tokens is merged to."""
        tokens = x_BND.shape[1]
        if tokens <= self.merge_above or (self.keep_ratio == 1 and not self.official):
            return torch.arange(tokens, device=x_BND.device).expand(len(x_BND), -1), tokens
        clusters = max(1, int(tokens * self.keep_ratio))
        return dpc_knn(x_BND, clusters, self.neighbours, self._noise(x_BND, generator))[0], clusters

    def _merged(self, features_ND: torch.Tensor, assign_N: torch.Tensor, group_K: torch.Tensor) -> Selection:
        # Not torch.bincount, nor the checks of segment_reduce: on a GPU each of them waits for the device.
        size_K = torch.zeros_like(group_K).scatter_add(0, assign_N, torch.ones_like(assign_N))
        order_N = assign_N.argsort(stable=True)
        rows_KD = torch.segment_reduce(features_ND[order_N], "mean", lengths=size_K, axis=0, unsafe=True)
        first_K = order_N[size_K.cumsum(0) - size_K]
        return Selection(torch.where(size_K == 1, first_K, -1), rows_KD, assign_N, group_K)
