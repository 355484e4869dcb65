"""The numbers of a whole search by name, its stages together, and those of a recipe; and both with others.

Where in the river: around the stages. Knows strategies, what makes their stages, and recipes; no file, no command line.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, replace
from difflib import get_close_matches
from functools import partial
from typing import Any, NamedTuple, get_type_hints

from jaxnas.evaluation.recipes import CHANGED, Recipe
from jaxnas.options import Bounds, fits, in_words
from jaxnas.stages import Stage
from jaxnas.strategies.settings import WHOLE, Number, a_number, numbers, with_numbers

STAGES = "stages."  # in front of what stages are made by, one value for each
CHANCE = Bounds(0, 1, whole=False, below=True)


def in_full(stages: Sequence[Stage]) -> dict[str, Any]:
    """Every number of a search by name: one value, or a list with one for each stage where they differ.

    Args:
      stages: of the search; where one has no such number, its value is None.
    """
    tables = [numbers(stage.strategy) for stage in stages]
    names = dict.fromkeys(name for table in tables for name in table)
    found = {name: [table[name].value if name in table else None for table in tables] for name in names}
    one = lambda values: values[0] if all(value == values[0] for value in values) else values
    return {name: one(values) for name, values in found.items()}


class Made(NamedTuple):
    """A search and its numbers."""

    stages: list[Stage]
    values: dict[str, Any]  # all that may be given, by name
    follows: frozenset[str]  # those that follow from the length of the search


def with_changes(
    build: Callable[..., Sequence[Stage]], usual: Mapping[str, tuple], changes: Mapping[str, Any]
) -> list[Stage]:
    """Stages with other numbers.

    Args:
      build: gives them, from arguments of what makes stages.
      usual: those arguments, of `of_stages`.
      changes: {name: number, or list of one for each stage}.

    Raises:
      ValueError: for a name that there is not, and a value that does not fit; says what there is.
    """
    own = {name: value for name, value in changes.items() if name in usual}
    stages = build(**_read_stages(own, usual))
    known, others = common(stages), {name: value for name, value in changes.items() if name not in usual}
    check_names(others, [*usual, *known])
    read = {name: known[name].read(name, value) for name, value in others.items()}
    return [stage._replace(strategy=with_numbers(stage.strategy, read)) for stage in stages] if read else list(stages)


def made(
    build: Callable[..., Sequence[Stage]],
    usual: Mapping[str, tuple],
    changes: Mapping[str, Any],
    steps: int,
    epochs: int,
) -> Made:
    """Stages with other numbers, and what there is to say about all of them.

    Args:
      build: (steps in an epoch, epochs, ...) -> stages.
      usual, changes: as in `with_changes`, which says what is raised.
      steps, epochs: length of the search.
    """
    sizes = (steps, epochs), (steps + 50, epochs + 50)  # of two lengths, so that what follows from it differs
    stages, others = (with_changes(partial(build, *size), usual, changes) for size in sizes)
    values, other = ({name: number.value for name, number in common(one).items()} for one in (stages, others))
    own = {name: list(changes.get(name, value)) for name, value in usual.items()}
    return Made(stages, own | values, frozenset(name for name, value in values.items() if other.get(name) != value))


def common(stages: Sequence[Stage]) -> dict[str, Number]:
    """The numbers that all stages have alike; what differs between them belongs to what makes the stages."""
    first, *others = (numbers(stage.strategy) for stage in stages)
    alike = lambda name: all(name in table and table[name].value == first[name].value for table in others)
    return {name: number for name, number in first.items() if alike(name)}


def of_stages(make: Callable[..., Any] | None, fixed: Mapping[str, Any]) -> dict[str, tuple]:
    """What differs between stages, by name: the arguments of `make` that are one value for each of them.

    Args:
      make: what makes the stages of a search; None where it has one only.
      fixed: arguments that are not at their defaults.
    """
    given = inspect.signature(make).parameters.values() if make else ()
    found = {one.name: fixed.get(one.name, one.default) for one in given}
    return {f"{STAGES}{name}": tuple(value) for name, value in found.items() if isinstance(value, tuple | list)}


def _read_stages(values: Mapping[str, Any], usual: Mapping[str, tuple]) -> dict[str, tuple]:
    """Given lists, one value for each stage, as arguments of what makes the stages."""
    return {name.removeprefix(STAGES): _one_each(name, value, usual[name]) for name, value in values.items()}


def of_recipe(recipe: Recipe) -> dict[str, Number]:
    """The numbers of a recipe by name, without its length and its batch, which are options: `rate`, `decay.factor`.

    Args:
      recipe: how a network is trained.
    """
    own = _fields(recipe) | {f"decay.{name}": number for name, number in _fields(recipe.decay).items()}
    return {name: number for name, number in own.items() if name not in ("epochs", "batch")}


def with_recipe(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """The recipe with other numbers; its name says so.

    Args:
      recipe: how a network is trained.
      changes: {name: number}, of `of_recipe`.

    Raises:
      ValueError: for a name that there is not, and a value that does not fit; says what there is.
    """
    known = of_recipe(recipe)
    check_names(changes, known, f"the recipe {recipe.name}")
    read = {name: known[name].read(name, value) for name, value in changes.items()}
    new = {name: value for name, value in read.items() if value != known[name].value}
    of_decay: dict[str, Any] = {name.removeprefix("decay."): value for name, value in new.items() if "." in name}
    plain: dict[str, Any] = {name: value for name, value in new.items() if "." not in name}
    plain |= {"decay": replace(recipe.decay, **of_decay)} if of_decay else {}
    return replace(recipe, **plain, name=f"{recipe.name.removesuffix(CHANGED)}{CHANGED}") if new else recipe


def check_names(given: Iterable[str], known: Iterable[str], what: str = "this search") -> None:
    """Raises ValueError for a setting that there is not; says which are near, and all that there are."""
    names = sorted(known)
    for name in given:
        if name not in names:
            alike = [one for one in names if one.endswith(name.rpartition(".")[2])]
            near = (get_close_matches(name, names, n=3) or alike)[:3]
            meant = f" Did you mean {' or '.join(near)}?" if near else ""
            raise ValueError(f"--set {name}: {what} has no such setting.{meant} It has {', '.join(names)}.")


def _fields(record: Any) -> dict[str, Number]:
    hints = get_type_hints(type(record), include_extras=True)
    found = {one.name: a_number(getattr(record, one.name), hints[one.name], 0, one.name) for one in fields(record)}
    return {name: number for name, number in found.items() if number}


def _one_each(name: str, given: Any, usual: tuple) -> tuple:
    whole = isinstance(usual[0], int)
    bounds = WHOLE._replace(least=1) if whole else CHANCE
    if not isinstance(given, (list, tuple)) or len(given) != len(usual) or not all(fits(one, bounds) for one in given):
        raise ValueError(
            f"--set {name}={given}: give {len(usual)} numbers, each {in_words(bounds)}, such as {list(usual)}."
        )
    return tuple(int(one) if whole else float(one) for one in given)
