"""The supernet: gates -> logits, compiled small.

Where in the river: the bed between the two waists. Knows a space, its operations and the type `Mixing`; no alpha,
temperature, label or optimiser.

A network written out edge by edge is 240,000 lines of StableHLO and minutes of compilation. Here the program has one
body per *shape*, however deep the network is:

* equal edges of a cell hold their parameters stacked and are visited by one loop, in which each is computed again in
  the backward pass;
* equal cells in a row hold theirs stacked once more and are scanned too. A cell whose input is narrower than its
  neighbours' (the one behind the stem) gets zero channels on that input and zero rows in its 1x1 kernel: the value is
  the same, the gradient of these rows is zero, and every cell of the row is one program.

Deviates: normalisation keeps no running averages (see `ops.py`), so that the loss is a pure function of weights and
alpha. Only a validation accuracy reported in evaluation mode would differ.
"""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxnas.spaces.drawn import drawn_together
from jaxnas.spaces.edges import edge_run
from jaxnas.spaces.layout import Layout, default
from jaxnas.spaces.plan import Cells, EdgeRun, Place, plan
from jaxnas.spaces.space import CellGates, Gates, Space
from jaxnas.strategies.mixing import Mixing, weighted_sum

Weights = Any  # a pytree of arrays: {"stem": ..., "parts": [...], "head": ...}


class Model(NamedTuple):
    """A network as two pure functions, and a third for a look inside."""

    init: Callable[[Array], Weights]  # key -> weights
    apply: Callable[[Weights, Array, CellGates, Array, Array], Array]  # (weights, images, gates, key, step) -> logits
    states: Callable[..., list[Array]]  # the same arguments -> output of every layer of the skeleton
    layout: Layout | None = None  # how it is compiled; that of the platform unless given


def supernet(space: Space, mixing: Mixing | None = None, layout: Layout | None = None) -> Model:
    """The network that contains every architecture of a space, as pure functions.

    logits = head(cell_L(... cell_1(stem(images)))), where each edge of a cell is `gates.edges[e]` times the mixture of
    its candidates under `gates.ops[e]`, and each node is the sum of its edges.

    Args:
      space: what may be built. Images are [B, H, W, C] with [H, W, C] = `space.image`, normalised, of any float type;
        the network computes in that type.
      mixing: how an edge mixes its candidates; a weighted sum unless given.
      layout: how the program is written, for size and speed; that of the platform unless given (`layout.default`).

    Returns:
      `Model`; logits are [B, classes] in float32 at least.

    Raises:
      ValueError: when traced with images of another size than the space is built for.
    """
    mixing = mixing or weighted_sum()
    parts = plan(space)
    stem, head = space.stem(features=space.stem_channels), space.head(classes=space.classes)

    def init(key: Array) -> Weights:
        key_stem, key_head, key = jax.random.split(key, 3)
        keys = jax.random.split(key, len(parts))
        return {
            "stem": init_module(stem, key_stem, space.image),
            "parts": [_init_part(space, mixing, part, k) for part, k in zip(parts, keys, strict=True)],
            "head": init_module(head, key_head, parts[-1].result.shape(space.image)),
        }

    def forward(weights, images, gates, key, step, observe):
        check_images(space, images)
        current = stem.apply({"params": weights["stem"]}, images)
        states, seen = (current, current), []
        for part, params in zip(parts, weights["parts"], strict=True):
            how = (mixing, layout or default(), part)
            states, outs = _apply_part(space, *how, params, gates, states, key, step, observe)
            seen.append(outs)
        return head.apply({"params": weights["head"]}, states[-1]), seen

    def apply(weights, images, gates, key, step):
        return forward(weights, images, gates, key, step, lambda out: ())[0]

    def states(weights, images, gates, key, step):
        _, seen = forward(weights, images, gates, key, step, lambda out: out)
        return [out for outs in seen for out in outs]

    return Model(drawn_together(init), apply, states, layout)


def init_module(module, key: Array, *shapes: tuple[int, ...]):
    """Parameters of a flax module for inputs of the given shapes ([H, W, C] each); {} if it has none."""
    inputs = [jnp.zeros((1, *shape)) for shape in shapes]
    return module.init({"params": key, "noise": key}, *inputs).get("params", {})


