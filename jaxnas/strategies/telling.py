"""A strategy in words: each slot by the names of the functions that made it.

Where in the river: beside the map, for readers. Knows only that slots are functions, or records of functions, whose
constructors have names.
"""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from jaxnas.hypergradient import Hypergradient
from jaxnas.strategies.mixing import Mixing
from jaxnas.strategies.relaxation import Relaxation

SLOTS = ("relaxation", "mixing", "penalty", "join", "solver", "decode")
KINDS = (Relaxation, Mixing, Hypergradient)  # slots that go into others
NAMING = ("sample", "mix", "indirect", "step")  # the field of a record whose constructor gives it its name


def slot_names(strategy: Any) -> tuple[str, ...]:
    """The slots in the order of the river; any that is not listed here comes last."""
    return tuple(sorted(strategy.__dataclass_fields__, key=lambda n: SLOTS.index(n) if n in SLOTS else len(SLOTS)))


def told(slot: Any) -> str:
    """A slot by the names of its constructors: `edge_normalized(softmax)`.

    >>> from jaxnas.strategies.relaxation import edge_normalized, softmax
    >>> told(edge_normalized(softmax()))
    'edge_normalized(softmax)'
    """
    function = next((getattr(slot, name) for name in NAMING if hasattr(slot, name)), slot)
    inside = dict.fromkeys(told(found) for value in held(function) for found in wrapped(value))
    name = function.__qualname__.partition(".")[0]
    return f"{name}({', '.join(inside)})" if inside else name


def held(function: Callable) -> list[Any]:
    """What a function was made from: the arguments of a partial, or its closure."""
    if isinstance(function, partial):
        return [*function.args, *function.keywords.values()]
    return list(inspect.getclosurevars(function).nonlocals.values())


def wrapped(value: Any) -> list[Any]:
    """The slots in a value, through tuples and partials."""
    if isinstance(value, KINDS):
        return [value]
    if isinstance(value, partial):
        value = tuple(held(value))
    return [found for x in value for found in wrapped(x)] if isinstance(value, tuple) else []
