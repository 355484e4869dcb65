"""Random numbers of equal shapes drawn together: a program with few loops, and the same bits.

Where in the river: around the first weights of a network. Knows jaxprs and keys; no layer, no shape of its own.

Flax derives a key for every parameter and draws it alone. The generator is a loop, so the program that draws the
weights of a supernet holds some 200 loops, each of 200 lines when compiled. Nearly all of these draws have the shape of
another one and do not wait for it. So they are one draw for many keys, by `vmap`, which gives the bits that each key
gives alone; what is made of them is the same to rounding.
"""

from collections.abc import Callable, Hashable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.extend.core import Jaxpr, JaxprEqn

from jaxnas.spaces.turns import in_turns

DRAWS = ("random_bits", "random_fold_in", "random_split")  # names of primitives
CALLS = ("jit", "pjit")


def drawn_together(init: Callable) -> Callable:
    """The function with its draws of equal shapes made together; the bits stay, for keys of `threefry`, JAX's default.

    Args:
      init: key -> arrays.
    """
    return in_turns(init, _kind, _together)


def _kind(eqn: JaxprEqn) -> Hashable:
    """A draw, or a call of one traced function that holds one (`jax.random.uniform`), and its shapes.

    JAX traces a function once for each shape; another one of the same text may have other constants in it.
    """
    if len(eqn.outvars) != 1 or not _draws(eqn):
        return None
    inside = id(eqn.params["jaxpr"]) if "jaxpr" in eqn.params else str(sorted(eqn.params.items()))
    return eqn.primitive, inside, *(str(atom.aval) for atom in eqn.invars)


def _draws(eqn: JaxprEqn) -> bool:
    return eqn.primitive.name in DRAWS or (eqn.primitive.name in CALLS and _holds(eqn.params["jaxpr"].jaxpr))


def _holds(jaxpr: Jaxpr) -> bool:
    return any(map(_draws, jaxpr.eqns))


def _together(eqns: Sequence[JaxprEqn], reads: Sequence[Sequence[Array]]) -> Sequence[Array]:
    draw = lambda *args: eqns[0].primitive.bind(*args, **eqns[0].params)
    call = (lambda *args: draw(*args)[0]) if eqns[0].primitive.multiple_results else draw
    return jax.vmap(call)(*map(_stacked, zip(*reads, strict=True)))


def _stacked(args: Sequence[Array]) -> Array | np.ndarray:
    """On the host where all are known there: bounds of a distribution, numbers that are folded into keys."""
    return jnp.stack(args) if any(isinstance(a, Array) for a in args) else np.stack(args)
