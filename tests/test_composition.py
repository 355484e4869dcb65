"""The code of docs/composition.md runs: with smaller spaces and shorter searches, and nothing else changed."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from draws import random_batches, random_state
from rich.console import Console

import jaxnas as jn
from jaxnas.data import Batch, Split
from jaxnas.evaluation.latency import latencies
from jaxnas.spaces.darts import darts
from jaxnas.spaces.nas_bench_201 import nas_bench_201
from jaxnas.strategies.penalty import expected_cost

TEXT = (Path(__file__).parent.parent / "docs/composition.md").read_text(encoding="utf-8")


def small(channels, cells):
    """Three operations, cells of one node; as many cells as asked for divided by four, but three at least."""
    space = darts(4, max(3, cells // 4), image=(8, 8, 3))
    return space.replace(ops=space.ops[2:5], edges=space.edges[:2], outputs=(2,))


@pytest.fixture(scope="module")
def names():
    found = {"small": small}
    for block in re.findall(r"```python\n(.*?)```", TEXT, re.S):
        assert len(block.strip().splitlines()) <= 21
        changed = block.replace("jn.spaces.darts(", "small(").replace("keep=(8, 5, 3)", "keep=(3, 2, 1)")
        changed = changed.replace("epochs=50", "epochs=2").replace("epochs=25", "epochs=1")
        exec(compile(changed, "docs/composition.md", "exec"), found)
    return found


def data():
    draw = np.random.default_rng(0)
    half = lambda n: Batch(draw.integers(0, 255, (n, 8, 8, 3)).astype(np.uint8), np.arange(n, dtype=np.int32) % 10)
    return Split(half(8), half(8), half(4), "digest")


def settings(out):
    augment = lambda key, pixels: pixels.astype(jnp.float32) / 100
    return {"out": out, "batch": 4, "augment": augment, "console": Console(quiet=True)}


@pytest.fixture
def quick(tmp_path, monkeypatch):
    """`jn.run` with few images, quietly."""
    run = jn.run
    monkeypatch.setattr(jn, "run", lambda *args, **options: run(*args, **(options | settings(tmp_path / "run"))))


def test_partial_channels_of_drawn_operations_in_stages(names, tmp_path):
    found = jn.run(names["stages"], names["spaces"][0], data(), jax.random.key(0), **settings(tmp_path / "run"))
    assert [record["stage"] for record in found.records] == [0, 1, 2]
    alive = np.load(tmp_path / "run/scores.npz")["normal"] > 0
    assert alive.sum(-1).tolist() == [[3, 3], [2, 2], [1, 1]]


def test_measured_latency_moves_alpha(names):
    space, row = names["space"], names["fast"]
    batches = random_batches(space)

    def slope(strategy):
        search = jn.bind(strategy, space)
        state = random_state(strategy, search)
        outer, held = search.problem(state).outer, state.bilevel
        return jax.jit(jax.grad(lambda alpha: outer(held.weights, alpha, batches.train)[0]))(held.alpha)

    both = slope(row), slope(row.replace(penalty=jn.penalty.no_penalty()))
    differ = jax.tree.map(lambda a, b: np.abs(a - b).max(), *(found.ops for found in both))
    assert all(difference > 0 for difference in differ.values())


def test_a_stop_that_looks_at_curvature(names, tmp_path, quick):
    found = names["gdas_es"](small(4, 3), data(), jax.random.key(0), 2, tmp_path / "run")
    assert [np.isfinite(record["measured"]["curvature"]) for record in found.records] == [True, True]


def test_a_variant_of_ones_own(names, tmp_path, quick):
    found = names["search"](small(4, 3), data(), jax.random.key(0), 2, tmp_path / "run")
    assert len(found.records) == 2
    verdict = names["too_many_skips"]([{"skips": 3, "epoch": 7}])
    assert verdict.epoch == 7 and names["too_many_skips"]([{"skips": 2, "epoch": 7}]) is None


# ------------------------------------------------------------------------------------------------ the parts


def test_latencies_are_seconds_of_living_operations():
    space = nas_bench_201(4, 1, image=(8, 8, 3))
    masked = space.with_alive({"cell": np.arange(5) < np.array([[5], [4], [4], [4], [4], [4]])})
    found = latencies(masked, batch=2, repeats=3)["cell"]
    assert found.shape == (3, 6, 5)
    assert (found[..., 0] == 0).all() and (found[..., 1:4] > 0).all()  # none, and the others
    assert (found[:, 0, 4] > 0).all() and (found[:, 1:, 4] == 0).all()
    with pytest.raises(ValueError, match="at least 1"):
        latencies(space, batch=0)


def test_expected_cost_is_the_sum_over_all_cells(draw):
    space = nas_bench_201(4, 1, image=(8, 8, 3))
    gates, costs = np.abs(draw((6, 5))), np.abs(draw((3, 6, 5)))
    penalty = expected_cost({"cell": costs}, lambda step: 2.0 * step)
    opened = {"cell": jn.Gates(jnp.asarray(gates, jnp.float32), jnp.ones(6))}
    found = penalty(opened, {}, space, jnp.float32(3.0))
    np.testing.assert_allclose(found, 6 * (gates * costs).sum(), rtol=1e-5)
    with pytest.raises(ValueError, match="'darts' needs"):
        penalty(opened, {}, small(4, 3), jnp.float32(0.0))
