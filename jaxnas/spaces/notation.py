"""The papers' notation, `Genotype(normal=[...], normal_concat=..., ...)`, as plain lists; the text is never run.

Where in the river: under `genotype`. Knows Python's grammar and how rows are counted; no genotypes.
"""

import ast
from collections.abc import Iterable
from numbers import Integral
from reprlib import repr as short
from typing import Any

FIELDS = ("normal", "normal_concat", "reduce", "reduce_concat")
MORE = ("connectN", "connects")  # fields of AutoDL's class, None where cells follow one another
INTEGERS = {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}  # of NumPy
WRAPPERS = {"int", "str", "str_", "list", "tuple", "tensor", "array"} | INTEGERS
LONGEST = 50_000  # characters in the papers' notation: longer text would keep the parser busy for seconds


def keywords(text: str) -> dict[str, Any]:
    """What the text says of `normal`, `normal_concat`, `reduce` and `reduce_concat`.

    Args:
      text: the notation, alone or assigned to a plain name; a dictionary with the same fields will do, and so will
        fields that are not named, and a `reduce` that is left out.

    Raises:
      ValueError: if the text is anything else; says what is wrong.
    """
    try:
        found = {name: _value(node) for name, node in _fields(text).items()}
    except SyntaxError as error:
        raise ValueError(
            f"not the papers' notation, Genotype(normal=[...], ...): the text breaks off, or is none, near line "
            f"{error.lineno or 1}, character {error.offset or 1}: {short(text.strip())}."
        ) from error
    except (TypeError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"not the papers' notation, Genotype(normal=[...], ...): {error}") from error
    for name in MORE:
        if found.pop(name, None) is not None:
            raise ValueError(f"Genotype(...) with {name}: how cells are connected is not read, only cells are.")
    if {*found} in ({*FIELDS[:2]}, {*FIELDS[:2], "reduce"}) and found.get("reduce") is None:
        found |= {"reduce": None, "reduce_concat": found["normal_concat"]}
    if {*found} != {*FIELDS}:
        raise ValueError("Genotype(...) takes normal, normal_concat, reduce, reduce_concat, each once.")
    return found


def rows(value: Any, outputs: Iterable[int]) -> list[tuple[Any, ...]]:
    """The edges of a cell, (op, source, target), from its rows: one after the other, or a list for each node.

    Args:
      value: [(op, source), ...], or [[(op, source), ...], ...].
      outputs: states that are concatenated.
    """
    nodes = items(value)
    if _nested(nodes):
        return [(*items(row), target) for target, node in enumerate(nodes, 2) for row in items(node)]
    return [(*items(row), into) for row, into in zip(nodes, targets(len(nodes), outputs), strict=True)]


def length(value: Any) -> int:
    """Number of rows of a cell whose nodes have two each, however they are written.

    Args:
      value: as for `rows`.
    """
    nodes = items(value)
    return 2 * len(nodes) if _nested(nodes) else len(nodes)


def _nested(nodes: tuple) -> bool:
    """Whether there is a list of rows for each node."""
    several = lambda node: isinstance(node, list | tuple) and node and isinstance(node[0], list | tuple)
    return bool(nodes) and all(map(several, nodes))


def targets(rows: int, outputs: Iterable[int]) -> tuple[int, ...]:
    """The target of every row: n nodes 2, 3, ... take 2 n rows, or n (n + 3) / 2 where all edges are kept."""
    n = max(outputs, default=0) - 1
    if n > 1 and rows == n * (n + 3) // 2:
        return tuple(target for target in range(2, n + 2) for _ in range(target))
    if rows % 2:
        raise ValueError(f"{rows} rows are neither two for every node nor one for every earlier state.")
    return tuple(2 + row // 2 for row in range(rows))


def concat(value: Any, rows: int) -> list[int]:
    """The states of a concat; a range is spelt out only if it is no longer than a cell of so many rows."""
    if isinstance(value, range) and not 0 <= value.start < value.stop <= rows + 2:
        raise ValueError(f"concat={short(value)}: {rows} rows make the states 0..{rows + 1} at most.")
    return [state(one) for one in items(value)]


def _fields(text: str) -> dict[str, ast.expr]:
    """The fields of `Genotype(...)`, of any class of that name, or of a dictionary, alone or assigned to a name."""
    match ast.parse(text.strip() if len(text) < LONGEST else "").body:
        case [ast.Expr(node)] | [ast.Assign([ast.Name()], node)]:
            match node:
                case ast.Call(func, given, named) if "Genotype" in _name(func) and len(given) <= len(FIELDS):
                    pairs = [*zip(FIELDS, given, strict=False), *((str(one.arg), one.value) for one in named)]
                case ast.Dict(keys, values):
                    names = [str(_value(key)) if key else "**" for key in keys]
                    pairs = [*zip(names, values, strict=True)]
                case _:
                    raise ValueError(f"expected one call with four keywords, got {short(text)}.")
            if len(dict(pairs)) == len(pairs):
                return dict(pairs)
            raise ValueError("a field stands twice.")
    raise ValueError(f"expected one call with four keywords, got {short(text)}.")


def _name(node: ast.expr) -> str:
    """The last part of a dotted name."""
    match node:
        case ast.Name(name) | ast.Attribute(_, name):
            return name
    return ""


def _value(node: ast.expr) -> Any:
    """Lists, tuples, strings, numbers, ranges; and what wraps these in other programs: `np.int64(1)`, `list(...)`."""
    match node:
        case ast.List(parts):
            return [_value(part) for part in parts]
        case ast.Tuple(parts):
            return tuple(_value(part) for part in parts)
        case ast.Call(func, [start, *stop], []) if _name(func) == "range" and len(stop) < 2:
            ends = [state(_value(end)) for end in (start, *stop)]
            return range(*ends)
        case ast.Call(func, [inner], [] | [_]) if _name(func) in WRAPPERS:
            return _value(inner)
        case ast.Call():
            raise ValueError(f"{short(ast.unparse(node))} is no list, name or number that is known here.")
    return ast.literal_eval(node)


def items(value: Any) -> tuple:
    """A list, tuple or range as a tuple; ValueError for anything else."""
    if not isinstance(value, list | tuple | range):
        raise ValueError(f"expected the list of a cell's edges or states, got {short(value)}.")
    return tuple(value)


def state(value: Any) -> int:
    """An integer as it is; ValueError for anything else."""
    if not isinstance(value, Integral) or isinstance(value, bool):
        raise ValueError(f"a state of a cell is an integer, got {short(value)}.")
    return int(value)
