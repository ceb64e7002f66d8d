"""Components of linked rows: exact ones, and those of LLaVA-Scissor's released union-find.

Shape suffixes: n rows, l links.
"""

from collections.abc import Iterable

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


def components(links: Iterable[np.ndarray], rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Component label and number of links of each row; links are handed on block by block."""
    label_n, degree_n = np.arange(rows), np.zeros(rows, dtype=np.int64)
    for pairs_2l in links:
        degree_n += np.bincount(pairs_2l.ravel(), minlength=rows)
        graph = coo_array((np.ones(pairs_2l.shape[1], dtype=bool), label_n[pairs_2l]), shape=(rows, rows))
        label_n = connected_components(graph, directed=False)[1][label_n]
    return label_n, degree_n


def union_find_roots(linked_nn: np.ndarray, order: np.ndarray) -> np.ndarray:
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
