"""What each part of a method is worth: the same row with one slot at a time as in plain first-order DARTS.

Where in the river: beside the table. Knows slots and the constructors that filled them; runs nothing.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np

from jaxnas import table
from jaxnas.bilevel import Solver, always, never
from jaxnas.hypergradient import first_order
from jaxnas.stages import Stage
from jaxnas.strategies.mixing import broadcast, opened, sampled, selected_only, straight_through
from jaxnas.strategies.perturbation import closed
from jaxnas.strategies.relaxation import edge_simplex, simplex
from jaxnas.strategies.strategy import Strategy

PLAIN: Mapping[str, Any] = MappingProxyType(  # what fills a slot unless a row says otherwise
    {
        slot.name: slot.default if slot.default_factory is dataclasses.MISSING else slot.default_factory()
        for slot in dataclasses.fields(Strategy)
        if slot.name != "solver"
    }
)
# arguments of `alternating`: (name of the ablation, argument, plain value)
SOLVER = (
    ("hypergradient", "hypergradient", first_order()),
    ("rest", "when", always),
    ("order", "weights_first", False),
)
HARD = (sampled, opened, selected_only, broadcast, straight_through)  # run one operation: gates must be 0 or 1


def ablations(strategy: Strategy, plain: Mapping[str, Any] = PLAIN) -> dict[str, Strategy]:
    """The strategy without one of its parts, for each part that is not the plain one: {slot: strategy}.

    Besides the slots there are parts of `alternating`: "hypergradient" (becomes `first_order`), "rest" (alpha moves at
    every step) and "order" (alpha moves first).

    Args:
      strategy: any row.
      plain: what fills a slot that is turned off; `decode=argmax_edges()` for a space whose genotypes keep all edges.

    Deviates from one slot at a time: without gates of 0 or 1, a mixing or a perturbation that needs them goes as well
    (GDAS, NASP). Alpha that are points of a simplex (GAEA) stay, since the solver's step is made for them.

    >>> from jaxnas.strategies.algorithms import darts, pc_darts
    >>> sorted(ablations(pc_darts(100)))
    ['mixing', 'relaxation', 'rest']
    >>> sorted(ablations(darts(100)))
    ['hypergradient']
    """
    found = {}
    for slot, filling in plain.items():
        if not _alike(getattr(strategy, slot), filling) and not (slot == "relaxation" and _on_simplex(strategy)):
            found[slot] = strategy.replace(**{slot: filling}, **_coupled(strategy, slot, plain))
    return found | {name: strategy.replace(solver=solver) for name, solver in _solvers(strategy.solver)}


def staged(stages: Sequence[Stage], plain: Mapping[str, Any] = PLAIN) -> dict[str, list[Stage]]:
    """The same for a search in stages: a part is turned off in each stage that has it."""
    found = [ablations(stage.strategy, plain) for stage in stages]
    names = dict.fromkeys(name for one in found for name in one)
    without = lambda name: [
        stage._replace(strategy=one.get(name, stage.strategy)) for stage, one in zip(stages, found, strict=True)
    ]
    return {name: without(name) for name in names}


def told(before: Strategy, after: Strategy) -> str:
    """What differs, by the names of constructors: `mixing: partial_channels -> weighted_sum`."""
    names = [slot for slot in table.slot_names(before) if not _alike(getattr(before, slot), getattr(after, slot))]
    return "; ".join(_told(slot, getattr(before, slot), getattr(after, slot)) for slot in names)


def _told(slot: str, before: Any, after: Any) -> str:
    if isinstance(before, Solver) and before.like and after.like:
        for name, argument, _ in SOLVER:
            one, other = before.like.keywords[argument], after.like.keywords[argument]
            if not _alike(one, other):
                return f"{name}: {_name(one)} -> {_name(other)}"
    names = table.told(before), table.told(after)
    return f"{slot}: {names[0]} -> {names[1]}" + " with other settings" * (names[0] == names[1])


def _name(value: Any) -> str:
    if isinstance(value, bool):
        return "weights first" if value else "alpha first"
    return table.told(value)


def _on_simplex(strategy: Strategy) -> bool:
    return any(made.__name__ in table.told(strategy.relaxation) for made in (simplex, edge_simplex))


def _coupled(strategy: Strategy, slot: str, plain: Mapping[str, Any]) -> dict[str, Any]:
    """Slots that mean nothing without this one."""
    if slot == "penalty":
        return {"join": plain["join"]}  # there is nothing left to join
    needs = {"mixing": HARD, "perturb": (closed,)} if slot == "relaxation" else {}
    names = {of: table.told(getattr(strategy, of)) for of in needs}
    return {of: plain[of] for of, makers in needs.items() if any(made.__name__ in names[of] for made in makers)}


def _solvers(solver: Solver) -> Iterator[tuple[str, Solver]]:
    """Plainer solvers, where this one says how it was made and alpha moves at all."""
    settings = solver.like.keywords if solver.like else {}
    if solver.like is None or settings["when"] is never:
        return
    for name, argument, plain in SOLVER:
        if not _alike(settings[argument], plain):
            yield name, solver.like(**{argument: plain})


def _alike(one: Any, other: Any) -> bool:
    """Whether two values were made by the same constructors from the same arguments."""
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, (tuple, list)):
        return len(one) == len(other) and all(map(_alike, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_alike(one[key], other[key]) for key in one)
    if isinstance(one, partial):
        return _alike((one.func, one.args, one.keywords), (other.func, other.args, other.keywords))
    if hasattr(one, "__code__"):
        return one.__code__ is other.__code__ and _alike(_kept(one), _kept(other))
    return bool(np.all(np.asarray(one == other)))


def _kept(function: Callable) -> tuple[Any, ...]:
    """What a function carries: its closure and its defaults."""
    cells = tuple(cell.cell_contents for cell in getattr(function, "__closure__", None) or ())
    return cells, getattr(function, "__defaults__", None), getattr(function, "__kwdefaults__", None)
