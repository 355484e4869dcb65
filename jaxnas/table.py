"""The table of methods, read from the code: each row's slots beside its paper, its checks and its deviations.

Where in the river: on the bank, for readers. Knows rows and their docstrings.
"""

import inspect
import re
from collections.abc import Callable
from typing import NamedTuple

from jaxnas.strategies import algorithms
from jaxnas.strategies.strategy import Strategy
from jaxnas.strategies.telling import slot_names as slot_names
from jaxnas.strategies.telling import told as told

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


def section(text: str, name: str) -> str:
    """A section of a docstring in one line; empty if it has none."""
    found = re.search(rf"^{name}:(.*?)(?=^\w|\n\n|\Z)", text, re.M | re.S)
    return " ".join(found.group(1).split()) if found else ""


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
