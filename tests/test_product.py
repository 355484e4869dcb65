"""Every slot goes into every other: the product of relaxations, mixings, hypergradients and spaces.

The network is a toy of two dozen numbers behind the same interface as the supernet. A third of the pairs of a
relaxation and a mixing, which has every value of every slot, is compiled and run; the others are traced. The slow set
compiles every pair and traces every combination. Rows of the table are traced on the supernet.
"""

from collections import Counter
from functools import partial
from itertools import product

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnas.bilevel import after, alternating
from jaxnas.data import Batch
from jaxnas.evaluation.shared_weights import one_hot_gates
from jaxnas.hypergradient import (
    Batches,
    conjugate_gradient,
    finite_difference,
    first_order,
    neumann,
    through,
    unrolled,
)
from jaxnas.names import STRATEGIES
from jaxnas.search import bind
from jaxnas.spaces.darts import darts
from jaxnas.spaces.nas_bench_201 import nas_bench_201
from jaxnas.spaces.networks import Model
from jaxnas.strategies.decoding import argmax_edges, top_edges
from jaxnas.strategies.draws import concrete, dirichlet, gumbel_hard, uniform
from jaxnas.strategies.mixing import (
    broadcast,
    dropped_path,
    dropped_skip,
    opened,
    partial_channels,
    random_part,
    sampled,
    weighted_sum,
)
from jaxnas.strategies.proximal import binary
from jaxnas.strategies.relaxation import edge_normalized, edge_simplex, sigmoid, simplex, softmax
from jaxnas.strategies.strategy import Strategy

QUICK = {"xla_backend_optimization_level": 0}  # compiled fast, not to fast code
WARM, RARE = optax.constant_schedule(0.7), optax.constant_schedule(0.3)
RELAXATIONS = {
    "softmax": softmax(0.5),
    "sigmoid": sigmoid(),
    "simplex": simplex(),
    "concrete": concrete(WARM),
    "gumbel_hard": gumbel_hard(WARM),
    "dirichlet": dirichlet(),
    "uniform": uniform(),
    "binary": binary(),
    "edge_normalized softmax": edge_normalized(softmax()),
    "edge_normalized gumbel_hard": edge_normalized(gumbel_hard(WARM)),
    "edge_simplex": edge_simplex(simplex()),
}
MIXINGS = {
    "weighted_sum": weighted_sum(),
    "sampled": sampled(),
    "broadcast": broadcast(),
    "opened": opened(),
    "partial": partial_channels(2),
    "partial sampled": partial_channels(2, sampled(), random_part),
    "dropped_path partial": dropped_path(RARE, partial_channels(2)),
    "dropped_skip": dropped_skip(RARE),
}
SGD = optax.sgd(0.1, 0.9)
HYPERGRADIENTS = {
    "first_order": first_order(),
    "unrolled": unrolled(through(SGD)),
    "finite_difference": finite_difference(through(SGD)),
    "neumann": neumann(2, 0.1),
    "conjugate_gradient": conjugate_gradient(2, 0.1),
}
few = lambda space: space.replace(ops=space.ops[:3])  # three operations, `none` among them
SPACES = {
    "darts": (few(darts(channels=4, layers=3, classes=3, image=(4, 4, 4))), top_edges(2)),
    "nas_bench_201": (few(nas_bench_201(channels=4, cells_per_stage=1, classes=3, image=(4, 4, 4))), argmax_edges()),
}
PAIRS = [  # the dearest hypergradient, the last one, with the first relaxation only
    (relaxation, mixing, list(HYPERGRADIENTS)[(i + j) % (4 if i else 5)], list(SPACES)[j % 2])
    for (i, relaxation), (j, mixing) in product(enumerate(RELAXATIONS), enumerate(MIXINGS))
]


def toy(space, mixing):
    """A cell of each type in a row; operation o on edge e is x -> sin(w_eo x), nothing has strides."""
    source, target = np.array(space.edges).T
    channels = space.image[-1]

    def init(key):
        key_edges, key_head = jax.random.split(key)
        width = mixing.width(channels)
        edges = jax.random.normal(key_edges, (len(space.cells), len(space.edges), len(space.ops), width))
        return {"edges": edges, "head": jax.random.normal(key_head, (channels, space.classes))}

    def cell(x, weights, gates, key, step):
        def edge(states, row):
            e, s, t, w, g, open_edge = row
            ops = {name: (lambda x, gate, w=w[o]: gate * jnp.sin(x * w[None, None, None])) for o, name in named}
            y = mixing.mix(ops, g, states[s], jax.random.fold_in(key, e), step)
            return states.at[t].add(open_edge * y), None

        named = list(enumerate(space.op_names))
        states = jnp.zeros((1 + max(target), *x.shape), x.dtype).at[: space.inputs].set(x[None])
        rows = (np.arange(len(source)), source, target, weights, gates.ops, gates.edges)
        return jax.lax.scan(edge, states, rows)[0][np.array(space.outputs)].mean(0)

    def apply(weights, images, gates, key, step):
        x = images
        for i, name in enumerate(space.cells):
            x = cell(x, weights["edges"][i], gates[name], jax.random.fold_in(key, i), step)
        return x.mean((1, 2)) @ weights["head"]

    return Model(init, apply, lambda *arguments: [])


