"""Attention flow: how much could flow from a token to each of those before, through all blocks at once.

Source: Abnar and Zuidema 2020, 'Quantifying Attention Flow in Transformers'.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
UNIT = 1 << 30
"""Capacities are whole numbers of this part: with others, rounding keeps an algorithm from its end."""


def max_flows(capacities: Sequence[Floats], progress: Callable[[float, float], None]) -> Floats:
    """(n,) the maximum flow from the last token behind the last block to each of the n before the first block.

    capacities: (n, n) of each block, the first one first: row q, column k is what can flow from q behind it to k
    before it.
    """
    import networkx
    from networkx.algorithms.flow import build_residual_network, shortest_augmenting_path

    graph, n = networkx.DiGraph(), len(capacities[0])
    source = len(capacities), n - 1
    graph.add_node(source)
    for block, matrix in enumerate(capacities):
        whole = np.rint(matrix * UNIT).astype(np.int64)
        for query, key in zip(*map(np.ndarray.tolist, np.nonzero(whole)), strict=True):
            graph.add_edge((block + 1, query), (block, key), capacity=int(whole[query, key]))
    residual, flows = build_residual_network(graph, "capacity"), np.zeros(n)
    for token in range(n):
        progress(token, n)
        if (0, token) in graph:
            found = shortest_augmenting_path(graph, source, (0, token), residual=residual, value_only=True)
            flows[token] = found.graph["flow_value"] / UNIT
    return flows
