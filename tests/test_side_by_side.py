"""The layout for accelerators changes no number: of any mixing, mask, space, module, hypergradient, or of seeds."""

from collections import Counter
from functools import cache, partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from draws import normal_like, two_cells
from jax.interpreters import partial_eval as pe

from jaxnas import seeds
from jaxnas.data import Batch
from jaxnas.hypergradient import Batches, finite_difference, first_order, neumann, through, unrolled
from jaxnas.search import SearchState, bind
from jaxnas.spaces import layout, ops
from jaxnas.spaces.bilinear import in_accelerator_forms
from jaxnas.spaces.darts import FINAL, SEARCHED, darts
from jaxnas.spaces.layout import Layout, for_accelerators
from jaxnas.spaces.nas_bench_201 import nas_bench_201
from jaxnas.spaces.nasnet import fixed_reduction
from jaxnas.spaces.nasnet import nasnet as nasnet_space
from jaxnas.spaces.networks import supernet
from jaxnas.spaces.space import Gates, Layer, dag
from jaxnas.strategies import mixing
from jaxnas.strategies.algorithms import darts as darts_row

SMALL = {"edges": dag(inputs=2, nodes=2), "outputs": (2, 3)}


def _space(*names, channels=2, image=(8, 8, 3), known=SEARCHED):
    """The DARTS space with a reduction cell of two nodes and these candidates; pairs are a user's own."""
    known = dict(known)
    candidates = tuple((name, known[name]) if isinstance(name, str) else name for name in names)
    one = {"cells": ("reduce",), "skeleton": (Layer("reduce", 2 * channels, 2),)}
    return darts(channels, 3, 4, image=image).replace(ops=candidates, **SMALL, **one)


def _both(space):
    """The same with a normal cell too."""
    return two_cells(space.replace(cells=("normal", "reduce")))


class Plain(nn.Module):
    """A user's candidate without a gate, with biases, and parts that mix all channels and pixels."""

    stride: int

    @nn.compact
    def __call__(self, x):
        dense = partial(nn.Dense, x.shape[-1], param_dtype=x.dtype)
        x = nn.gelu(dense(name="mix")(x[:, :: self.stride, :: self.stride]))
        return x * nn.sigmoid(dense(name="gate")(x.mean((1, 2), keepdims=True)))


class Biased(nn.Module):
    """A convolution with a bias that no norm follows."""

    stride: int

    @nn.compact
    def __call__(self, x):
        return ops.Conv(x.shape[-1], (3, 3), (self.stride,) * 2, bias=True)(nn.relu(x))


class Nested(nn.Module):
    """Parts that flax compiles and computes again by itself."""

    stride: int

    @nn.compact
    def __call__(self, x):
        x = nn.remat(ops.SepConv)(self.stride, name="again")(x)
        return nn.jit(ops.DilConv)(1, name="compiled")(x)


def _masked(space, dead):
    """Dead candidates by (cell type, edge or all edges, candidate)."""
    masks = {cell: space.mask(cell).copy() for cell in space.cells}
    for cell, edge, op in dead:
        masks[cell][edge, op] = False
    return space.with_alive(masks)


def _two_of(space):
    """As S1: two candidates on each edge, others on each."""
    rng, shape = np.random.default_rng(0), (len(space.edges), len(space.ops))
    return space.with_alive({cell: rng.random(shape).argsort(-1) < 2 for cell in space.cells})


