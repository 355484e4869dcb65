"""Architectures of NAS-Bench-201 as numbers, and where they stand in a table.

Where in the river: under `benchmark`. Knows genotypes and integers; no accuracies.
"""

import numpy as np

from jaxnas.spaces.genotype import Genotype
from jaxnas.spaces.space import dag

EDGES = dag(inputs=1, nodes=3)  # the columns of `ops`


def codes(genotype: Genotype, op_names: tuple[str, ...]) -> np.ndarray:
    """A genotype as columns of op_names, [6], one for each of `EDGES`.

    Args:
      genotype: of the space NAS-Bench-201.
      op_names: of the table's columns.

    Raises:
      ValueError: where it has other cells, edges or operations.
    """
    if genotype.names != ("cell",) or genotype.concat("cell") != (3,):
        raise ValueError(
            f"a genotype of {genotype.space!r} is not in this table: NAS-Bench-201 has one cell of 3 nodes."
        )
    chosen = {(edge.source, edge.target): edge.op for edge in genotype.edges("cell")}
    if set(chosen) != set(EDGES) or len(genotype.edges("cell")) != len(EDGES):
        raise ValueError(
            f"NAS-Bench-201 takes each of the edges {', '.join(map(str, EDGES))} once; write none if empty."
        )
    unknown = sorted(set(chosen.values()) - set(op_names))
    if unknown:
        raise ValueError(f"operations {', '.join(unknown)} are not in the table; it has {', '.join(op_names)}.")
    return np.array([op_names.index(chosen[edge]) for edge in EDGES])


def find(ops: np.ndarray, places: np.ndarray, op_names: tuple[str, ...]) -> np.ndarray:
    """Rows of architectures, see `Table.find`.

    Args:
      ops: architectures as columns of op_names, [..., 6].
      places: number of an architecture -> row, -1 where there is none.
      op_names: of the table's columns.
    """
    ops = np.asarray(ops)
    if ops.shape[-1:] != (len(EDGES),) or ops.dtype.kind not in "iu":
        raise ValueError(f"architectures are integers [..., {len(EDGES)}], got {ops.dtype} {list(ops.shape)}.")
    if ops.size and not 0 <= ops.min() <= ops.max() < len(op_names):
        raise ValueError(f"columns {ops.min()} to {ops.max()}: operations are 0 to {len(op_names) - 1}.")
    rows = places[number(ops, len(op_names))]
    if (rows < 0).any():
        raise ValueError(f"{int((rows < 0).sum())} of these architectures are not in the table.")
    return rows


def number(ops: np.ndarray, choices: int) -> np.ndarray:
    """Architectures [..., 6] as one number each, the first edge the lowest digit.

    Args:
      ops: [..., 6], each from 0 to choices - 1.
      choices: operations of the table.
    """
    return np.asarray(ops, int) @ choices ** np.arange(len(EDGES))


def places_of(ops: np.ndarray, op_names: tuple[str, ...], name: str) -> np.ndarray:
    """Number of an architecture -> its row, -1 where it has none; [choices^6].

    Args:
      ops: of every row, [rows, 6].
      op_names: of the table's columns.
      name: of the table, for errors.

    Raises:
      ValueError: for other shapes, columns that do not exist, and an architecture that stands there twice.
    """
    if ops.ndim != 2 or ops.shape[1] != len(EDGES) or ops.dtype.kind not in "iu" or not len(ops):
        raise ValueError(f"{name}: ops must be integers [architectures, {len(EDGES)}], got {ops.dtype} {ops.shape}.")
    if not 0 <= ops.min() <= ops.max() < len(op_names):
        raise ValueError(f"{name}: ops run from {ops.min()} to {ops.max()}, but there are {len(op_names)} op_names.")
    places, numbers = np.full(len(op_names) ** len(EDGES), -1), number(ops, len(op_names))
    places[numbers] = np.arange(len(ops))
    if len(set(numbers.tolist())) < len(ops):
        raise ValueError(f"{name}: an architecture stands in ops twice.")
    return places
