"""The discrete answer of a search: names and indices, nothing else.

Where in the river: the second narrow waist, after the gates were decoded. A `Genotype` is the only thing that
leaves a search, the only thing that evaluation sees. This file reads and writes it as JSON, in the papers'
notation and in NAS-Bench-201's; it knows no alpha, no arrays, no networks, and never runs the text it reads.
"""

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping
from itertools import groupby
from reprlib import repr as short
from typing import Any, NamedTuple

from jaxnas.spaces import dialects
from jaxnas.spaces.notation import concat, items, keywords, length, rows, state, targets

CELLS = ("normal", "reduce")  # what the papers' notation holds


class Choice(NamedTuple):
    """One chosen edge: `op` carries state `source` to state `target`."""

    op: str
    source: int
    target: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Genotype:
    """The chosen edges of every cell type: equal by value, hashable; see `genotype` to build one.

    States are numbered as in `Space`: the cell's inputs first, then its nodes. Two choices may share an edge,
    and choices keep their order.

    Raises:
      ValueError: where an edge does not run forward, or outputs are not states of the cell.
    """

    space: str  # name of the space it was found in
    cells: tuple[tuple[str, tuple[Choice, ...]], ...]  # ((cell, chosen edges), ...)
    outputs: tuple[tuple[str, tuple[int, ...]], ...]  # ((cell, states that make its output), ...): "concat"

    def __post_init__(self) -> None:
        _check(self)

    def __repr__(self) -> str:
        edges = lambda name: ", ".join(f"{op} {source}>{target}" for op, source, target in self.edges(name))
        cells = [f"\n  {name}: {edges(name)}; out {' '.join(map(str, self.concat(name)))}" for name in self.names]
        return f"Genotype({self.space!r}{''.join(cells)})"

    def _repr_svg_(self) -> str:
        """What a notebook shows; matplotlib is imported only then."""
        from jaxnas import drawing

        return drawing.draw_cells(self).svg()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the cell types, in order."""
        return tuple(name for name, _ in self.cells)

    def edges(self, cell: str) -> tuple[Choice, ...]:
        """The chosen edges of one cell type; ValueError if there is no such cell type."""
        return dict(self.cells)[self._known(cell)]

    def concat(self, cell: str) -> tuple[int, ...]:
        """The states that make the output of one cell type; ValueError if there is no such cell type."""
        return dict(self.outputs)[self._known(cell)]

    def count(self, op: str, cell: str | None = None) -> int:
        """Number of chosen edges with this operation, in one cell type or in all."""
        cells = self.names if cell is None else (cell,)
        return sum(choice.op == op for name in cells for choice in self.edges(name))

    def _known(self, cell: str) -> str:
        if cell not in self.names:
            raise ValueError(f"no cell {short(cell)} in this genotype; it has {', '.join(self.names)}.")
        return cell


def genotype(space: str, cells: Mapping[str, Iterable], outputs: Mapping[str, Iterable[int]]) -> Genotype:
    """A genotype from plain dicts, lists and tuples.

    Args:
      space: name of the space.
      cells: for every cell type its chosen edges, `(op, source, target)` each.
      outputs: for every cell type the states that make its output.

    Raises:
      ValueError: where something else is given; says what.

    >>> g = genotype("tiny", {"cell": [("skip_connect", 0, 1)]}, {"cell": [1]})
    >>> g.edges("cell")
    (Choice(op='skip_connect', source=0, target=1),)
    """
    if not isinstance(cells, Mapping) or not isinstance(outputs, Mapping) or set(cells) != set(outputs):
        raise ValueError("cells and outputs must be two mappings with the same cell names.")
    rows = {name: tuple(_choice(row) for row in items(edges)) for name, edges in cells.items()}
    states = {name: tuple(state(one) for one in items(outputs[name])) for name in cells}
    return Genotype(space=space, cells=tuple(rows.items()), outputs=tuple(states.items()))


def _choice(row: Any) -> Choice:
    if not isinstance(row, list | tuple) or len(row) != 3:
        raise ValueError(f"an edge is (op, source, target), got {short(row)}.")
    return Choice(row[0], state(row[1]), state(row[2]))


def _check(genotype: Genotype) -> None:
    """Raises ValueError where the parts of a genotype contradict each other."""
    for pairs in (genotype.cells, genotype.outputs):
        kinds = [[*map(type, pair)] if isinstance(pair, tuple) else [] for pair in pairs]
        if not isinstance(pairs, tuple) or not pairs or any(kind != [str, tuple] for kind in kinds):
            raise ValueError("cells and outputs are ((name, (...)), ...), not empty: use genotype(...).")
    names = genotype.names
    if not isinstance(genotype.space, str) or not all((genotype.space, *names)):
        raise ValueError(f"space {short(genotype.space)} and cells {short(names)} must be names, not empty.")
    if len(set(names)) < len(names) or names != tuple(name for name, _ in genotype.outputs):
        raise ValueError(f"cells {short(names)} must differ, and outputs name the same cells in this order.")
    for name in names:
        _check_cell(f"cell {short(name)}", genotype.edges(name), genotype.concat(name))


def _check_cell(where: str, edges: tuple[Choice, ...], outputs: tuple[int, ...]) -> None:
    if not edges or not outputs:
        raise ValueError(f"{where} needs at least one edge and one output.")
    for edge in edges:
        if not isinstance(edge, Choice) or not isinstance(edge.op, str) or not edge.op:
            raise ValueError(f"{where}: {short(edge)} must be Choice(op, source, target), op a name.")
        if any(type(s) is not int for s in edge[1:]) or not 0 <= edge.source < edge.target:
            raise ValueError(f"{where}: {short(edge)} must have 0 <= source < target, both integers.")
    last = max(edge.target for edge in edges)
    if len(set(outputs)) < len(outputs) or not all(type(s) is int and 0 <= s <= last for s in outputs):
        raise ValueError(f"{where}: outputs {short(outputs)} must be different states of 0..{short(last)}.")


def to_json(genotype: Genotype) -> str:
    """The genotype as JSON, on one line.

    Format: `{"space": ..., "cells": {"normal": [["none", 0, 2], ...]}, "outputs": {"normal": [2, ...]}}`.

    Args:
      genotype: what to write.
    """
    return json.dumps({"space": genotype.space, "cells": dict(genotype.cells), "outputs": dict(genotype.outputs)})


def from_json(text: str) -> Genotype:
    """The genotype that `to_json` wrote.

    Args:
      text: one JSON object.

    Raises:
      ValueError: if the text is anything else; says what is wrong.
    """
    try:
        fields = json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"not the JSON of a genotype: {error}") from error
    if not isinstance(fields, dict) or set(fields) != {"space", "cells", "outputs"}:
        raise ValueError(f"a genotype is a JSON object with space, cells and outputs; got {short(fields)}.")
    return genotype(**fields)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError(f"a name stands twice in {short([name for name, _ in pairs])}.")
    return dict(pairs)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is neither a name nor a state.")


def to_darts(genotype: Genotype) -> str:
    """The genotype in the papers' notation, `Genotype(normal=[('none', 1), ...], normal_concat=..., ...)`.

    Rows are (op, source), two consecutive rows per node, or one per earlier state ("edge_all", SNAS). Without
    a `reduce` cell (F1 of GDAS, whose reduction is fixed) `reduce=None` is written.

    Args:
      genotype: what to write.

    Raises:
      ValueError: if the notation cannot hold it: other cells, or other numbers of edges per node.

    Reference: Liu et al. 2019, arXiv:1806.09055, official code quark0/darts, `cnn/genotypes.py`.
    """
    if genotype.names not in (CELLS, CELLS[:1]):
        raise ValueError(f"the papers' notation holds normal and reduce cells; got {short(genotype.names)}.")
    fields: dict[str, Any] = {}
    for cell in genotype.names:
        edges, outputs = genotype.edges(cell), genotype.concat(cell)
        if tuple(edge.target for edge in edges) != targets(len(edges), outputs):
            raise ValueError(f"cell {cell!r}: not two rows for every node, nor all; write JSON instead.")
        fields[cell] = [(op, source) for op, source, _ in edges]
        whole = range(outputs[0], outputs[-1] + 1)
        fields[f"{cell}_concat"] = whole if tuple(whole) == outputs else list(outputs)
    fields |= {"reduce": None, "reduce_concat": fields["normal_concat"]} if len(fields) == 2 else {}
    return f"Genotype({', '.join(f'{name}={value}' for name, value in fields.items())})"


def from_darts(text: str, space: str = "darts") -> Genotype:
    """The genotype in the papers' notation, with or without `NAME = ` in front.

    Args:
      text: as `to_darts` writes it; concat may be `range(a, b)`, a list or a tuple.
      space: name of the space it belongs to.

    Raises:
      ValueError: if the text is anything else; says what is wrong.

    Reference: Liu et al. 2019, arXiv:1806.09055; Xie et al. 2019, arXiv:1812.09926 ("edge_all").
    """
    fields = keywords(text)
    cells, outputs = {}, {}
    for name in CELLS[:1] if fields["reduce"] is None else CELLS:
        outputs[name] = concat(fields[f"{name}_concat"], length(fields[name]))
        cells[name] = rows(fields[name], outputs[name])
    return genotype(space, cells, outputs)


def to_nas_bench_201(genotype: Genotype) -> str:
    """The genotype as NAS-Bench-201 names it, `|op~0|+|op~0|op~1|+|op~0|op~1|op~2|`: one part per node.

    Args:
      genotype: what to write.

    Raises:
      ValueError: if it is not one cell named `cell` whose nodes take every earlier state once, in order.

    Reference: Dong and Yang 2020, arXiv:2001.00326.
    """
    nodes = [list(node) for _, node in groupby(genotype.edges("cell"), lambda edge: edge.target)]
    text = "+".join("".join(f"|{op}~{source}" for op, source, _ in node) + "|" for node in nodes)
    pairs = [(edge.source, edge.target) for edge in genotype.edges("cell")]
    whole = [(source, target) for target in range(1, 1 + max(t for _, t in pairs)) for source in range(target)]
    if pairs != whole:
        raise ValueError(
            f"NAS-Bench-201 names one operation for each of {len(whole)} edges, this genotype has {len(pairs)}, or in "
            "another order: decode with decoding.argmax_edges(), or write JSON instead."
        )
    if from_nas_bench_201(text) != dataclasses.replace(genotype, space="nas_bench_201"):
        raise ValueError("NAS-Bench-201 names one cell, its output the last node; write JSON instead.")
    return text


def from_nas_bench_201(text: str) -> Genotype:
    """The genotype that NAS-Bench-201 names so: one cell `cell`, state 0 its input, the last node its output.

    Args:
      text: such a name.

    Raises:
      ValueError: if the text is anything else; says what is wrong.

    >>> from_nas_bench_201("|nor_conv_3x3~0|").edges("cell")
    (Choice(op='nor_conv_3x3', source=0, target=1),)
    """
    rows, nodes = [], text.strip().split("+")
    for target, node in enumerate(nodes, start=1):
        ops = [part.partition("~")[0] for part in node[1:].split("|")[:target]]
        if node != "|" + "".join(f"{op}~{i}|" for i, op in enumerate(ops)) or any(op.split() != [op] for op in ops):
            raise ValueError(f"node {target}, {short(node)}: expected |op~0|op~1|..., every earlier state.")
        rows += [(op, source, target) for source, op in enumerate(ops)]
    return genotype("nas_bench_201", {"cell": rows}, {"cell": [len(nodes)]})


def read(text: str) -> Genotype:
    """The genotype in any notation that is known here, or as other code bases print it (`dialects`).

    Args:
      text: JSON, one of the papers' notations, NAS-Bench-201's name of a cell, NASLib's six numbers for one, or the
        choices that NNI exports.

    Raises:
      ValueError: if it is none of them; says what is wrong.
    """
    text = dialects.tidy(text)
    if edges := dialects.naslib(text):
        return genotype("nas_bench_201", {"cell": edges}, {"cell": [3]})
    if re.fullmatch(r"\d+", text):
        raise ValueError(
            f"{text} may be an index of NAS-Bench-201, whose cells were numbered by chance: "
            f"jaxnas lookup {text} --table FILE says which cell it is."
        )
    if text.startswith("|"):
        return from_nas_bench_201(text)
    if text.startswith("{"):
        fields = dialects.objects(text)
        cells = dialects.nni(fields) if isinstance(fields, dict) else None
        if cells:
            return genotype("darts", cells, {name: sorted({row[2] for row in edges}) for name, edges in cells.items()})
        if "'normal'" in text or (isinstance(fields, dict) and "normal" in fields):
            return from_darts(text)
        return from_json(text)
    return from_darts(text)
