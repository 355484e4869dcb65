"""The numbers of a strategy by name, read off its slots, and the strategy with others: `weights.rate`, `decode.k`.

Where in the river: beside the map. Knows slots and the specs that they carry; no name of a row, no list of settings.

A name is a slot and a parameter of what fills it. What fills a parameter in turn hands its first one the name of that,
and puts it in front of the others: of `heavy_ball(cosine(0.025, 0.001, ...), 0.9)` come `weights.rate`,
`weights.rate_end`, `weights.momentum`. What serves in two places (the step that is looked ahead) is named once.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from reprlib import repr as shortly
from types import NoneType, UnionType
from typing import Any, NamedTuple, Union, get_args, get_origin, get_type_hints

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.options import Bounds, fits, in_words
from jaxnas.spec import Spec, bearer, spec_of
from jaxnas.strategies.strategy import Strategy
from jaxnas.strategies.telling import slot_names

UNBOUNDED = Bounds(0, 10**6, whole=False)  # where a constructor does not say more
WHOLE = Bounds(0, 10**9)
KINDS = (bool, int, float)
JOINED = (Union, UnionType)
INSIDE = ("parts", "tx", "inner", "lookahead", "schedule")  # parameters that give what they hold no name of their own
NOTHING = "none"  # in files, which have no other word for None


class Number(NamedTuple):
    """One setting of a strategy."""

    value: float | bool | None
    kinds: tuple[type, ...]  # what it may be: of bool, int, float, NoneType
    bounds: Bounds
    of: int  # identity of the function that carries the spec
    parameter: str

    def read(self, name: str, given: Any) -> float | bool | None:
        """A value that was given for this setting, in its type.

        Args:
          name: for the error.
          given: a number, true or false, or "none".

        Raises:
          ValueError: says what the setting takes.
        """
        if NoneType in self.kinds and given in (None, NOTHING):
            return None
        if bool in self.kinds:
            if not isinstance(given, bool):
                raise ValueError(f"--set {name}={shortly(given)}: give true or false.")
            return given
        if not fits(given, self.bounds):
            more = f', or "{NOTHING}"' * (NoneType in self.kinds)
            raise ValueError(f"--set {name}={shortly(given)}: give {in_words(self.bounds)}{more}.")
        return int(given) if self.bounds.whole else float(given)


def numbers(strategy: Strategy) -> dict[str, Number]:
    """All settings of a strategy by name, in the order of its slots.

    Args:
      strategy: any; slots that carry no spec have no settings.

    >>> from jaxnas.strategies.algorithms import pc_darts
    >>> found = numbers(pc_darts(100))
    >>> found["weights.rate"].value, found["when.steps"].value, found["mixing.divisor"].value
    (0.1, 30, 4)
    """
    found: dict[str, Number] = {}
    seen: set[int] = set()
    for slot, filling in _slots(strategy):
        for short, full, number in _inside(filling, seen):
            name = f"{slot}.{short}"
            found[f"{slot}.{full}" if name in found else name] = number
    return found


def a_number(value: Any, hint: Any, of: int, parameter: str, bounds: Bounds | None = None) -> Number | None:
    """A setting from a value and its type, which may be annotated with bounds; None where it is no number.

    Args:
      value: a number, truth, or None; anything else is no setting.
      hint: the type of the parameter.
      of, parameter: where it belongs.
      bounds: what it may be where the type does not say.
    """
    kinds = _kinds(value, hint)
    limits = _bounds(hint) or (WHOLE if float not in kinds else bounds or UNBOUNDED)
    return Number(value, kinds, limits, of, parameter) if kinds else None


def with_numbers(strategy: Strategy, values: Mapping[str, Any]) -> Strategy:
    """The strategy with other numbers; what they do not touch is the same object.

    Args:
      strategy: any.
      values: by the names of `numbers`, in their types.

    Raises:
      ValueError: where a constructor refuses them.
    """
    known = numbers(strategy)
    changes: dict[int, dict[str, Any]] = {}
    for name, value in values.items():
        changes.setdefault(known[name].of, {})[known[name].parameter] = value
    done: dict[int, Any] = {}
    return strategy.replace(**{slot: _again(getattr(strategy, slot), changes, done) for slot in slot_names(strategy)})


def scaling(strategy: Strategy) -> dict[str, np.ndarray]:
    """The numbers that a program can take as arguments: not those that are counted with, or decided by.

    Args:
      strategy: any.

    Returns:
      Scalars by the names of `numbers`, in the type of Python's floats under JAX's settings.
    """
    kind = jnp.result_type(float)
    floats = {name: one.value for name, one in numbers(strategy).items() if isinstance(one.value, float)}
    return {name: np.asarray(value, kind) for name, value in floats.items() if _traceable(strategy, name)}


def _traceable(strategy: Strategy, name: str) -> bool:
    """Whether constructors take a number that is not known yet."""

    def nothing(value: Any) -> int:
        with_numbers(strategy, {name: value})
        return 0

    try:
        jax.eval_shape(nothing, 0.5)
    except (jax.errors.JAXTypeError, TypeError):
        return False
    return True


def _slots(strategy: Strategy) -> Iterator[tuple[str, Any]]:
    """Slots and what fills them; what the solver was made of counts as slots too."""
    solver = spec_of(strategy.solver)
    for name, held in solver.arguments.items() if solver else ():
        if spec_of(held):
            yield name.removesuffix("_tx"), held
    for name in ("solver", *slot_names(strategy)):
        yield name, getattr(strategy, name)


def _inside(filling: Any, seen: set[int]) -> Iterator[tuple[str, str, Number]]:
    """(name, longer name, number) of what fills a slot, what is outside before what is inside."""
    waiting: list[tuple[tuple[str, ...], tuple[str, ...], Any, Bounds | None]] = [((), (), filling, None)]
    for short, full, one, bounds in waiting:
        spec = spec_of(one)
        if spec is None or id(bearer(one)) in seen:
            continue
        seen.add(id(bearer(one)))
        hints = _hints(spec.make)
        for place, (parameter, held) in enumerate(spec.arguments.items()):
            held = held.item() if isinstance(held, np.number) else held
            role = short if (short and not place) or parameter in INSIDE else (*short, parameter)
            mine = _bounds(hints.get(parameter))
            whole = full if parameter in INSIDE[:2] else (*full, parameter)
            for part in held if isinstance(held, tuple) else (held,):
                waiting.append((role, whole, part, mine or bounds))
            if number := a_number(held, hints.get(parameter), id(bearer(one)), parameter, bounds):
                yield "_".join(role), "_".join(whole), number


def _again(slot: Any, changes: Mapping[int, Mapping[str, Any]], done: dict[int, Any]) -> Any:
    """A slot with changed numbers, made anew as far as they reach; what was shared is shared still."""
    if type(slot) is tuple:
        return tuple(_again(part, changes, done) for part in slot)
    spec = spec_of(slot)
    if spec is None:
        return slot
    here = id(bearer(slot))
    if here not in done:
        done[here] = _made_again(slot, spec, changes.get(here, {}), lambda held: _again(held, changes, done))
    return done[here]


def _made_again(slot: Any, spec: Spec, mine: Mapping[str, Any], again: Callable[[Any], Any]) -> Any:
    held = {name: again(value) for name, value in spec.arguments.items()}
    new = {name: value for name, value in held.items() if not _same(value, spec.arguments[name])} | dict(mine)
    return spec.again(**new) if new else slot


def _same(one: Any, other: Any) -> bool:
    if type(one) is tuple and type(other) is tuple:
        return len(one) == len(other) and all(map(_same, one, other))
    return one is other


def _hints(make: Callable[..., Any]) -> dict[str, Any]:
    with contextlib.suppress(NameError, TypeError, AttributeError):  # of other packages, perhaps not to be resolved
        return get_type_hints(make, include_extras=True)
    return {}


def _flat(hint: Any) -> Iterator[Any]:
    """A type, and those that it joins or annotates."""
    yield hint
    for inner in get_args(hint) if get_origin(hint) in JOINED else getattr(hint, "__metadata__", ()):
        yield from _flat(inner)
    if hasattr(hint, "__metadata__"):
        yield from _flat(hint.__origin__)


def _bounds(hint: Any) -> Bounds | None:
    return next((found for found in _flat(hint) if isinstance(found, Bounds)), None)


def _kinds(value: Any, hint: Any) -> tuple[type, ...]:
    """What a parameter may be, where it is a number; nothing where it is not."""
    flat = list(_flat(hint))
    said = tuple(kind for kind in (*KINDS, NoneType) if any(kind is one for one in flat))
    said = tuple(kind for kind in said if kind is not bool or float not in said)  # arrays may be of truths, too
    if value is None:
        return said if set(said) & set(KINDS) else ()
    if not isinstance(value, KINDS):
        return ()
    return said if type(value) in said or float in said else (type(value),)