def searching(relaxation: str, mixing: str, hypergradient: str, space: str):
    """The combination, in which alpha rests for one step."""
    found, decode = SPACES[space]
    solver = alternating(SGD, optax.sgd(0.1), hypergradient=HYPERGRADIENTS[hypergradient], when=after(1))
    row = Strategy(solver=solver, relaxation=RELAXATIONS[relaxation], mixing=MIXINGS[mixing], decode=decode)
    return bind(row, found, model=toy), found


def batches_of(space, count: int = 6) -> Batches:
    draw = lambda seed: jax.random.normal(jax.random.key(seed), (count, *space.image))
    return Batches(*(Batch(draw(seed), jnp.arange(count, dtype=jnp.int32) % space.classes) for seed in (1, 2)))


def same_form(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    assert [(x.shape, x.dtype) for x in jax.tree.leaves(a)] == [(x.shape, x.dtype) for x in jax.tree.leaves(b)]


@pytest.mark.slow
@pytest.mark.parametrize("relaxation", RELAXATIONS)
def test_all_combinations_keep_the_form_of_the_state_alone_and_over_seeds(relaxation, key):
    for names in product(MIXINGS, HYPERGRADIENTS, SPACES):
        search, space = searching(relaxation, *names)
        states = jax.eval_shape(jax.vmap(search.init), jax.random.split(key, 2))
        after_step, metrics = jax.eval_shape(jax.vmap(search.step, (0, None)), states, batches_of(space))
        same_form(states, after_step)
        assert metrics["valid"]["loss"].shape == (2,), names


slots = partial(pytest.mark.parametrize, ("relaxation", "mixing", "hypergradient", "space"))
RUN = [pair for pair in PAIRS if (list(RELAXATIONS).index(pair[0]) + list(MIXINGS).index(pair[1])) % 3 == 1]
TRACED = [pair for pair in PAIRS if pair not in RUN]


def test_what_is_run_has_every_value_of_every_slot():
    for place, values in enumerate((RELAXATIONS, MIXINGS, HYPERGRADIENTS, SPACES)):
        counts = Counter(pair[place] for pair in RUN)
        assert set(counts) == set(values)


@slots(TRACED, ids=map("-".join, TRACED))
def test_every_other_pair_is_traced(relaxation, mixing, hypergradient, space, key):
    search, found = searching(relaxation, mixing, hypergradient, space)
    state = jax.eval_shape(search.init, key)
    same_form(state, jax.eval_shape(search.step, state, batches_of(found))[0])


def marks(pair):
    return [pytest.mark.smoke] * (pair == RUN[0]) + [pytest.mark.slow] * (pair not in RUN)


@slots([pytest.param(*pair, id="-".join(pair), marks=marks(pair)) for pair in PAIRS])
def test_pairs_search(relaxation, mixing, hypergradient, space, key):
    """Compiled once; alpha moves when it should and not before; all is finite; the genotype is of the space."""
    search, found = searching(relaxation, mixing, hypergradient, space)
    batches = batches_of(found)
    init = jax.jit(search.init).lower(key).compile(QUICK)
    state = init(key)
    step = jax.jit(search.step).lower(state, batches).compile(QUICK)  # takes nothing but the same form again
    alphas = [state.bilevel.alpha]
    for _ in range(2):
        state, metrics = step(state, batches)
        alphas.append(state.bilevel.alpha)
    chex.assert_tree_all_finite((state.bilevel, metrics))
    chex.assert_trees_all_equal(alphas[0], alphas[1])
    moved = any(bool((a != b).any()) for a, b in zip(*map(jax.tree.leaves, alphas[1:]), strict=True))
    assert moved == (relaxation != "uniform")  # whose gates do not depend on alpha
    one_hot_gates(search.genotype(state), found)  # refuses what is not of the space


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_row_is_traced_on_the_supernet_of_every_kind_of_space(name, key, tiny_space):
    small = nas_bench_201(channels=12, cells_per_stage=1, image=(8, 8, 3))  # 12 can be divided by 2, 4 and 6
    for space in (tiny_space, small):
        space = space if name not in WIDE or space is small else WIDE_SPACE(tiny_space)
        search = bind(STRATEGIES[name](20, every=5, alpha_rate=1e-3), space)
        state = jax.eval_shape(search.init, key)
        after_step, metrics = jax.eval_shape(search.step, state, batches_of(space))
        same_form(state, after_step)
        assert metrics["train"]["loss"].shape == ()


WIDE = ("pc-darts", "pc-darts-imagenet", "dr-nas")  # rows whose partial channels need wider cells


def WIDE_SPACE(tiny):
    wide = darts(channels=12, layers=3, classes=tiny.classes, image=tiny.image)
    return wide.replace(ops=tiny.ops)
