"""What a search step may cost, in numbers that are the same on every run: lines, bytes, traces.

A number that grows beyond its budget is a decision: make it in a commit that says why. Lines are counted of every
program; bytes, for which a program is compiled, of the two of DARTS, and of the others in the slow set.
"""

from functools import partial

import jax
import jax.numpy as jnp
import pytest

from jaxnas.compiler import options
from jaxnas.data import Batch
from jaxnas.hypergradient import Batches, first_order
from jaxnas.search import bind
from jaxnas.spaces.darts import darts
from jaxnas.spaces.nas_bench_201 import nas_bench_201
from jaxnas.strategies.algorithms import darts as darts_row
from jaxnas.strategies.algorithms import gdas, pc_darts
from jaxnas.strategies.mixing import sampled

MEGABYTE = 10**6
first = partial(darts_row, hypergradient=first_order())
STEPS = {
    "DARTS, first order": (lambda: darts(16, 8), first, 18_700, 156),
    "DARTS, exact second order": (lambda: darts(16, 8), darts_row, 33_000, 196),
    "PC-DARTS": (lambda: darts(16, 8), pc_darts, 19_600, 143),
    "GDAS": (lambda: darts(16, 8), gdas, 21_700, 153),
    "NAS-Bench-201, first order": (lambda: nas_bench_201(16, 5), first, 4_270, 59),
}  # (space, row, lines of StableHLO, megabytes of temporaries): some percent above what was measured


def lower(space, row, **slots):
    """One search step on two batches of 16 images, lowered; nothing is compiled."""
    search = bind(row(10).replace(**slots), space)
    state = jax.eval_shape(search.init, jax.random.key(0))
    batch = Batch(jax.ShapeDtypeStruct((16, *space.image), jnp.float32), jax.ShapeDtypeStruct((16,), jnp.int32))
    return jax.jit(search.step, donate_argnums=0).lower(state, Batches(batch, batch))


def lines(lowered) -> int:
    return lowered.as_text().count("\n")


def temporaries(lowered) -> int:
    """Bytes; as users get them to 1e-5, though compiled to slower code: what is kept is decided before that is made."""
    return lowered.compile(options()).memory_analysis().temp_size_in_bytes


def check(name, whole):
    space, row, most_lines, most_megabytes = STEPS[name]
    lowered = lower(space(), row)
    assert 0.9 * most_lines < lines(lowered) <= most_lines
    if whole:
        assert 0.9 * most_megabytes * MEGABYTE < temporaries(lowered) <= most_megabytes * MEGABYTE


@pytest.mark.parametrize("name", STEPS)
def test_step_is_within_its_budget(name):
    check(name, whole=name.startswith("DARTS"))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in STEPS if not name.startswith("DARTS")])
def test_step_takes_no_more_memory_than_its_budget(name):
    check(name, whole=True)


@pytest.mark.parametrize(
    "space, shallow, deep", [(darts, 8, 20), (nas_bench_201, 2, 5)], ids=["DARTS", "NAS-Bench-201"]
)
def test_program_does_not_grow_with_depth(space, shallow, deep):
    small, large = (lines(lower(space(16, depth), first)) for depth in (shallow, deep))
    assert 0.9 * small < large <= 1.15 * small


@pytest.mark.slow
def test_step_of_one_sampled_operation_takes_little_more_memory():
    """Edges keep nothing for the backward pass, so there is nothing to save; time is what a sample saves."""
    whole, sample = (lower(nas_bench_201(16, 2), first, **slots) for slots in ({}, {"mixing": sampled()}))
    assert temporaries(sample) < 1.25 * temporaries(whole)  # 38.9 and 31.6 MB
