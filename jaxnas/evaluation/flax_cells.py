"""The cells of a genotype as classes of plain flax: a line for each node.

Where in the river: inside `flax_module.py`. Knows a genotype and the space that it is built in; no arrays.
"""

from collections import defaultdict
from collections.abc import Iterable
from re import findall
from typing import NamedTuple

from jaxnas.evaluation.flax_calls import call
from jaxnas.spaces import ops
from jaxnas.spaces.genotype import Choice, Genotype
from jaxnas.spaces.network import chosen
from jaxnas.spaces.plan import Cells, Part
from jaxnas.spaces.space import Space

WIDTH = 120 - 8  # of a line inside a function
INPUTS = {1: ("x",), 2: ("older", "newer")}  # how many states a cell starts from -> their names


class CellClass(NamedTuple):
    """The class for the cells of one type and stride."""

    name: str
    part: Cells  # one of those that it makes
    reductions: tuple[int, ...]  # strides with which its cells prepare their older input, where they have one


class Term(NamedTuple):
    """A chosen edge of a node."""

    name: str  # in the file: s2a, s2b
    place: int  # among the edges of its cell
    choice: Choice


def cell_classes(parts: Iterable[Part]) -> dict[tuple[str, int], CellClass]:
    """(cell type, stride) -> its class.

    Args:
      parts: of a network, in order.
    """
    alike: dict[tuple[str, int], list[Cells]] = defaultdict(list)
    for part in parts:
        if isinstance(part, Cells):
            alike[part.cell, part.stride].append(part)
    types = [cell for cell, _ in alike]
    return {
        (cell, stride): CellClass(
            _class_name(cell) + (f"Stride{stride}" if types.count(cell) > 1 else ""),
            same[0],
            tuple(sorted({stride for part in same for stride in older_strides(part)})),
        )
        for (cell, stride), same in alike.items()
    }


def older_strides(part: Cells) -> tuple[int, ...]:
    """How much larger the older input of each cell is than its newer one.

    Args:
      part: equal cells in a row.
    """
    return (part.reduction, *(1 for _ in part.layers[1:]))


def _class_name(cell: str) -> str:
    """`normal` -> `NormalCell`."""
    name = "".join(word.capitalize() for word in findall(r"[^\W_]+", cell))
    return name if name == "Cell" else f"{name}Cell"


def cell_text(genotype: Genotype, space: Space, one: CellClass) -> str:
    """The text of a class: a line for each prepared input, for each node that is read, and for the output.

    Args:
      genotype: whose cell.
      space: where it is built.
      one: which class.
    """
    part, live = one.part, live_states(genotype, space, one.part)
    lines = _prepared(space, one, live)
    for node in sorted(live - set(range(space.inputs))):
        lines += _node(genotype, space, part, node)
    states = [f"s{i}" for i in genotype.concat(part.cell)]
    lines.append(f"return {states[0]}" if len(states) == 1 else f"return jnp.concatenate([{', '.join(states)}], -1)")
    lines = ["c = self.channels"] * any("(c, " in line for line in lines) + lines
    return _CELL.format(
        name=one.name,
        reads=("The last state", "The last two states")[space.inputs - 1],
        halved=" of half its height and width" if part.stride > 1 else "",
        older_stride=_OLDER_STRIDE if two_sizes(space, one) else "",
        arguments=", ".join(f"{x}: Array" for x in INPUTS[space.inputs]),
        lines="\n        ".join(lines),
    )


def two_sizes(space: Space, one: CellClass) -> bool:
    """Whether some cells of a class read an older input of the newer one's size, and some a larger one.

    Args:
      space, one: which class.
    """
    return space.inputs == 2 and len(one.reductions) > 1


_OLDER_STRIDE = "    older_stride: int = 1  # 2 where the older state is twice as large\n"
_CELL = '''class {name}(nn.Module):
    """{reads} to the next{halved}."""

    channels: int
{older_stride}
    @nn.compact
    def __call__(self, {arguments}, train: bool = False) -> Array:
        {lines}'''


def _prepared(space: Space, one: CellClass, live: set[int]) -> list[str]:
    """Lines that bring the inputs of a cell to its width."""
    prepare = lambda stride, x: call(space.preprocess(features=one.part.channels, stride=stride), x, "c", x)
    *older, newer = INPUTS[space.inputs]
    last = [f"s{space.inputs - 1} = {prepare(1, newer)}"] if space.inputs - 1 in live else []
    if not older or 0 not in live:
        return last
    larger, *same = (f"s0 = {prepare(stride, *older)}" for stride in reversed(one.reductions))
    if not same:
        return [larger, *last]
    return [f"if self.older_stride == {one.reductions[-1]}:", f"    {larger}", "else:", f"    {same[0]}", *last]


def _node(genotype: Genotype, space: Space, part: Cells, node: int) -> list[str]:
    """Lines of a node: which edges are closed, and the sum of the others."""
    terms, closed = [], []
    for term in incoming(genotype, part.cell, node):
        module, _ = chosen(space, part, term.choice)
        if isinstance(module, ops.Zero):
            closed.append(f"s{term.choice.source}")
        else:
            terms.append(call(module, term.name, "c", f"s{term.choice.source}"))
    told = [f"# s{node}: none from {', '.join(closed)}"] if closed else []
    if not terms:
        outer = part.stride > 1 and closed[0] in [f"s{i}" for i in range(space.inputs)]
        terms = [f"jnp.zeros_like({closed[0]}{'[:, ::2, ::2]' if outer else ''})"]
    line = f"s{node} = {' + '.join(terms)}"
    if len(line) <= WIDTH:
        return [*told, line]
    return [*told, f"s{node} = (", f"    {terms[0]}", *(f"    + {term}" for term in terms[1:]), ")"]


def incoming(genotype: Genotype, cell: str, node: int) -> list[Term]:
    """The chosen edges that end in a node.

    Args:
      genotype, cell, node: whose.
    """
    ending = [(i, choice) for i, choice in enumerate(genotype.edges(cell)) if choice.target == node]
    return [Term(f"s{node}{chr(ord('a') + place)}", i, choice) for place, (i, choice) in enumerate(ending)]


def live_states(genotype: Genotype, space: Space, part: Cells) -> set[int]:
    """The states of a cell that its output depends on.

    Args:
      genotype, space, part: whose cell.
    """
    live = set(genotype.concat(part.cell))
    for node in reversed(range(space.inputs, 1 + max(live))):
        if node in live:
            ending = [term.choice for term in incoming(genotype, part.cell, node)]
            open_edges = [one for one in ending if not isinstance(chosen(space, part, one)[0], ops.Zero)]
            live |= {choice.source for choice in open_edges or ending[:1]}  # zeros have the shape of a state
    return live