FEW = _space("none", "skip_connect", "max_pool_3x3", "sep_conv_3x3")
CONVOLUTIONS = _space("skip_connect", "sep_conv_3x3", "dil_conv_5x5")
WIDE = _space("skip_connect", "dil_conv_3x3", channels=4)
ALL = slice(None)
NASNET = nasnet_space(4, 1, 4, image=(8, 8, 3)).replace(
    ops=tuple(op for op in nasnet_space().ops if op[0] in ("skip_connect", "dil_sepc_3x3", "avg_pool_3x3")), **SMALL
)
half, partly = (lambda step: 0.5), partial(mixing.partial_channels, 2)
CASES = {  # (space, mixing, kind of gates)
    "weighted sum": (FEW, mixing.weighted_sum(), "soft"),
    "sampled": (FEW, mixing.sampled(), "one-hot"),
    "broadcast": (CONVOLUTIONS, mixing.broadcast(), "one-hot"),
    "opened": (CONVOLUTIONS, mixing.opened(), "some zero"),
    "partial channels": (WIDE, partly(), "soft"),
    "partial channels, random": (WIDE, partly(part=mixing.random_part), "soft"),
    "partial channels, in turn, one of them": (WIDE, partly(mixing.sampled(), mixing.rotating_part), "one-hot"),
    "dropped skip": (CONVOLUTIONS, mixing.dropped_skip(half), "soft"),
    "dropped path": (CONVOLUTIONS, mixing.dropped_path(half), "soft"),
    "dropped path of partial channels": (WIDE, mixing.dropped_path(half, partly(mixing.opened())), "some zero"),
    "some dead": (_masked(FEW, [("reduce", 0, 3), ("reduce", 4, 2), ("reduce", 1, 1)]), mixing.weighted_sum(), "soft"),
    "dead everywhere": (
        _masked(_both(FEW), [("normal", ALL, 3), ("reduce", ALL, 0)]),
        mixing.weighted_sum(),
        "soft",
    ),
    "two on each edge": (_two_of(FEW), mixing.weighted_sum(), "soft"),
    "two on each edge, one of them": (_two_of(FEW), mixing.sampled(), "one-hot"),
    "equal cells in a row": (
        _both(FEW).replace(skeleton=(Layer("normal", 2), Layer("normal", 2), *FEW.skeleton, Layer("reduce", 4))),
        mixing.weighted_sum(),
        "soft",
    ),
    "one input": (
        nas_bench_201(2, 1, 3, image=(8, 8, 3)).replace(skeleton=(Layer("cell", 2), Layer("cell", 2))),
        mixing.weighted_sum(),
        "soft",
    ),
    "biases and pools without norms": (NASNET, mixing.weighted_sum(), "soft"),
    "a fixed reduction": (fixed_reduction(NASNET), mixing.weighted_sum(), "soft"),
    "affine norms": (
        _space("skip_connect", "sep_conv_3x3", ("pool", ops.normalized(ops.MaxPool, True)), known=FINAL),
        mixing.weighted_sum(),
        "soft",
    ),
    "dense convolutions": (_space("skip_connect", "conv_3x1_1x3", known=FINAL), mixing.weighted_sum(), "soft"),
    "a user's own": (_space("skip_connect", ("own", Plain), ("biased", Biased)), mixing.weighted_sum(), "soft"),
    "a user's own, dead on an edge": (
        _masked(_space("skip_connect", ("own", Plain)), [("reduce", 1, 1), ("reduce", 2, 1)]),
        mixing.weighted_sum(),
        "soft",
    ),
    "nested modules": (_space("skip_connect", ("nested", Nested)), mixing.weighted_sum(), "soft"),
    "images of 1 by 3 pixels in the end": (
        _space("max_pool_3x3", "dil_conv_5x5", image=(4, 12, 1)),
        mixing.weighted_sum(),
        "soft",
    ),
    "noise": (_space("sep_conv_3x3", ("noise", ops.Noise)), mixing.weighted_sum(), "soft"),
}
AGAIN = ("sampled", "dropped path of partial channels", "two on each edge", "one input", "nested modules")
LAYOUTS = {"kept": for_accelerators(), "computed again": for_accelerators(jax.checkpoint)}


def _close(actual, expected, rtol=1e-9):
    jax.tree.map(partial(np.testing.assert_allclose, rtol=rtol, atol=1e-10), actual, expected)


def _gates(space, kind):
    rng = np.random.default_rng(1)

    def of(cell):
        table = rng.uniform(0.1, 1, (len(space.edges), len(space.ops))) * space.mask(cell)
        if kind == "one-hot":
            table = table * (table == table.max(-1, keepdims=True))
        if kind == "some zero":
            table = np.where(table < np.median(table), 0, table)
        return Gates(jnp.asarray(table), jnp.asarray(rng.uniform(0.5, 1, len(space.edges))))

    return {cell: of(cell) for cell in space.cells}