def fixed_block(space: Space, part: Place):
    """The module of a fixed block, and how many of the last states it reads: 1, or 2 if it has an argument `older`."""
    block = dict(space.blocks)[part.block](features=part.result.channels, stride=part.stride)
    return block, 1 + ("older" in inspect.signature(type(block).__call__).parameters)


def check_images(space: Space, images: Array) -> None:
    """Raises ValueError for images of another size than the space is built for."""
    if images.ndim != 4 or images.shape[1:] != space.image:
        raise ValueError(
            f"images have shape {images.shape}, the space {space.name!r} is built for [batch, "
            f"{', '.join(map(str, space.image))}]: build it with image={tuple(images.shape[1:])}, or resize."
        )


# ---------------------------------------------------------------------------------------------- parameters


def _init_part(space: Space, mixing: Mixing, part, key: Array):
    if isinstance(part, Place):
        block, reads = fixed_block(space, part)
        return init_module(block, key, *(size.shape(space.image) for size in (part.source, part.previous)[:reads]))
    key_edges, key_inputs = jax.random.split(key)
    keys = jax.random.split(key_edges, len(part.runs))
    edges = [_init_run(space, mixing, part, run, k) for run, k in zip(part.runs, keys, strict=True)]
    return {"edges": edges, "inputs": init_inputs(space, part, key_inputs)}


def _init_run(space: Space, mixing: Mixing, part: Cells, run: EdgeRun, key: Array):
    """{op: parameters stacked over cells and over the edges on which it is alive, [m, n, ...]}."""
    place = part.source if run.from_inputs else part.result
    height, width, _ = place.shape(space.image)
    shape = (height, width, mixing.width(part.channels))

    def stacked(op: int, key_op: Array):
        module = space.ops[op][1](stride=run.stride)
        keys = jax.random.split(key_op, (len(part.layers), int(run.alive[:, op].sum())))
        return jax.vmap(jax.vmap(lambda k: init_module(module, k, shape)))(keys)

    return {space.ops[op][0]: stacked(op, jax.random.fold_in(key, op)) for op in run.ops}


def init_inputs(space: Space, part: Cells, key: Array, init: Callable[..., Any] = init_module):
    """What prepares the inputs of each cell; kernels padded with zero rows to the common width of the part."""

    def one(stride: int, shape: tuple[int, ...], key_one: Array):
        return init(space.preprocess(features=part.channels, stride=stride), key_one, shape)

    def stacked(places, key_all: Array):
        common = jax.eval_shape(partial(one, 1, part.common.shape(space.image)), key_all)
        keys = jax.random.split(key_all, len(places))
        params = [one(1, place.shape(space.image), k) for place, k in zip(places, keys, strict=True)]
        return jax.tree.map(lambda like, *xs: jnp.stack([pad_to(x, like.shape) for x in xs]), common, *params)

    key_first, key_current, key_next = jax.random.split(key, 3)
    inputs = {"current": stacked(part.currents, key_current)}
    if space.inputs == 2:
        inputs["first"] = one(part.reduction, part.previous.shape(space.image), key_first)
        if len(part.layers) > 1:
            inputs["next"] = stacked(part.currents[:-1], key_next)
    return inputs


def pad_to(x: Array, shape: tuple[int, ...]) -> Array:
    """Zeros behind, up to a shape."""
    return jnp.pad(x, [(0, full - side) for side, full in zip(x.shape, shape, strict=True)])


def pad_channels(x: Array, channels: int) -> Array:
    """Images with zero channels behind, up to so many."""
    return x if x.shape[-1] == channels else pad_to(x, (*x.shape[:-1], channels))


# ------------------------------------------------------------------------------------------------- forward


def _apply_part(space, mixing, layout: Layout, part, params, gates, states, key, step, observe):
    """(previous, current) -> (previous, current) through one fixed block or one row of equal cells."""
    if isinstance(part, Place):
        block, reads = fixed_block(space, part)
        out = block.apply({"params": params}, *states[::-1][:reads])
        return (states[-1], out), [observe(out)]
    cell = layout.remat(partial(_cell, space, mixing, layout, part, gates[part.cell], key, step))
    prepare = lambda p, stride, x: space.preprocess(features=part.channels, stride=stride).apply({"params": p}, x)
    row = _Row(cell, prepare, part, layout.cells or len(part.layers))
    return (_written_out if row.unroll >= len(part.layers) else _in_a_loop)(space, row, params, states, observe)


