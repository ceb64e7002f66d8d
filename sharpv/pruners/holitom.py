"""HoliTom, outer stage: what stands still over a stretch of frames becomes one row, chosen for the whole video.

Shape suffixes: T frames, t = T - 1 steps between them, P tokens per frame, D width, N = T * P, L frames of a window,
S static places of a window, M its other places, C clusters, Q other tokens kept of a frame, K output rows.
"""

import math
from dataclasses import dataclass

import torch
from torch.nn import functional

from sharpv.checks import require_fields
from sharpv.pruners.base import VisualPruner
from sharpv.pruners.clustering import density_peaks, distances
from sharpv.pruners.tower_attention import attention_received
from sharpv.tokens import Selection, VideoTokens


@dataclass
class HoliTom(VisualPruner):
    """Cuts the video into windows such that averaging the places that stand still throughout their window saves most
    rows, an optimum over the whole video found by dynamic programming. What is left is brought to the budget: static
    places by density-peak clustering, of each frame's other tokens those that the tower attends to stay.

    Paper: HoliTom, NeurIPS 2025 (arXiv 2505.21334). Official: cokeshao/HoliTom @
    e9b2972f6895c9e7d7fe74eb8c3a2ecaab8056e0; `w/o M` in the paper's tables, whose M is `HoliTomInner`.

    keep_ratio: RETAIN_RATIO. static_threshold: tau, T; a place is static if the cosines to its own token one frame on
    are all above it (0.65 for the authors' keep_ratio of 0.1). beta: weight of a cluster's centre against the mean of
    its other members. neighbours: K, of the density. max_window: MAX_WINDOW_SIZE, frames. layer: tower layer whose
    attention is read, -1 the last that runs.

    Rows: window by window, first its static rows by place, with the index of their centre in the window's first frame,
    then each frame's others in raster order, unchanged. With r = min(1, keep_ratio N / (N - rows saved)) a window keeps
    round(r S) static rows, halves to even, and each of its frames ceil(r M) others.
    Promises: unique, not sorted; keep_ratio N rows but for rounding, at most one more a frame; fewer where r is 1, so
    that a keep_ratio of 1 still merges what is static. Contiguous positions. ValueError where no row would be left.
    Complexity: O(N D) time for similarities, O(T P + T^2) for windows with a loop over frames, O(S^2 D) time and
    O(S^2) memory a window for clusters, attention as VisionZip's; the authors count static places in O(T^2 P) time and
    memory. One read-back, the windows.
    Deviations: no random noise on the density, the earlier of equally dense tokens counts as denser, and distances are
    exact (same indices in every golden file); equal scores go to the earlier token; scores are float32 where the
    authors use the model's dtype. Clustering of the other tokens (D > 0), which crashes there, is left out. A tower
    with a CLS token, which the authors have not, gives the attention that this one pays. LLaVA-Video's rows are not
    sorted into the window's grid.
    """

    keep_ratio: float = 0.25
    static_threshold: float = 0.8
    beta: float = 0.6
    neighbours: int = 7
    max_window: int = 1024
    layer: int = -1

    def __post_init__(self) -> None:
        require_fields(self)
        if not 0 < self.keep_ratio <= 1:
            raise ValueError(f"keep_ratio={self.keep_ratio} is the share of rows kept; choose it in (0, 1]")
        if not 0 <= self.beta <= 1:
            raise ValueError(f"beta={self.beta} is a centre's weight; choose it in [0, 1]")
        if self.neighbours < 1 or self.max_window < 1:
            raise ValueError(f"neighbours={self.neighbours} and max_window={self.max_window} must be at least 1")
        self.may_keep_all = self.keep_ratio == 1
        self.tower_layers = (self.layer,)

    def select(self, video: VideoTokens) -> Selection:
        features_TPD, tokens = video.require_finite(), video.tokens_per_frame
        if video.tower is None:
            raise ValueError("HoliTom reads the vision tower's last layer, but video.tower is None; pass a Tower")
        attention_TP = attention_received(video.tower, self.layer)
        run_tP = static_runs(adjacent_cosines(features_TPD) > self.static_threshold)
        counts = static_counts(run_tP).tolist()
        windows, saved = best_windows(counts, self.max_window)
        share = min(self.keep_ratio / ((video.total - saved) / video.total), 1)

        assign_TP = torch.full((video.frames, tokens), -1, device=video.device)
        origins, rows, total = [assign_TP[0, :0]], [features_TPD[0, :0]], 0
        for first, last in windows:
            frames, length = slice(first, last + 1), last - first + 1
            static = counts[last - 1][length - 1] if length > 1 else 0
            place_P = torch.arange(tokens, device=video.device)
            if length > 1:
                place_P = (run_tP[last - 1] < length - 1).long().argsort(stable=True)
            still_S, moving_M = place_P[:static], place_P[static:]
            center_C, row_CD, label_S = self.clusters(features_TPD[frames, still_S].mean(0), round(static * share))
            if len(center_C):
                assign_TP[frames, still_S] = total + label_S
            origins.append(first * tokens + still_S[center_C])
            rows.append(row_CD)
            total += len(center_C)

            kept = math.ceil(len(moving_M) * share)
            order_LM = attention_TP[frames][:, moving_M].argsort(dim=-1, descending=True, stable=True)
            kept_LQ = moving_M[order_LM[:, :kept].sort().values]
            origin_LQ = kept_LQ + tokens * torch.arange(first, last + 1, device=video.device)[:, None]
            row_LQ = total + torch.arange(length * kept, device=video.device).view(length, kept)
            assign_TP[frames].scatter_(1, kept_LQ, row_LQ)
            origins.append(origin_LQ.flatten())
            rows.append(features_TPD.flatten(0, 1)[origin_LQ.flatten()])
            total += length * kept
        if not total:
            raise ValueError(f"keep_ratio={self.keep_ratio} leaves no row of this video; take a larger one")
        return Selection(torch.cat(origins), torch.cat(rows), assign_TP.flatten())

    def clusters(self, mean_SD: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Centres of the static tokens (C,) by place, their rows (C, D), and the cluster of each token (S,)."""
        if not count:
            nothing_S = torch.empty(0, dtype=torch.long, device=mean_SD.device)
            return nothing_S, mean_SD[:0], nothing_S
        distance_SS = distances(mean_SD)
        center_C = density_peaks(distance_SS[None], count, min(self.neighbours, count), None)[0].sort().values
        own_C = torch.arange(count, device=mean_SD.device)
        label_S = distance_SS[:, center_C].argmin(-1).scatter(0, center_C, own_C)
        member_SC = functional.one_hot(label_S, count).float().index_fill(0, center_C, 0)
        size_C1 = member_SC.sum(0)[:, None]
        mean_CD = member_SC.T @ mean_SD / size_C1.clamp(min=1)
        center_CD = mean_SD[center_C]
        return center_C, torch.where(size_C1 > 0, self.beta * center_CD + (1 - self.beta) * mean_CD, center_CD), label_S


def adjacent_cosines(features_TPD: torch.Tensor) -> torch.Tensor:
    """Cosine of each token to the one of its place a frame on, float32 (t, P), at most 1."""
    unit_TPD = functional.normalize(features_TPD, dim=-1)
    return functional.cosine_similarity(unit_TPD[:-1], unit_TPD[1:], dim=-1).clamp(max=1)


def static_runs(static_tP: torch.Tensor) -> torch.Tensor:
    """How many steps in a row have been static at each place, this one included; int64 (t, P)."""
    step_t1 = torch.arange(1, len(static_tP) + 1, device=static_tP.device)[:, None]
    moved_tP = torch.where(static_tP, 0, step_t1)
    return step_t1 - (moved_tP.cummax(0).values if len(static_tP) else moved_tP)


def static_counts(run_tP: torch.Tensor) -> torch.Tensor:
    """Places static over the last w steps up to each one, at [step, w]; int64 (t, T)."""
    count_tT = torch.zeros(len(run_tP), len(run_tP) + 1, dtype=torch.long, device=run_tP.device)
    count_tT = count_tT.scatter_add(1, run_tP, torch.ones_like(run_tP))
    return count_tT.flip(1).cumsum(1).flip(1)


def best_windows(counts: list[list[int]], max_window: int) -> tuple[list[tuple[int, int]], int]:
    """First and last frame of each window, and the rows saved: static places times frames merged away, summed over
    windows, at its largest; of equal plans the one whose last window is shorter, and so on towards the first."""
    saved, length = [0], [0]
    for last in range(len(counts) + 1):
        best, chosen = saved[last], 1
        for window in range(2, min(last + 1, max_window) + 1):
            gain = saved[last + 1 - window] + counts[last - 1][window - 1] * (window - 1)
            if gain > best:
                best, chosen = gain, window
        saved.append(best)
        length.append(chosen)
    windows, stop = [], len(counts) + 1
    while stop:
        windows.append((stop - length[stop], stop - 1))
        stop -= length[stop]
    return windows[::-1], saved[-1]
