"""What a slot was made by: its constructor and the arguments, kept beside what came out.

Where in the river: under every arrow. Knows functions, and records of functions; nothing of what they compute. So a
strategy tells its numbers, and is made again with others, without anybody reading closures.
"""

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Annotated, Any, NamedTuple, TypeVar

from jaxnas.options import Bounds

Make = TypeVar("Make", bound=Callable[..., Any])
Share = Annotated[float, Bounds(0, 1, whole=False)]  # of a whole
Decay = Annotated[float, Bounds(0, 1, whole=False, below=True)]  # of a running mean: the share that stays
Positive = Annotated[float, Bounds(0, 10**6, whole=False, open=True)]
Count = Annotated[int, Bounds(1, 10**9)]  # at least one
Rate = Annotated[Callable[[Any], Any], Bounds(0, 1, whole=False, below=True)]  # step -> probability
Temperature = Annotated[Callable[[Any], Any], Bounds(0, 10**6, whole=False, open=True)]  # step -> above 0
BEARERS = ("sample", "mix", "indirect", "step", "update")  # the function of a record that makes it what it is


class Spec(NamedTuple):
    """A constructor and its arguments."""

    make: Callable[..., Any]
    arguments: Mapping[str, Any]  # by parameter; what was not given is at its default

    def again(self, **changes: Any) -> Any:
        """What the constructor makes of other arguments.

        Args:
          changes: by parameter.
        """
        bound = inspect.signature(self.make).bind_partial()
        bound.arguments.update({**self.arguments, **changes})
        return made(self.make, *bound.args, **bound.kwargs)


def made(make: Callable[..., Any], *args: Any, **options: Any) -> Any:
    """What a constructor makes, with its spec: for constructors of other packages.

    Args:
      make: gives a function of its own at each call, or a record of such.
      args, options: its arguments.
    """
    slot = make(*args, **options)
    bound = inspect.signature(make).bind(*args, **options)
    bound.apply_defaults()
    bearer(slot).spec = Spec(make, dict(bound.arguments))  # type: ignore[attr-defined]
    return slot


def specified(make: Make) -> Make:
    """A constructor whose results carry their spec: a decorator.

    Args:
      make: as for `made`.
    """

    @wraps(make)
    def constructor(*args: Any, **options: Any) -> Any:
        slot = made(make, *args, **options)
        bearer(slot).spec = bearer(slot).spec._replace(make=constructor)  # type: ignore[attr-defined]
        return slot

    return constructor  # type: ignore[return-value]


def bearer(slot: Any) -> Callable[..., Any]:
    """The function that carries the spec of a slot: the slot itself, or the one that makes a record what it is.

    Args:
      slot: a function, or a record of functions.
    """
    return next((getattr(slot, name) for name in BEARERS if hasattr(slot, name)), slot)


def spec_of(slot: Any) -> Spec | None:
    """How a slot was made; None where it does not say.

    Args:
      slot: anything.

    >>> from jaxnas.strategies.mixing import partial_channels
    >>> spec_of(partial_channels(4)).arguments["divisor"]
    4
    """
    found = getattr(bearer(slot), "spec", None)
    return found if isinstance(found, Spec) else None