def _images(space, *lead):
    return jnp.asarray(np.random.default_rng(2).standard_normal((*lead, 4, *space.image)))


def _slopes(name, layout):
    """Loss and its gradients by weights, gates and images."""
    space, mixed, kind = CASES[name]
    net = supernet(space, mixed, layout)

    def loss(weights, gates, images):
        logits = net.apply(weights, images, gates, jax.random.key(3), jnp.int32(1))
        return jnp.square(jnp.sin(logits)).mean()

    weights = normal_like(jax.eval_shape(net.init, jax.random.key(0)))
    return jax.jit(jax.value_and_grad(loss, (0, 1, 2)))(weights, _gates(space, kind), _images(space))


@cache
def _expected(name):
    return _slopes(name, Layout())


EACH = [
    pytest.param(name, layout, marks=[pytest.mark.slow] * (layout != "kept" and name not in AGAIN))
    for name in CASES
    for layout in LAYOUTS
]


@pytest.mark.parametrize(("name", "layout"), EACH)
def test_loss_and_gradients_are_those_of_the_loops(name, layout, x64):
    _close(_slopes(name, LAYOUTS[layout]), _expected(name))
    assert all(np.abs(g.ops).max() > 1e-8 for g in _expected(name)[1][1].values())


@pytest.mark.smoke
@pytest.mark.parametrize("name", ("sampled", "dropped path of partial channels", "nested modules"))
def test_the_forms_for_accelerators_too(name, x64):
    """Which give every layout unless told otherwise."""
    expected = _expected(name)
    jax.clear_caches()
    with in_accelerator_forms():
        found = _slopes(name, None)
    jax.clear_caches()
    _close(found, expected)


def test_the_default_is_that_of_the_platform():
    assert layout.default() == Layout()
    with in_accelerator_forms():
        assert not layout.default().one_pass and layout.default().cells == 0
        assert layout.default().remat is layout.kept
    assert layout.default() == Layout()


def test_what_is_not_chosen_must_be_finite():
    """All candidates of edges side by side are computed: one that gives NaN spoils the sum, chosen or not."""
    candidates = {"good": lambda x, gate: gate * x, "bad": lambda x, gate: gate * x / 0}
    x = jnp.ones((1, 2, 2, 1))
    for one in (mixing.sampled(), mixing.opened()):
        at = lambda mix: mix(candidates, jnp.array([0.75, 0.0]), x, None, None)
        np.testing.assert_array_equal(at(one.mix), 0.75 * x)
        assert np.isnan(at(one.mix_all)).all()


# ---------------------------------------------------------------------------------------------- whole search steps

STEP_SPACE = _space("skip_connect", "dil_conv_3x3")
LOOK = through(optax.sgd(0.1))
RULES = {
    "first order": first_order(),
    "exact second order": unrolled,
    "finite difference": finite_difference(LOOK),
    "Neumann series": neumann(1, 0.1),
}


def _search(rule, layout):
    return bind(
        darts_row(10, hypergradient=RULES[rule]),
        STEP_SPACE,
        model=lambda space, mixed: supernet(space, mixed, layout),
    )


def _state(search, seed=0):
    shapes = jax.eval_shape(search.init, jax.random.key(0)).bilevel
    weights, alpha = normal_like((shapes.weights, shapes.alpha))
    alpha = jax.tree.map(lambda a: a * (1 + seed), alpha)
    return SearchState(jax.random.key(seed), search.strategy.solver.init(weights, alpha))


def _batches(*lead):
    rng, images = np.random.default_rng(4), _images(STEP_SPACE, *lead)
    batch = lambda sign: Batch(sign * images, jnp.asarray(rng.integers(0, 4, (*lead, 4))))
    return Batches(batch(1), batch(-1))


@cache
def _stepped(rule, layout):
    search = _search(rule, layout)
    state, metrics = jax.jit(search.step)(_state(search), _batches())
    return state.bilevel, metrics


