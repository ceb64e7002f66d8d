"""LLaVA-Scissor: merge connected components of similar tokens, first inside each frame, then across the whole video.

Shape suffixes: T frames, P tokens per frame, D width, N = T * P, n rows of one merging step, c rows of one block of
them, C components, K output rows.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from sharpv.pruners.base import VisualPruner
from sharpv.tokens import Selection, VideoTokens, keep_all

COSINES_AT_ONCE = 2**21


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
    Complexity: O(T P^2 D + n^2 D + N K D) with n frame means, quadratic by definition and done in blocks; one read-back
    of links per frame and block. official walks every link in Python, since path halving depends on their order.
    Deviations: exact components unless `official`; float32; a zero token has cosine 0 to all, while with `official` its
    cosine is undefined and it attracts every token; separators stay, the released code has none; the published numbers
    are of the authors' own base model.
    """

    tau: float = 0.9
    epsilon: float = 0.05
    official: bool = False

    may_keep_all = True

    def __post_init__(self) -> None:
        if not 0 <= self.tau <= 1:
            raise ValueError(f"tau={self.tau} must lie in [0, 1], as a cosine above which tokens merge")
        if self.epsilon <= 0:
            raise ValueError(f"epsilon={self.epsilon} must be positive; 0.05 samples only above some 3200 rows")

    def select(self, video: VideoTokens) -> Selection:
        features_TPD = video.require_finite()
        draws = np.random.RandomState(video.seed % 2**32) if self.official else None
        steps = [self._merged(frame_PD, draws) for frame_PD in features_TPD]
        spatial_nD = torch.cat([rows_CD for rows_CD, _ in steps])
        rows_KD, lost = self._merged(spatial_nD, draws)
        lost += sum(lost_of_frame for _, lost_of_frame in steps)
        if len(rows_KD) == video.total and not self.official:
            return keep_all(video)
        features_ND, unit_KD = features_TPD.flatten(0, 1), self._unit(rows_KD)
        blocks = features_ND.split(max(1, COSINES_AT_ONCE // len(rows_KD)))
        assign_N = torch.cat([(self._unit(block_cD) @ unit_KD.T).argmax(-1) for block_cD in blocks])
        sum_KD, size_K = _sums(features_ND, assign_N, len(rows_KD))
        merged_KD = (rows_KD + sum_KD) / (size_K[:, None] + 1)
        notes = {"spatial_rows": float(len(spatial_nD)), "lost": float(lost)}
        return Selection(torch.full_like(size_K, -1), merged_KD, assign_N, notes=notes)

    def _merged(self, rows_nD: torch.Tensor, draws: np.random.RandomState | None) -> tuple[torch.Tensor, int]:
        """Means of the components (C, D), ordered by representative, and the number of rows lost on the way."""
        if draws is None:
            label_n, degree_n = _components(self._blocks(rows_nD), len(rows_nD))
        else:
            linked_nn = np.concatenate([block_cn.cpu().numpy() for block_cn in self._blocks(rows_nD)])
            sampled = min(len(rows_nD), math.ceil(math.log(len(rows_nD)) / self.epsilon**2))
            order = draws.permutation(len(rows_nD))[:sampled]
            label_n, degree_n = _united(linked_nn, order), linked_nn.sum(1)
        by_degree_n = np.lexsort((np.arange(len(label_n)), -degree_n))
        by_degree_n = by_degree_n[label_n[by_degree_n] >= 0]
        labels_C, first_C = np.unique(label_n[by_degree_n], return_index=True)
        place_C = by_degree_n[first_C].argsort().argsort()
        component_n = np.full(len(label_n), -1)
        component_n[by_degree_n] = place_C[np.searchsorted(labels_C, label_n[by_degree_n])]
        sum_CD, size_C = _sums(rows_nD, torch.from_numpy(component_n).to(rows_nD.device), len(labels_C))
        return sum_CD / size_C[:, None], int((component_n < 0).sum())

    def _blocks(self, rows_nD: torch.Tensor) -> Iterator[torch.Tensor]:
        """Blocks of the adjacency: bool (c, n), together all n rows."""
        unit_nD = self._unit(rows_nD)
        for block_cD in unit_nD.split(max(1, COSINES_AT_ONCE // len(rows_nD))):
            yield block_cD @ unit_nD.T > self.tau

    def _unit(self, rows_nD: torch.Tensor) -> torch.Tensor:
        return rows_nD / rows_nD.norm(dim=-1, keepdim=True).clamp(min=0 if self.official else 1e-12)


def _components(blocks: Iterable[torch.Tensor], rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Component label and number of links of each row; links are handed on block by block."""
    label_n, degree_n, start = np.arange(rows), np.empty(rows, dtype=np.int64), 0
    for linked_cn in blocks:
        stop = start + len(linked_cn)
        degree_n[start:stop] = linked_cn.sum(1).cpu().numpy()
        row, column = (index.cpu().numpy() for index in linked_cn.nonzero(as_tuple=True))
        links = (label_n[row + start], label_n[column])
        graph = coo_array((np.ones(len(row), dtype=bool), links), shape=(rows, rows))
        label_n, start = connected_components(graph, directed=False)[1][label_n], stop
    return label_n, degree_n


def _united(linked_nn: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Root that each node points at once the sampled nodes' links are united in order; -1 if that is no root."""
    parent, rank = list(range(len(linked_nn))), [0] * len(linked_nn)

    def find(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for node in order.tolist():
        for neighbour in np.flatnonzero(linked_nn[node]).tolist():
            a, b = find(node), find(neighbour)
            if a != b:
                low, high = (a, b) if rank[a] < rank[b] else (b, a)
                parent[low] = high
                rank[high] += rank[low] == rank[high]
    for node in order.tolist():
        find(node)
    root_n = np.array(parent)
    return np.where(root_n[root_n] == root_n, root_n, -1)


def _sums(rows_nD: torch.Tensor, label_n: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Sum and number of the rows of each label; rows labelled -1 are left out. Reproducible on a GPU too."""
    order_n = label_n.argsort(stable=True)
    order_n = order_n[label_n[order_n] >= 0]
    size_C = torch.bincount(label_n[order_n], minlength=count)
    return torch.segment_reduce(rows_nD[order_n], "sum", lengths=size_C, axis=0, unsafe=True), size_C
