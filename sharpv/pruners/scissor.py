"""LLaVA-Scissor: merge connected components of similar tokens, first inside each frame, then across the whole video.

Shape suffixes: T frames, P tokens per frame, D width, N = T * P, n rows of one merging step, G groups of g of them
within which they merge, c rows of one block, C components, l links, K output rows.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from sharpv.checks import require_fields
from sharpv.pruners.base import VisualPruner
from sharpv.pruners.components import components, union_find_roots
from sharpv.tokens import Selection, VideoTokens, keep_all

COSINES_AT_ONCE = 2**22


@dataclass
class Scissor(VisualPruner):
    """Links tokens whose cosine exceeds tau and replaces each connected component by its mean, frame by frame and then
    once over all frame means. Every original token is then averaged into the mean that it resembles most.

    Paper: LLaVA-Scissor, arXiv 2506.21862. Official: HumanMLLM/LLaVA-Scissor @
    b63354c81e55c82e5d48ced3c993454183b79425.

    tau: similarity bound (mm_zip_tau); a higher one keeps more. The count cannot be set, it follows from the video.
    epsilon: error tolerance (mm_zip_epsilon); only with `official`, which links just min(n, ceil(ln n / epsilon^2))
    sampled nodes of a step's n rows. official: the released union-find, whose components lack those members that do
    not point straight at their root when it ends ("lost" in the notes), drawn with this sample's seed.

    Promises: rows ordered by representative, the member with most links (first on ties); all synthetic, -1 in
    `origin_K`, with `assign_N` from the final average. A row that no token resembles most stays its component's mean
    and stands in no frame's count. A video in which nothing merges is kept unchanged (`official` averages all the
    same). Contiguous positions. ValueError for features that are not finite. Half precision flips links whose cosine
    lies near tau.
    Complexity: O(T P^2 D + n^2 D / 2 + N K D) time with n frame means, quadratic by definition; in blocks of
    COSINES_AT_ONCE, so that memory is O(N D); two read-backs a block, of the number of links and of the links. official
    holds all n^2 links, as the authors do, and walks them in Python, since path halving depends on their order.
    Deviations: exact components unless `official`; float32; a zero token has cosine 0 to all, while with `official` its
    cosine is undefined and it attracts every token; separators stay, the released code has none; the published numbers
    are of the authors' own base model. What half-precision features change: docs/methods.md.
    """

    tau: float = 0.9
    epsilon: float = 0.05
    official: bool = False

    may_keep_all = True
    calibrates = ("tau", 1.0)

    def __post_init__(self) -> None:
        require_fields(self)
        if not 0 <= self.tau <= 1:
            raise ValueError(f"tau={self.tau} must lie in [0, 1], as a cosine above which tokens merge")
        if self.epsilon <= 0:
            raise ValueError(f"epsilon={self.epsilon} must be positive; 0.05 samples only above some 3200 rows")

    def select(self, video: VideoTokens) -> Selection:
        features_ND = video.require_finite().flatten(0, 1)
        draws = np.random.RandomState(video.seed % 2**32) if self.official else None
        spatial_nD, lost_in_frames = self._merged(features_ND, video.tokens_per_frame, draws)
        rows_KD, lost_across = self._merged(spatial_nD, len(spatial_nD), draws)
        if len(rows_KD) == video.total and not self.official:
            return keep_all(video)
        unit_KD = self._unit(rows_KD)
        blocks = features_ND.split(max(1, COSINES_AT_ONCE // len(rows_KD)))
        assign_N = torch.cat([(self._unit(block_cD) @ unit_KD.T).argmax(-1) for block_cD in blocks])
        sum_KD, size_K = _sums(features_ND, assign_N, len(rows_KD))
        merged_KD = ((rows_KD + sum_KD) / (size_K[:, None] + 1)).float()
        notes = {"spatial_rows": float(len(spatial_nD)), "lost": float(lost_in_frames + lost_across)}
        return Selection(torch.full_like(size_K, -1), merged_KD, assign_N, notes=notes)

    def _merged(
        self, rows_nD: torch.Tensor, group: int, draws: np.random.RandomState | None
    ) -> tuple[torch.Tensor, int]:
        """Means of the components within each group of so many rows (C, D), ordered by representative, and the number
        of rows lost on the way."""
        unit_GgD = self._unit(rows_nD).unflatten(0, (-1, group))
        if draws is None:
            label_n, degree_n = components(self._links(unit_GgD), len(rows_nD))
        else:
            label_n, degree_n = self._united(unit_GgD, draws)
        by_degree_n = np.lexsort((np.arange(len(label_n)), -degree_n))
        by_degree_n = by_degree_n[label_n[by_degree_n] >= 0]
        _, first_C, component_of_n = np.unique(label_n[by_degree_n], return_index=True, return_inverse=True)
        component_n = np.full(len(label_n), -1)
        component_n[by_degree_n] = by_degree_n[first_C].argsort().argsort()[component_of_n]
        sum_CD, size_C = _sums(rows_nD, torch.from_numpy(component_n).to(rows_nD.device), len(first_C))
        return (sum_CD / size_C[:, None]).float(), int((component_n < 0).sum())

    def _links(self, unit_GgD: torch.Tensor) -> Iterator[np.ndarray]:
        """Linked pairs of rows of the same group, each once, block by block: indices (2, l) into all rows."""
        group = unit_GgD.shape[1]
        groups, rows = max(1, COSINES_AT_ONCE // group**2), max(1, COSINES_AT_ONCE // group)
        for first in range(0, len(unit_GgD), groups):
            part_GgD = unit_GgD[first : first + groups]
            for start in range(0, group, rows):
                linked_Gcg = part_GgD[:, start : start + rows] @ part_GgD[:, start:].mT > self.tau
                place, row, column = linked_Gcg.triu(1).nonzero().T.cpu().numpy()
                yield (first + place) * group + start + np.stack([row, column])

    def _united(self, unit_GgD: torch.Tensor, draws: np.random.RandomState) -> tuple[np.ndarray, np.ndarray]:
        """Label of each row, -1 if lost, and its number of links, by the released union-find."""
        labels, degrees, group = [], [], unit_GgD.shape[1]
        for first, unit_gD in enumerate(unit_GgD):
            blocks = unit_gD.split(max(1, COSINES_AT_ONCE // group))
            linked_gg = torch.cat([block_cD @ unit_gD.T > self.tau for block_cD in blocks]).cpu().numpy()
            sampled = math.ceil(math.log(group) / self.epsilon**2)
            root_g = union_find_roots(linked_gg, draws.permutation(group)[:sampled])
            labels.append(np.where(root_g < 0, -1, root_g + first * group))
            degrees.append(linked_gg.sum(1))
        return np.concatenate(labels), np.concatenate(degrees)

    def _unit(self, rows_nD: torch.Tensor) -> torch.Tensor:
        return rows_nD / rows_nD.norm(dim=-1, keepdim=True).clamp(min=0 if self.official else 1e-12)


def _sums(rows_nD: torch.Tensor, label_n: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum, float64, and number of the rows of each label; rows labelled -1 are left out. Reproducible on a GPU too."""
    # Not torch.bincount, nor a mask for -1: on a GPU each of them waits for the device.
    size_C = torch.zeros(count + 1, dtype=torch.long, device=label_n.device)
    size_C = size_C.scatter_add(0, label_n + 1, torch.ones_like(label_n))
    ordered_nD = rows_nD[label_n.argsort(stable=True)].double()
    return torch.segment_reduce(ordered_nD, "sum", lengths=size_C, axis=0, unsafe=True)[1:], size_C[1:]
