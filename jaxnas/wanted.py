"""Whether a pass needs the gradient of the weights, where only the running program knows.

Where in the river: beside it. Set by who differentiates (`bilevel.py`), read by products whose second factor is a
weight (`spaces/bilinear.py`). Knows nothing else.

All moves of a step are one compiled pass (see `bilevel.py`), and that of alpha needs no gradient of the weights in
first order: a third of the work of its backward pass. JAX leaves out what nobody reads when it traces, which here is
too early. So the pass is traced under a flag, an array, and each product leaves its kernel's gradient out where that is
false. Whoever sets it must not read them there: on one CPU device they are zeros then, elsewhere they are computed all
the same.
"""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

from jax import Array

_flag: ContextVar[tuple[Array, ...]] = ContextVar("wanted", default=())


@contextlib.contextmanager
def weights_wanted(*flag: Array) -> Iterator[None]:
    """What is traced inside computes gradients of weights if a flag is true; without one, always.

    Args:
      flag: [] bool, or nothing.
    """
    token = _flag.set(flag)
    try:
        yield
    finally:
        _flag.reset(token)


def wanted() -> tuple[Array, ...]:
    """The flag that is in force, as a tuple of one; () where gradients of weights are always wanted.

    A function that JAX differentiates by a rule of its own may not see arrays from outside: it has to be given the
    flag as an argument, and to set it anew inside.
    """
    return _flag.get()