@pytest.mark.parametrize("rule", RULES)
def test_a_search_step_ends_at_the_same_state(rule, x64):
    """Passes written out against passes in a loop: weights, alpha, both optimizers and metrics."""
    found, expected = (_stepped(rule, layout) for layout in (for_accelerators(), Layout()))
    _close(found, expected)
    assert found[1]["valid"]["grad_norm"] > 1e-6


def test_seeds_under_vmap_are_separate_searches(x64):
    search = _search("first order", for_accelerators())
    states = [_state(search, seed) for seed in range(2)]
    together = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
    many, step = seeds.over_seeds(search, seeds.vmapped), jax.jit(search.step)
    batches = _batches(2)
    found, metrics = jax.jit(many.step)(together, batches)
    for i, state in enumerate(states):
        ended, same = step(state, seeds.seed(batches, i))
        _close(seeds.seed((found.bilevel, metrics), i), (ended.bilevel, same))


def _primitives(jaxpr) -> Counter:
    """How often each stands in what remains of a program when nothing is computed that nobody reads."""
    remaining, _ = pe.dce_jaxpr(jaxpr, [True] * len(jaxpr.outvars))
    found = Counter()
    for eqn in remaining.eqns:
        inner = [p.jaxpr for p in jax.tree.leaves(eqn.params) if hasattr(p, "jaxpr")]
        found += sum(map(_primitives, inner), Counter({eqn.primitive.name: 1}))
    return found


def test_the_pass_of_alpha_computes_no_gradient_of_weights():
    """In first order: as many as a single pass over the weights has."""
    search = _search("first order", for_accelerators())
    state = _state(search)
    weights, alpha = state.bilevel.weights, state.bilevel.alpha
    one = jax.grad(lambda weights: search.problem(state).inner(weights, alpha, _batches().train)[0])
    counts = (
        _primitives(jax.make_jaxpr(one)(weights).jaxpr),
        _primitives(jax.make_jaxpr(search.step)(state, _batches()).jaxpr),
    )
    for kind in ("pointwise", "depthwise", "dense"):
        passes = [count[f"{kind}_correlate"] for count in counts]
        assert passes[0] == passes[1] > 0, kind
        assert counts[1][f"{kind}_convolve"] > counts[0][f"{kind}_convolve"]


# ------------------------------------------------------------------------------------------------------- programs


def _large_transposes(text, least):
    """Transposes of at least so many numbers in a StableHLO program: their shapes."""
    lines = [line.rsplit("->", 1)[1] for line in text.splitlines() if "stablehlo.transpose" in line]
    sizes = [[int(n) for n in line.split("<")[1].split("x")[:-1]] for line in lines]
    return [size for size in sizes if np.prod(size) >= least]


@cache
def _whole_cells():
    """Loss and gradients of a normal and a reduction cell of DARTS, with all candidates, traced."""
    space = two_cells(darts(4, 3, 4, image=(16, 16, 3)))
    net = supernet(space, layout=for_accelerators())
    shapes = jax.eval_shape(net.init, jax.random.key(0))
    gates = {cell: Gates(jnp.ones((14, 8)), jnp.ones(14)) for cell in space.cells}
    loss = lambda weights, gates, images: net.apply(weights, images, gates, jax.random.key(0), jnp.int32(0)).sum()
    images = jax.ShapeDtypeStruct((16, *space.image), jnp.float32)
    return jax.jit(jax.grad(loss, (0, 1))).trace(shapes, gates, images)


@pytest.mark.smoke
@pytest.mark.parametrize("platform", ("cuda", "tpu"))
def test_no_image_is_transposed(platform):
    """The smallest images are [16, 8, 8, 8]; kernels of all edges together are smaller.

    Gradients of 1x1 kernels are written as a product with pixels transposed, [C, pixels]; the compiler makes it one.
    """
    text = _whole_cells().lower(lowering_platforms=(platform,)).as_text()
    assert "stablehlo.convolution" in text and "stablehlo.dot_general" in text
    found = _large_transposes(text, 16 * 8 * 8 * 8)
    assert [size for size in found if len(size) > 2] == [] and len(found) <= 12
