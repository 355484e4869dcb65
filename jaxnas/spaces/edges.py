"""The edges of a cell: prepared inputs -> nodes, each edge a mixture of its candidates.

Where in the river: gates -> logits, inside one cell of `networks.py`. Knows gates, operations and the type `Mixing`; no
skeleton, no alpha.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxnas.spaces.bilinear import is_beside
from jaxnas.spaces.gate import scaled
from jaxnas.spaces.layout import Layout, States
from jaxnas.spaces.norm import takes_gate
from jaxnas.spaces.plan import EdgeRun
from jaxnas.spaces.space import Gates, Space
from jaxnas.strategies.mixing import Mixing, Op
from jaxnas.wanted import wanted, weights_wanted


def edge_run(
    space: Space,
    mixing: Mixing,
    layout: Layout,
    gates: Gates,
    key: Array,
    step: Array,
    run: EdgeRun,
    params: Mapping[str, Any],
    inputs: States,
    nodes: States,
) -> States:
    """Adds the output of every edge of a run to its target.

    Args:
      space, mixing, layout: what there is, how an edge mixes it, how edges are visited.
      gates: of this type of cell, [E, O] and [E].
      key: of this place and pass.
      step: number of the step, [].
      run: which edges.
      params: {operation: parameters [n, ...], a row for each edge on which it lives}.
      inputs: prepared inputs of the cell, [B, H, W, C] each; none where the edges do not read them.
      nodes: what has been added to each node so far, or its shape.

    Returns:
      The nodes.
    """
    rows, columns = np.array(run.edges), np.array(run.ops)
    source, target = np.array([space.edges[e] for e in run.edges]).T - (space.inputs - len(inputs))
    keys = jax.vmap(partial(jax.random.fold_in, key))(rows)
    step, *flag = (jnp.broadcast_to(x, rows.shape) for x in (step, *wanted()))
    fixed = (run.alive[:, columns], keys, step, flag)
    own = jax.tree.map(partial(_rows if layout.one_pass else _pieces, rows), gates)
    ops = own.ops if len(columns) == len(space.ops) else own.ops[:, columns]
    differs = (_spread(params, space, run), ops, own.edges)
    edges = lambda which: partial(_edge, space, mixing, run, which)
    return layout.edges(edges, fixed, differs, source, target, inputs, nodes)


def _rows(rows: np.ndarray, a: Array) -> Array:
    return a[rows]


def _pieces(rows: np.ndarray, a: Array) -> Array:
    """The same rows, whose gradient is a concatenation and not a scatter."""
    pieces = lax.split(a, [1] * len(a))
    return jnp.concatenate([pieces[row] for row in rows])


def _spread(params, space: Space, run: EdgeRun):
    """Parameters of the living candidates -> one row per edge (dead ones borrow row 0, which is never used)."""

    def one(op: int, p):
        alive = run.alive[:, op]
        rows = np.where(alive, np.cumsum(alive) - 1, 0)
        return p if alive.all() else jax.tree.map(lambda a: a[rows], p)

    return {space.ops[op][0]: one(op, params[space.ops[op][0]]) for op in run.ops}


def _edge(space, mixing, run: EdgeRun, which: slice | np.ndarray, fixed, differs, x: Array) -> Array:
    """One of some edges of a run: its gate times the mixture of the candidates that live on any of them."""
    alive, key, step, flag = fixed
    params, gate_ops, gate = differs
    living = run.alive[which][:, run.ops]
    columns = np.flatnonzero(living.any(0)).tolist()

    def pure(column: int) -> Op:
        name, factory = space.ops[run.ops[column]]
        module = factory(stride=run.stride)
        apply = _gated(module, params[name], key)
        return apply if living[:, column].all() else _unless_dead(apply, alive[column])

    ops = {space.op_names[run.ops[column]]: pure(column) for column in columns}
    gate_ops = gate_ops if len(columns) == len(run.ops) else gate_ops[np.array(columns)]
    with weights_wanted(*flag):
        y = (mixing.mix_all if is_beside() else mixing.mix)(ops, gate_ops, x, key, step)
    return scaled(y, gate, apart=True)


def _gated(module, params, key: Array) -> Op:
    """One candidate as a function of its input and its gate."""
    apply = partial(module.apply, {"params": params}, rngs={"noise": key})
    return apply if takes_gate(module) else lambda x, gate: scaled(apply(x), gate)


def _unless_dead(apply: Op, alive: Array) -> Op:
    """Runs a candidate where its mask lets it, else gives zeros; side by side, all run and dead ones are closed."""

    def masked(x: Array, gate: Array) -> Array:
        if is_beside():
            return apply(x, jnp.where(alive, gate, 0))
        shape = jax.eval_shape(apply, x, gate)
        return lax.cond(alive, jax.checkpoint(apply), lambda x, gate: jnp.zeros(shape.shape, shape.dtype), x, gate)

    return masked
