"""Alpha that is used at its proximal point, one operation on few edges: the relaxation of NASP.

Where in the river: the first arrow. Knows a space's edges, masks and names of operations; no images, weights or losses.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxnas.spaces.space import CellGates, Gates, Space
from jaxnas.spec import Count, specified
from jaxnas.strategies.relaxation import Alpha, Relaxation, best_edges, open_edges, softmax

FAINT = 1e-20  # a gate that adds nothing to a sum in float32 and yet is not 0


@specified
def binary(kept: Count | None = 2, *, never: tuple[str, ...] = ("none",), start: float = 0.5) -> Relaxation:
    """The proximal point of NASP: the best operation of the best edges, wholly; alpha moves as if it were the gates.

        gates = prox(alpha),    prox(alpha)_eo = [o = argmax alpha_e] [e among the `kept` best edges of its node],
        dL/dalpha := dL/dgates

    An edge is as good as its best operation; the first wins at ties. Gates that are not 1 are `FAINT` instead of 0, so
    that a mixing which leaves out what is closed (`opened`) computes them where alpha needs their gradients. Mean gates
    are softmax(alpha), by which the official code decodes.

    Args:
      kept: edges into each node that are open; all for None.
      never: operations that are never chosen. With all nodes at `none` no gradient would ever flow.
      start: alpha at the beginning.

    Reference: Yao et al. 2020, arXiv:1905.13577, algorithm 2; xujinfan/NASP-codes `codes/model_search.py`.
    """

    def init(key: Array, space: Space) -> Alpha:
        del key
        return {c: jnp.full((len(space.edges), len(space.ops)), start) for c in space.cells}

    def prox(alpha: Array, space: Space, cell: str) -> Array:
        allowed = jnp.asarray(space.mask(cell) & ~np.isin(space.op_names, never))
        score = jnp.where(allowed, alpha, -jnp.inf)
        best = best_edges(score.max(-1), space, len(space.edges) if kept is None else kept)[:, None] & allowed
        chosen = jax.nn.one_hot(score.argmax(-1), alpha.shape[1], dtype=bool)
        faint = jnp.where(jnp.asarray(space.mask(cell)), jnp.asarray(FAINT, alpha.dtype), 0)
        return jnp.where(best & chosen, 1, faint)

    def sample(key: Array, alpha: Alpha, space: Space, step: Array) -> CellGates:
        del key, step
        slope = lambda a: a - lax.stop_gradient(a)  # 0, with slope 1
        return {c: Gates(prox(a, space, c) + slope(a), open_edges(a)) for c, a in alpha.items()}

    return Relaxation(init, sample, softmax().mean)