class _Row(NamedTuple):
    """Equal cells."""

    cell: Callable[..., Array]  # (parameters of its edges, prepared inputs, place in the skeleton) -> output
    prepare: Callable[..., Array]  # (parameters, stride, state) -> an input at the cells' width
    part: Cells
    unroll: int


def _written_out(space, row: _Row, params, states, observe):
    """Every cell by itself, with the rows of its inputs' kernels that are not padding."""
    (previous, current), seen = states, []
    part, inputs = row.part, params["inputs"]
    for i, layer in enumerate(part.layers):
        edges, now = jax.tree.map(lambda a, i=i: a[i], (params["edges"], inputs["current"]))
        ready = [row.prepare(_unpadded(space, part, now, i), 1, current)]
        if space.inputs == 2 and i == 0:
            ready.insert(0, row.prepare(inputs["first"], part.reduction, previous))
        elif space.inputs == 2:
            older = jax.tree.map(lambda a, i=i: a[i - 1], inputs["next"])
            ready.insert(0, row.prepare(_unpadded(space, part, older, i - 1), 1, previous))
        previous, current = current, row.cell(edges, tuple(ready), layer)
        seen.append(observe(current))
    return (previous, current), seen


def _unpadded(space, part: Cells, params, i: int):
    """Undoes `pad_to` for what prepares the newer input of the i-th cell."""
    own = partial(init_module, space.preprocess(features=part.channels, stride=1))
    like = jax.eval_shape(lambda key: own(key, part.currents[i].shape(space.image)), jax.random.key(0))
    return jax.tree.map(lambda a, like: a[tuple(map(slice, like.shape))], params, like)


def _in_a_loop(space, row: _Row, params, states, observe):
    """One body for all cells."""
    part, prepare, inputs = row.part, row.prepare, params["inputs"]
    previous, current = states
    ready = (prepare(inputs["first"], part.reduction, previous),) if space.inputs == 2 else ()

    def body(carry, xs):
        ready, _, current = carry
        edges, now, then, layer = xs
        out = row.cell(edges, (*ready, prepare(now, 1, current)), layer)
        ready = (prepare(then, 1, current),) if ready else ()
        return (ready, current, pad_channels(out, part.common.channels)), observe(out)

    # the input that the last cell would prepare for a cell behind it is not used: zero kernels stand there
    then = jax.tree.map(lambda a: jnp.concatenate([a, jnp.zeros_like(a[:1])]), inputs.get("next", {}))
    current = pad_channels(current, part.common.channels)
    xs = (params["edges"], inputs["current"], then, np.array(part.layers))
    (_, previous, current), outs = lax.scan(body, (ready, current, current), xs, unroll=row.unroll)
    width = part.result.channels
    seen = [jax.tree.map(lambda a, i=i: a[i], outs) for i in range(len(part.layers))]
    return (previous[..., :width], current[..., :width]), seen


def _cell(space, mixing, layout, part: Cells, gates: Gates, key, step, params, inputs, layer) -> Array:
    """Prepared inputs -> the concatenated outputs of one cell."""
    visit = partial(edge_run, space, mixing, layout, gates, jax.random.fold_in(key, layer), step)
    batch, *_ = inputs[0].shape
    empty = jax.ShapeDtypeStruct((batch, *part.result.shape(space.image)[:2], part.channels), inputs[0].dtype)
    nodes: tuple[Any, ...] = (empty,) * len(space.nodes)
    for run, p in zip(part.runs, params, strict=True):
        inner = part.stride > 1 and not run.from_inputs  # these do not read the inputs, which are larger
        nodes = visit(run, p, () if inner else inputs, nodes)
    index = {node: i for i, node in enumerate(space.nodes)}
    return jnp.concatenate([nodes[index[node]] for node in space.outputs], -1)
