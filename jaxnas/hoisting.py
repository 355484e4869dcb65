"""Numbers that only scale: arguments of a compiled program, not constants in it.

Where in the river: beside it. Knows functions and pytrees; no image, no strategy.

A program that has the mean of its pixels or a learning rate written in it is compiled anew for every split and every
rate. A `jax.tree_util.Partial` is a function that is a pytree of its numbers: one who compiles it as an argument,
`jax.jit(called).lower(tree_of(step), state, batches)`, gets a program without them.
"""

from collections.abc import Callable
from functools import partial, wraps
from typing import Any

from jax.tree_util import Partial


def tree_of(function: Callable[..., Any]) -> Partial:
    """A function as a pytree of its numbers; without leaves where it does not tell them, which makes them constants.

    Args:
      function: a `Partial`, one that `hoisted` made, or any other.

    >>> import jax
    >>> jax.tree.leaves(tree_of(max)), jax.tree.leaves(tree_of(Partial(max, 3)))
    ([], [3])
    """
    told = getattr(function, "tree", function)
    return told if isinstance(told, Partial) else Partial(function)


def called(function: Callable[..., Any], *args: Any) -> Any:
    """function(*args): what is compiled where the function is an argument too.

    Args:
      function: a pytree (`tree_of`).
      args: its own.
    """
    return function(*args)


def hoisted(record: Any, make: Callable[[Any], Any], numbers: Any, names: tuple[str, ...]) -> Any:
    """The record, with functions of it telling their numbers to `tree_of`.

    Args:
      record: NamedTuple of functions.
      make: numbers, perhaps traced -> the same record by these.
      numbers: pytree of arrays.
      names: fields of the record. What a caller puts there afterwards is what runs.
    """
    telling = {name: _telling(getattr(record, name), Partial(partial(_made, make, name), numbers)) for name in names}
    return record._replace(**telling)


def _telling(function: Callable[..., Any], tree: Partial) -> Callable[..., Any]:
    @wraps(function)
    def same(*args: Any, **named: Any) -> Any:
        return function(*args, **named)

    same.tree = tree  # type: ignore[attr-defined]
    return same


def _made(make: Callable[[Any], Any], name: str, numbers: Any, *args: Any) -> Any:
    return getattr(make(numbers), name)(*args)
