"""Numbers that only scale are arguments of programs: another split, seed or rate compiles nothing anew."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from draws import small_model, two_cells
from rich.console import Console

from jaxnas.augmentation import Statistics, chain, flip, normalize, pad_crop, statistics
from jaxnas.data import Batch, Split
from jaxnas.evaluation.diagnostics import Watch, spectrum
from jaxnas.evaluation.recipes import small
from jaxnas.hoisting import called, hoisted, tree_of
from jaxnas.hypergradient import Batches, first_order
from jaxnas.names import STRATEGIES
from jaxnas.precision import BFLOAT16
from jaxnas.retraining import fit
from jaxnas.runner import run
from jaxnas.search import bind
from jaxnas.spaces.darts import SEARCHED, darts
from jaxnas.spaces.genotype import read
from jaxnas.spaces.nas_bench_201 import nas_bench_201_network
from jaxnas.stages import Stage
from jaxnas.strategies.algorithms import darts as row
from jaxnas.strategies.algorithms import p_darts
from jaxnas.strategies.settings import numbers, scaling, with_numbers

SPACE = two_cells(darts(channels=2, layers=3, classes=4, image=(8, 8, 1))).replace(ops=(SEARCHED[0], SEARCHED[3]))
SKIPS = read("|skip_connect~0|+|skip_connect~0|skip_connect~1|+|skip_connect~0|none~1|nor_conv_1x1~2|")
BRIGHT, DARK = (Statistics(np.array([mean]), np.array([dev])) for mean, dev in ((120.0, 30.0), (40.0, 7.0)))


@pytest.fixture
def texts(monkeypatch):
    """The texts of all programs that are compiled, in order."""
    found, really = [], jax.stages.Lowered.compile
    monkeypatch.setattr(
        jax.stages.Lowered, "compile", lambda low, *args: found.append(low.as_text()) or really(low, *args)
    )
    return found


def split(seed, side=8):
    draw = np.random.default_rng(seed)
    part = lambda count: Batch(
        draw.integers(0, 100 + 50 * seed, (count, side, side, 1)).astype(np.uint8), np.arange(count, dtype=np.int32) % 3
    )
    return Split(part(8), part(8), part(4), f"split {seed}")


def augmentation(parts):
    return chain(pad_crop(1), flip(), normalize(statistics(parts.train)))


def test_another_seed_split_and_rate_are_the_same_programs(texts, tmp_path):
    """Epoch, first weights, measure: a second run, and one resumed, find all of their programs."""

    def search(seed, **options):
        parts = split(seed)
        rates = {"alpha_rate": 0.1 * (seed + 1), "decay": 0.01 * seed}
        stages = [Stage(row(8, hypergradient=first_order(), **rates), 1)]
        return run(
            stages, SPACE, parts, jax.random.key(seed), out=tmp_path / str(seed), batch=4, augment=augmentation(parts),
            watch=Watch(spectrum), console=Console(quiet=True), **options,
        )  # fmt: skip

    first, known = search(0), set(texts)
    assert len(known) >= 3  # the epoch, the measure, what draws the weights where nobody drew such before
    second = search(1)
    assert set(texts) == known
    assert first.records[0]["train_loss"] != second.records[0]["train_loss"]
    search(1, resume=True)
    assert set(texts) == known


def test_another_split_and_rate_are_the_same_retraining(texts, tmp_path):
    space = nas_bench_201_network(2, 1, 3, image=(4, 4, 1))
    for seed in (0, 1):
        parts = split(seed, side=4)
        recipe = replace(small(epochs=1, batch=4), rate=0.1 + seed, weight_decay=0.1 * seed, momentum=0.5 + 0.1 * seed)
        where = {"out": tmp_path / str(seed), "console": Console(quiet=True)}
        fit(SKIPS, space, recipe, parts, jax.random.key(seed), **where)
    assert len(texts) == 8  # first weights, epoch, and the tests of two parts, twice
    assert len(set(texts)) == 4


def batches(search):
    image, label = jnp.full((2, *search.space.image), 90, jnp.uint8), jnp.array([0, 1], jnp.int32)
    return Batches(*(Batch(image, label),) * 2)


def test_a_step_computes_by_its_own_numbers():
    """As an argument, a function with other numbers is the same program and gives what it gives alone."""
    searches = [bind(row(8), SPACE, model=small_model, augment=normalize(stats)) for stats in (BRIGHT, DARK)]
    state, data = searches[0].init(jax.random.key(0)), batches(searches[0])
    alone = [jax.jit(search.step)(state, data)[1]["train"]["loss"] for search in searches]
    trees = [tree_of(search.step) for search in searches]
    lowered = [jax.jit(called).lower(tree, state, data) for tree in trees]
    assert lowered[0].as_text() == lowered[1].as_text()
    assert "4.000000e+01" not in lowered[1].as_text()
    program = lowered[0].compile()
    assert alone[0] != alone[1]
    for number, tree in enumerate(trees):
        given = jax.tree.unflatten(jax.tree.structure(trees[0]), jax.tree.leaves(tree))
        np.testing.assert_allclose(program(given, state, data)[1]["train"]["loss"], alone[number], rtol=1e-6)


@pytest.mark.parametrize("name", STRATEGIES)
def test_the_numbers_of_each_row_are_arguments_of_its_step(name):
    """With all of them changed it is the same program, which computes otherwise."""
    wide, strategy = SPACE.replace(skeleton=two_cells(darts(channels=12)).skeleton), STRATEGIES[name](8)
    search = bind(strategy, wide, model=small_model)
    others = {name: one.value * 1.5 for name, one in numbers(strategy).items() if isinstance(one.value, float)}
    other = bind(with_numbers(strategy, others), wide, model=small_model)
    assert set(others) == set(scaling(strategy))
    state, data = search.init(jax.random.key(0)), batches(search)
    lowered = [jax.jit(called).lower(tree_of(one.step), state, data) for one in (search, other)]
    assert lowered[0].as_text() == lowered[1].as_text()
    assert jax.tree.leaves(tree_of(search.step)) != jax.tree.leaves(tree_of(other.step))


def test_a_number_that_decides_stays_in_the_program():
    strategy = p_darts(8, skip_dropout=0.3)
    assert numbers(strategy)["mixing.rate"].value == 0.3
    assert "mixing.rate" not in scaling(strategy)
    assert "alpha.rate" in scaling(strategy)


def test_what_a_caller_puts_in_its_place_is_what_runs():
    search = bind(row(8), SPACE, model=small_model, augment=normalize(DARK))
    mine = search._replace(step=lambda state, data: (state, {"train": {}}))
    assert jax.tree.leaves(tree_of(mine.step)) == []
    assert jax.jit(called)(tree_of(mine.step), 3, ())[0] == 3


def test_functions_without_numbers_have_no_leaves_and_others_keep_them():
    plain = lambda key, images: images
    assert jax.tree.leaves(tree_of(plain)) == []
    assert tree_of(tree_of(plain)).func is plain
    for transform in (normalize(DARK), chain(plain, normalize(DARK)), BFLOAT16.cast(chain(normalize(DARK), plain))):
        assert [float(leaf.item()) for leaf in jax.tree.leaves(transform)] == [40.0, 7.0]
    make = lambda scale: BFLOAT16._replace(products=lambda x: scale * x)
    record = hoisted(make(3), make, 3, ("products",))
    assert record.products(2) == tree_of(record.products)(2) == 6
    assert jax.tree.leaves(tree_of(record.products)) == [3]
