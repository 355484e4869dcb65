"""How scores become a genotype: {cell: Gates} -> Genotype.

Where in the river: the way out, on the host. Knows gates and the space; no weights, images or keys.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxnas.spaces.genotype import Choice, Genotype, genotype
from jaxnas.spaces.space import CellGates, Gates, Space
from jaxnas.spec import Count, Share, specified

Decode = Callable[[CellGates, Space], Genotype]


@specified
def top_edges(k: Count = 2, *, never: tuple[str, ...] = ("none",)) -> Decode:
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

    def best(space: Space, table: np.ndarray, node: int) -> list[Choice]:
        into = sorted(space.incoming(node), key=lambda e: -table[e].max())
        return [_choice(space, table, e) for e in into[:k]]

    return lambda scores, space: _node_by_node(best, never, scores, space)


@specified
def top_pairs(k: Count = 2, *, never: tuple[str, ...] = ("none",)) -> Decode:
    """Keeps for each node the k highest of all its (edge, operation) pairs: two of them may share an edge.

    Scores as in `top_edges`; pairs are listed by decreasing score, ties in order of the edges, then of the operations.

    Args:
      k: pairs kept for each node; all where fewer may be chosen.
      never: operations that are never chosen.

    Reference: Dong and Yang 2019 (GDAS), arXiv:1910.04465, section 3.3; AutoDL-Projects `search_model_gdas_nasnet.py`.
    """
    if k < 1:
        raise ValueError(f"top_pairs({k}): keep at least one pair for each node.")

    def best(space: Space, table: np.ndarray, node: int) -> list[Choice]:
        pairs = [(e, o) for e in space.incoming(node) for o in range(len(space.ops)) if table[e, o] >= 0]
        return [Choice(space.op_names[o], *space.edges[e]) for e, o in sorted(pairs, key=lambda p: -table[p])[:k]]

    return lambda scores, space: _node_by_node(best, never, scores, space)


def _node_by_node(
    best: Callable[[Space, np.ndarray, int], list[Choice]], never: tuple[str, ...], scores: CellGates, space: Space
) -> Genotype:
    """The genotype of what is best into each node, (space, scores [E, O], node) -> choices."""
    tables = {cell: _table(scores, space, cell, never) for cell in space.cells}
    return _genotype(space, lambda cell: [c for node in space.nodes for c in best(space, tables[cell], node)])


@specified
def threshold_edges(threshold: Share = 0.85, k: Count = 2, *, never: tuple[str, ...] = ("none",)) -> Decode:
    """Of the choices of `top_edges(k)`, those that score at least `threshold`; what no edge reaches is no output.

    Edges that start at a node that no edge reaches are left out. A cell in which nothing is left keeps the strongest
    edge into its first node, so that there is a network at any time.

    Args:
      threshold: least score of a choice.
      k: edges kept for each node at most.
      never: operations that are never chosen.

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


@specified
def argmax_edges(*, never: tuple[str, ...] = ()) -> Decode:
    """Keeps every edge with its best operation, `none` included; first in order at ties.

    Args:
      never: operations that are never chosen.

    Reference: Dong and Yang 2020, arXiv:2001.00326; AutoDL-Projects `search_model_darts.py`.
    """

    def decode(scores: CellGates, space: Space) -> Genotype:
        def cell(name: str) -> list[Choice]:
            table = _table(scores, space, name, never)
            return [_choice(space, table, e) for e in range(len(space.edges))]

        return _genotype(space, cell)

    return decode


@specified
def in_edge_order(inner: Decode) -> Decode:
    """The same choices, listed in the order of the space's edges.

    Args:
      inner: what chooses.
    """

    def decode(scores: CellGates, space: Space) -> Genotype:
        found, place = inner(scores, space), lambda choice: space.edges.index(choice[1:])
        cells = tuple((name, tuple(sorted(choices, key=place))) for name, choices in found.cells)
        return dataclasses.replace(found, cells=cells)

    return decode


@specified
def limit_skips(most: int, inner: Decode | None = None, *, op: str = "skip_connect", cell: str = "normal") -> Decode:
    """At most so many skips in one cell: while there are more, the weakest gets score 0 and all is chosen again.

    Args:
      most: skips allowed; the authors of P-DARTS take 2.
      inner: what chooses; the two best edges of each node, in order of the edges, unless given.
      op: name of the skip.
      cell: the type of cell that is restricted.

    Raises:
      ValueError: a space without this cell; or skips that must stay, where nothing else is alive. Both when called.

    Reference: Chen et al. 2019 (P-DARTS), arXiv:1904.12760, section 3.3; chenxin061/pdarts `train_search.py`.
    Deviates: among equal edges the first is kept, not the last.
    """
    inner = inner or in_edge_order(top_edges())
    if most < 0:
        raise ValueError(f"limit_skips({most}): allow 0 skips or more.")

    def decode(scores: CellGates, space: Space) -> Genotype:
        if cell not in space.cells:
            raise ValueError(f"limit_skips(cell={cell!r}): the space {space.name!r} has {', '.join(space.cells)}.")
        found = inner(scores, space)
        while found.count(op, cell) > most:
            chosen = sorted(space.edges.index(choice[1:]) for choice in found.edges(cell) if choice.op == op)
            scores = {**scores, cell: _without_weakest(scores[cell], chosen, space.op_names.index(op), most)}
            found = inner(scores, space)
        return found

    return decode


def _without_weakest(gates: Gates, chosen: list[int], op: int, most: int) -> Gates:
    """Gates in which the weakest chosen skip, first in order at ties, is 0."""
    ops: Any = np.array(gates.ops)
    strength = (ops[:, op] * np.asarray(gates.edges))[chosen]
    if not strength.any():
        raise ValueError(
            f"limit_skips({most}): {len(chosen)} skips have no other operation beside them; allow as many."
        )
    ops[chosen[int(np.where(strength > 0, strength, np.inf).argmin())], op] = 0
    return gates._replace(ops=ops)


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
