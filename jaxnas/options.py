"""Numbers and texts that a person gives: refused at once, by the name of the option, where they cannot be meant.

Where in the river: behind the shore. Knows bounds; no name of a strategy, no data.
"""

import math
from numbers import Integral, Real
from typing import Any, NamedTuple


class Bounds(NamedTuple):
    """What an option may be."""

    least: float
    most: float
    whole: bool = True
    open: bool = False  # the least itself is too little
    below: bool = False  # the most itself is too much


SEEDS = 2**32  # JAX gives larger seeds the key of their remainder
BOUNDS: dict[str, Bounds] = {
    "epochs": Bounds(1, 10**6),
    "batch": Bounds(1, 10**6),
    "channels": Bounds(1, 10**4),
    "depth": Bounds(1, 500),
    "classes": Bounds(2, 10**6),
    "side": Bounds(1, 10**4),
    "seed": Bounds(0, SEEDS - 1),
    "seeds": Bounds(1, 10**4),
    "runs": Bounds(1, 10**6),
    "samples": Bounds(1, 10**6),
    "curvature": Bounds(0, 10**6),
    "evaluations": Bounds(1, 10**9),
    "alpha_rate": Bounds(0, 1000, whole=False),
    "fraction": Bounds(0, 1, whole=False, open=True),
    "valid_fraction": Bounds(0, 0.99, whole=False),
    "seconds": Bounds(0, 10**15, whole=False, open=True),
}


def refuse(**given: Any) -> None:
    """Raises a ValueError for a number out of bounds, or an empty text; what was not given (None) passes.

    Args:
      given: options by their names.
    """
    for name, value in given.items():
        option = f"--{name.replace('_', '-')}"
        if name in BOUNDS and value is not None:
            _refuse_number(option, value, BOUNDS[name])
        elif value is not None and not str(value).strip():
            raise ValueError(f"{option} {str(value)!r} is empty: name something, or leave the option out.")


def given_or(value: Any, usual: Any) -> Any:
    """What was given, also where it is 0 or empty; else what is usual."""
    return usual if value is None else value


def fits(value: Any, bounds: Bounds) -> bool:
    """Whether a value is a number of the right kind within its bounds."""
    kind = Integral if bounds.whole else Real
    if isinstance(value, bool) or not isinstance(value, kind):
        return False
    number: Any = value
    if not isinstance(number, int) and not math.isfinite(number):
        return False
    too_little = number < bounds.least or (bounds.open and number == bounds.least)
    return not too_little and not (number > bounds.most or (bounds.below and number == bounds.most))


def in_words(bounds: Bounds) -> str:
    """What an option may be: "a whole number from 1 to 500"."""
    what = "a whole number" if bounds.whole else "a number"
    most = f"{bounds.most:,}" if isinstance(bounds.most, int) else f"{bounds.most:g}"
    if bounds.below:
        return f"{what} {'above' if bounds.open else 'from'} {bounds.least:,g} and below {most}"
    ends = f"{'above' if bounds.open else 'from'} {bounds.least:,g} {'and at most' if bounds.open else 'to'}"
    return f"{what} {ends} {most}"


def _refuse_number(option: str, value: Any, bounds: Bounds) -> None:
    if not fits(value, bounds):
        raise ValueError(f"{option} {value}: give {in_words(bounds)}.")
