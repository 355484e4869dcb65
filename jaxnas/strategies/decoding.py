"""How scores become a genotype: {cell: Gates} -> Genotype.

Where in the river: the way out, on the host. Knows gates and the space; no weights, images or keys.
"""

from collections.abc import Callable

import numpy as np

from jaxnas.spaces.genotype import Choice, Genotype, genotype
from jaxnas.spaces.space import CellGates, Space

Decode = Callable[[CellGates, Space], Genotype]


def top_edges(k: int = 2, *, never: tuple[str, ...] = ("none",)) -> Decode:
    """Keeps for each node the k incoming edges whose best operation scores highest, and on each that operation.

    The score of operation o on edge e is gates.ops[e, o] * gates.edges[e]: a probability in whose denominator `none`
    takes part. Edges are listed by decreasing score, ties in order of the edges.

    Args:
      k: edges kept for each node; all where fewer come in.
      never: operations that are never chosen.

    Reference: Liu et al. 2019, arXiv:1806.09055, section 2.4; quark0/darts `cnn/model_search.py`.
    """
    if k < 1:
        raise ValueError(f"top_edges({k}): keep at least one edge for each node.")

    def decode(scores: CellGates, space: Space) -> Genotype:
        def cell(name: str) -> list[Choice]:
            table = _table(scores, space, name, never)
            chosen = []
            for node in space.nodes:
                into = sorted(space.incoming(node), key=lambda e: -table[e].max())
                chosen += [_choice(space, table, e) for e in into[:k]]
            return chosen

        return _genotype(space, cell)

    return decode


def threshold_edges(threshold: float = 0.85, k: int = 2, *, never: tuple[str, ...] = ("none",)) -> Decode:
    """Of the choices of `top_edges(k)`, those that score at least `threshold`; what no edge reaches is no output.

    Edges that start at a node that no edge reaches are left out. A cell in which nothing is left keeps the strongest
    edge into its first node, so that there is a network at any time.

    Reference: Chu et al. 2020 (FairDARTS), arXiv:1911.12126, section 3.4; xiaomi-automl/FairDARTS `utils.py`
      ("threshold_sparse"), `model.py`.
    Deviates: the official genotype names those edges, and its network passes over them; nothing left is an error there.
    """
    strongest = top_edges(k, never=never)

    def decode(scores: CellGates, space: Space) -> Genotype:
        def cell(name: str) -> list[Choice]:
            table, ready, kept = _table(scores, space, name, never), set(range(space.inputs)), []
            for choice in strongest(scores, space).edges(name):
                score = table[space.edges.index((choice.source, choice.target))].max()
                if score >= threshold and choice.source in ready:
                    kept.append(choice)
                    ready.add(choice.target)
            first = space.incoming(space.nodes[0])
            return kept or [_choice(space, table, max(first, key=lambda e: table[e].max()))]

        chosen = {name: cell(name) for name in space.cells}
        reached = {name: {choice.target for choice in edges} for name, edges in chosen.items()}
        outputs = {name: [s for s in space.outputs if s in reached[name]] for name in chosen}
        return genotype(space.name, chosen, outputs)

    return decode


def argmax_edges(*, never: tuple[str, ...] = ()) -> Decode:
    """Keeps every edge with its best operation, `none` included; first in order at ties.

    Reference: Dong and Yang 2020, arXiv:2001.00326; AutoDL-Projects `search_model_darts.py`.
    """

    def decode(scores: CellGates, space: Space) -> Genotype:
        def cell(name: str) -> list[Choice]:
            table = _table(scores, space, name, never)
            return [_choice(space, table, e) for e in range(len(space.edges))]

        return _genotype(space, cell)

    return decode


def _table(scores: CellGates, space: Space, cell: str, never: tuple[str, ...]) -> np.ndarray:
    """Scores [E, O] of one cell type in which what may not be chosen is -1."""
    gates = scores[cell]
    score = np.asarray(gates.ops) * np.asarray(gates.edges)[:, None]
    return np.where(space.mask(cell) & ~np.isin(space.op_names, never), score, -1.0)


def _choice(space: Space, table: np.ndarray, edge: int) -> Choice:
    return Choice(space.op_names[int(table[edge].argmax())], *space.edges[edge])


def _genotype(space: Space, cell: Callable[[str], list[Choice]]) -> Genotype:
    return Genotype(
        space=space.name,
        cells=tuple((name, tuple(cell(name))) for name in space.cells),
        outputs=tuple((name, space.outputs) for name in space.cells),
    )
