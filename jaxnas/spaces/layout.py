"""How a supernet is written down for the compiler: choices that change its size and speed, and no number.

Where in the river: inside `networks.py`. Knows that edges read states and add to states; no operation, gate or alpha.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxnas.spaces.bilinear import accelerated
from jaxnas.spaces.lockstep import in_lockstep

# (its mask, key and step; its parameters and gates; input [B, H, W, C]) -> output of one edge
Edge = Callable[[Any, Any, Array], Array]
Edges = Callable[[slice | np.ndarray], Edge]  # places of some edges in their run -> any of them
States = tuple[Array, ...]  # [B, H, W, C] each
# Adds the output of every edge of a run to its target: (some edges of the run -> one of them; what edges differ in,
# twice: without gradients, masks [n, O] first, and with; source [n]; target [n]; the S states that are complete; the
# nodes: what has been added to each, or its shape where that is nothing) -> nodes. Sources and targets are numbered
# with the complete states first. Edges come in an order in which a state is complete before it is read. Where the
# complete states are larger than the nodes, edges read only these
Visit = Callable[[Edges, Any, Any, np.ndarray, np.ndarray, States, States], States]
# the same for states in arrays: (..., inputs [S, B, H, W, C] or None where edges read the states themselves,
# states [N, B, h, w, C]) -> states
Loop = Callable[[Edge, Any, Any, np.ndarray, np.ndarray, Array | None, Array], Array]

PRODUCTS = frozenset(
    {"dot_general", "conv_general_dilated", "pointwise_convolve", "depthwise_convolve", "dense_convolve"}
)  # names of primitives


def recomputed(unroll: int = 1) -> Visit:
    """Edges one after another in one loop, each computed again in the backward pass: needs the least memory.

        d states[t] += d edge(row, states[s])    where the states on the right are the complete ones, for edges s -> t

    The complete states are all that the backward pass needs besides parameters and gates, once for all edges that read
    them; a loop of rematerialised edges (`scanned`) keeps a copy of its input for each edge.

    Args:
      unroll: edges written out in the body of the loop; as many as a cell has gives no loop at all.
    """
    return _in_arrays("recomputed", partial(_recomputed, unroll))


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _recomputed(unroll: int, edge: Edge, fixed, rows, source, target, inputs: Array | None, states: Array) -> Array:
    return _scanned(unroll, kept, edge, fixed, rows, source, target, inputs, states)


@_recomputed.defjvp
def _recomputed_jvp(unroll: int, edge: Edge, primals, tangents):
    """Tangents of the states: a loop that reads the complete states, so that nothing else needs to be stored.

    Differentiated forward once more, the states themselves and their tangents are one loop (`scanned`).
    """
    fixed, rows, source, target, inputs, _ = primals
    _, drows, _, _, dinputs, dstates = tangents
    states = _scanned(unroll, jax.checkpoint, edge, *primals)
    read = states if inputs is None else inputs

    @jax.checkpoint
    def slope(fix, row, s, read, drow, dx):
        return jax.jvp(partial(edge, fix), (row, read[s]), (drow, dx))[1]

    def body(dstates, item):
        fix, row, drow, s, t = item
        dx = (dstates if inputs is None else dinputs)[s]
        return dstates.at[t].add(slope(fix, row, s, read, drow, dx)), None

    return states, lax.scan(body, dstates, (fixed, rows, drows, source, target), unroll=unroll)[0]


def scanned(unroll: int = 1, remat: Callable[[Edge], Edge] = jax.checkpoint) -> Visit:
    """Edges one after another in one loop: the program holds `unroll` edges however many there are.

    Args:
      unroll: edges written out in the body of the loop.
      remat: what wraps one edge: `jax.checkpoint` (computed again in the backward pass), `products_kept`,
        `partial(jax.checkpoint, policy=...)` (other parts of it kept), or `kept` (everything kept).
    """

    return _in_arrays("scanned", partial(_scanned, unroll, remat))


def _scanned(unroll: int, remat, edge: Edge, fixed, rows, source, target, inputs: Array | None, states: Array) -> Array:
    def body(states, item):
        fix, row, s, t = item
        x = (states if inputs is None else inputs)[s]
        return states.at[t].add(remat(edge)(fix, row, x)), None

    return lax.scan(body, states, (fixed, rows, source, target), unroll=unroll)[0]


def _in_arrays(name: str, loop: Loop) -> Visit:
    """A loop over states in arrays, as a visit of that name."""

    def visit(edges: Edges, fixed, rows, source, target, complete: States, nodes: States) -> States:
        edge = edges(slice(None))
        first, empty = len(complete), isinstance(nodes[0], jax.ShapeDtypeStruct)
        states = jnp.zeros((len(nodes), *nodes[0].shape), nodes[0].dtype) if empty else jnp.stack(nodes)
        read = jnp.stack(complete) if complete else states[:0]
        if read.shape[1:] == states.shape[1:]:
            return tuple(loop(edge, fixed, rows, source, target, None, jnp.concatenate([read, states]))[first:])
        return tuple(loop(edge, fixed, rows, source, target - first, read, states))

    visit.__name__ = name
    return visit


def fanned(remat: Callable[[Edge], Edge] = jax.checkpoint) -> Visit:
    """All edges into a node at once, by `vmap`: fewer and larger kernels, one program for each number of inputs.

    Under `vmap` an operation that a mask or a sample switches off is computed all the same and then not selected.

    Args:
      remat: what wraps one edge, as for `scanned`.
    """

    def loop(edge: Edge, fixed, rows, source, target, inputs: Array | None, states: Array) -> Array:
        for node in np.unique(target):
            into = np.flatnonzero(target == node)
            x = (states if inputs is None else inputs)[source[into]]
            fix, row = jax.tree.map(lambda a, into=into: a[into], (fixed, rows))
            states = states.at[node].add(jax.vmap(remat(edge))(fix, row, x).sum(0))
        return states

    return _in_arrays("fanned", loop)


def side_by_side(remat: Callable[[Edge], Edge] | None = None) -> Visit:
    """All edges whose sources are complete at once, as channels of one image: the fewest and largest kernels.

    The edges of a DARTS cell are four groups: 8 that read its inputs, then 3, 2 and 1. A group is `vmap` over images
    [B, H, W, n, C], where the primitives under the operations take n C channels as one image (`bilinear.py`). All
    candidates are computed: one whose gate is 0, or that is dead on some edges of a group only, must be finite there.
    Where masks leave each edge few of the candidates of its group, edges with the same ones are a group by themselves.

    Args:
      remat: what wraps a group, as for `scanned`; `kept` unless given.
    """
    wrap = remat or kept

    def visit(edges: Edges, fixed, rows, source, target, complete: States, nodes: States) -> States:
        states: list = [*complete, *nodes]
        separate = bool(complete) and complete[0].shape != nodes[0].shape
        groups = _groups(source, target, separate)
        for group in (part for whole in groups for part in _alike(fixed[0], whole)):
            together = wrap(in_lockstep(jax.vmap(edges(group), in_axes=(0, 0, 3), out_axes=3)))
            fix, row = jax.tree.map(lambda a, group=group: a[group], (fixed, rows))
            y = together(fix, row, jnp.stack([states[s] for s in source[group]], 3))
            for new, t in zip(lax.split(y, [1] * y.shape[3], 3), target[group], strict=True):
                new = new.squeeze(3)
                states[t] = new if isinstance(states[t], jax.ShapeDtypeStruct) else states[t] + new
        return tuple(states[len(complete) :])

    visit.__name__ = "side_by_side"
    return visit


def _groups(source: np.ndarray, target: np.ndarray, separate: bool) -> list[slice]:
    """Runs of edges, each of which reads only states that the runs before it complete."""
    bounds = [0]
    for e in range(len(source)):
        if not separate and source[e] in target[bounds[-1] :]:
            bounds.append(e)
    return [slice(*pair) for pair in zip(bounds, [*bounds[1:], len(source)], strict=True)]


def _alike(alive: np.ndarray, group: slice) -> list[slice | np.ndarray]:
    """A group, or its edges by what lives on them, where that launches at most twice as many candidates."""
    patterns, which = np.unique(alive[group], axis=0, return_inverse=True)
    if len(patterns) == 1 or patterns.sum() > 2 * patterns.any(0).sum():
        return [group]
    return [group.start + np.flatnonzero(which.reshape(-1) == i) for i in range(len(patterns))]


def kept(edge: Edge) -> Edge:
    """Keeps every intermediate result for the backward pass.

    Args:
      edge: what computes an edge.
    """
    return edge


def computed_again(function: Callable) -> Callable:
    """Keeps only what the function reads, and computes the rest again in the backward pass: `jax.checkpoint`.

    Args:
      function: what computes an edge or a cell.
    """
    return jax.checkpoint(function)


def products_kept(edge: Edge) -> Edge:
    """Keeps the results of convolutions and matrix products for the backward pass, and computes the rest again.

    JAX's own `dots_saveable` knows no convolution, and not the 1x1 ones that are primitives here.

    Args:
      edge: what computes an edge.
    """
    return jax.checkpoint(edge, policy=lambda primitive, *_, **options: primitive.name in PRODUCTS)


class Layout(NamedTuple):
    """Choices that change no number; BUILD.md has a table of those for CPU, and one of those for GPU and TPU.

    Attributes:
      edges: how the edges of a cell are visited: `recomputed`, `scanned`, `fanned` or `side_by_side`.
      cells: cells of a row that are written out in the body of the loop over them; 0 for all of them, without a loop.
      one_pass: whether the passes of a search step are one program in a loop, or each is written out.
      remat: what wraps a cell: `kept` or `jax.checkpoint`.
    """

    edges: Visit = recomputed()
    cells: int = 1
    one_pass: bool = True
    remat: Callable[[Callable], Callable] = kept


def described(layout: Layout) -> dict[str, Any]:
    """A layout as plain data, functions by their names, for the record of a run.

    Args:
      layout: which.
    """
    name = lambda function: getattr(function, "__name__", type(function).__name__)
    return {**layout._asdict(), "edges": name(layout.edges), "remat": name(layout.remat)}


def for_accelerators(remat: Callable[[Callable], Callable] = kept) -> Layout:
    """Few and large kernels: edges side by side, cells and passes written out.

    Args:
      remat: `kept`, or `jax.checkpoint` where memory is short: each cell is computed again in the backward pass.
    """
    return Layout(side_by_side(), 0, False, remat)


def choices() -> tuple[Layout, ...]:
    """Layouts for the platform that JAX computes on unless told otherwise, from what keeps most to what keeps least."""
    on_cpu = jax.default_backend() == "cpu" and not accelerated()
    return (Layout(),) if on_cpu else (for_accelerators(), for_accelerators(computed_again), Layout())


def default() -> Layout:
    """The first of `choices`."""
    return choices()[0]
