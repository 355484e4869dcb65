"""The papers' notation, `Genotype(normal=[...], normal_concat=..., ...)`, as plain lists; the text is never run.

Where in the river: under `genotype`. Knows Python's grammar and how rows are counted; no genotypes.
"""

import ast
from collections.abc import Iterable
from numbers import Integral
from reprlib import repr as short
from typing import Any

LONGEST = 50_000  # characters in the papers' notation: longer text would keep the parser busy for seconds


def keywords(text: str) -> dict[str, Any]:
    """What the text says of `normal`, `normal_concat`, `reduce` and `reduce_concat`.

    Args:
      text: the notation, alone or assigned to a plain name.

    Raises:
      ValueError: if the text is anything else; says what is wrong.
    """
    try:
        found = {str(keyword.arg): _literal(keyword) for keyword in _call(text)}
    except (SyntaxError, TypeError, ValueError, RecursionError, MemoryError) as error:
        raise ValueError(f"not the papers' notation, Genotype(normal=[...], ...): {error}") from error
    if set(found) != {"normal", "normal_concat", "reduce", "reduce_concat"}:
        raise ValueError("Genotype(...) takes normal, normal_concat, reduce, reduce_concat, each once.")
    return found


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


def _call(text: str) -> list[ast.keyword]:
    """The keywords of `Genotype(name=..., ...)`, alone or assigned to a plain name."""
    match ast.parse(text.strip() if len(text) < LONGEST else "").body:
        case [ast.Expr(call)] | [ast.Assign([ast.Name()], call)]:
            match call:
                case ast.Call(ast.Name("Genotype"), [], [_, _, _, _] as keywords):
                    return keywords
    raise ValueError(f"expected one call with four keywords, got {short(text)}.")


def _literal(keyword: ast.keyword) -> Any:
    """The list, tuple, string or number of a keyword; of a concat, the range, too."""
    match str(keyword.arg)[-7:], keyword.value:
        case "_concat", ast.Call(func=ast.Name(id="range"), args=[start, stop], keywords=[]):
            return range(state(ast.literal_eval(start)), state(ast.literal_eval(stop)))
    return ast.literal_eval(keyword.value)


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
