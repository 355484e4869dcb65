"""The table of methods, read from the code: each row's slots beside its paper, its checks and its deviations.

Where in the river: on the bank, for readers. Knows only that slots are functions, or records of functions, whose
constructors have names.
"""

import inspect
import re
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from jaxnas.hypergradient import Hypergradient
from jaxnas.strategies import algorithms
from jaxnas.strategies.mixing import Mixing
from jaxnas.strategies.relaxation import Relaxation
from jaxnas.strategies.strategy import Strategy

SLOTS = ("relaxation", "mixing", "penalty", "join", "solver", "decode")
KINDS = (Relaxation, Mixing, Hypergradient)  # slots that go into others
NAMING = ("sample", "mix", "indirect", "step")  # the field of a record whose constructor gives it its name
SECTIONS = ("Reference", "Checked", "Deviates")


class Row(NamedTuple):
    """One method as a reader wants it."""

    name: str  # of the function that makes it
    what: str  # its first sentence
    slots: dict[str, str]  # slot -> constructors
    reference: str
    checked: str
    deviates: str


def rows() -> list[Row]:
    """Every row of `strategies/algorithms.py`, in the order of the file."""
    members = [f for _, f in inspect.getmembers(algorithms, inspect.isfunction) if f.__module__ == algorithms.__name__]
    made = [f for f in members if f.__annotations__.get("return") is Strategy]
    return [row(f) for f in sorted(made, key=lambda f: f.__code__.co_firstlineno)]


def row(make: Callable[..., Strategy]) -> Row:
    """A row from its constructor: slots of a search of 1,000 steps, the rest from its docstring."""
    strategy, text = make(1000), inspect.getdoc(make) or ""
    slots = {name: told(getattr(strategy, name)) for name in slot_names(strategy)}
    return Row(make.__name__, text.split("\n\n")[0].replace("\n", " "), slots, *(section(text, s) for s in SECTIONS))


def slot_names(strategy: Strategy) -> tuple[str, ...]:
    """The slots in the order of the river; any that is not listed here comes last."""
    return tuple(sorted(strategy.__dataclass_fields__, key=lambda n: SLOTS.index(n) if n in SLOTS else len(SLOTS)))


def section(text: str, name: str) -> str:
    """A section of a docstring in one line; empty if it has none."""
    found = re.search(rf"^{name}:(.*?)(?=^\w|\n\n|\Z)", text, re.M | re.S)
    return " ".join(found.group(1).split()) if found else ""


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


def markdown() -> str:
    """The table for the documents, and below it what each row rests on."""
    found = rows()
    names = list(dict.fromkeys(slot for one in found for slot in one.slots))
    cells = [[one.name, *(f"`{one.slots[name]}`" for name in names)] for one in found]
    lines = ["| " + " | ".join(line) + " |" for line in (["method", *names], ["---"] * (len(names) + 1), *cells)]
    for one in found:
        lines += ["", f"## {one.name}", "", one.what, ""]
        lines += [f"* {name}: {text}" for name, text in zip(SECTIONS, one[3:], strict=True) if text]
    return HEAD + "\n".join(lines) + "\n"


HEAD = """# The table of methods

Generated from the code: `jaxnas methods --markdown > docs/methods.md`. A row is one function of
`jaxnas/strategies/algorithms.py`; what fills a slot of one fills it in any other.

"""
